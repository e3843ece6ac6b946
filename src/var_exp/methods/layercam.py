"""LayerCAM: features times the positive part of their own gradients, summed over the channels.

    CAM_c(i, j) = Σ_d A_d(i, j) · relu(d y_c / d A_d(i, j))

Jiang et al. 2021, IEEE Transactions on Image Processing 30, doi 10.1109/TIP.2021.3089943.

Departures from the paper: the map has no final ReLU, as in `gradcam`, and comes from one layer; the
paper adds maps of several layers, the early ones squashed by a tanh. After a ReLU the map is never
negative. Cost: as `gradcam`.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from var_exp.methods.cam import CAM, feature_gradients
from var_exp.types import Classes, Images


@dataclass(frozen=True)
class LayerCAM(CAM):
    """LayerCAM of one layer without the final ReLU, at the model's last spatial feature map.

    Options and errors are those of `CAM`.
    """

    def coarse(
        self, model: nn.Module, images: Images, classes: Classes
    ) -> Float[Tensor, "B K h w"]:
        """Class activation maps in the resolution of the target layer."""
        _, features, gradients = feature_gradients(model, images, classes, self.layer)
        return gradients.relu_().mul_(features[:, None]).sum(2)
