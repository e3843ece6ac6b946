"""HiResCAM: features times their own gradients, summed over the channels.

    CAM_c(i, j) = Σ_d A_d(i, j) · d y_c / d A_d(i, j)

Draelos & Carin 2020, arXiv 2011.08891. Without GradCAM's mean over positions the map shows only
places that the model used: where y_c is an affine function of the features (one linear layer after
them, or average pooling and one linear layer), the map in the layer's resolution sums to y_c minus
its bias.

Departures from the paper: none; it leaves the map signed. Cost: as `gradcam`.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from var_exp.methods.cam import CAM, feature_gradients
from var_exp.types import Classes, Images


@dataclass(frozen=True)
class HiResCAM(CAM):
    """Signed HiResCAM at the model's last spatial feature map.

    Options and errors are those of `CAM`.
    """

    def coarse(
        self, model: nn.Module, images: Images, classes: Classes
    ) -> Float[Tensor, "B K h w"]:
        """Class activation maps in the resolution of the target layer."""
        _, features, gradients = feature_gradients(model, images, classes, self.layer)
        return gradients.mul_(features[:, None]).sum(2)
