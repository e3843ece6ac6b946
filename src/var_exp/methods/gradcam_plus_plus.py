"""GradCAM++: feature maps weighted by the positive gradients, each with a share of its own.

    w_cd = Σ_ij α_cd(i, j) · relu(g_cd(i, j)),     g_cd = d y_c / d A_d
    α_cd = g² / (2 g² + S_d g³) = 1 / (2 + S_d g),     S_d = Σ_ij A_d(i, j)

Chattopadhay et al. 2018, arXiv 1710.11063, equation 19: the closed form for the score exp(y_c) and
features on which y_c depends piecewise linearly.

Departures from the paper: the map has no final ReLU, as in `gradcam`; and the factor exp(y_c),
which scales all weights of a class alike, is left out as everywhere in the field: it overflows, and
would let the largest logit win every comparison between classes. α is zero where its denominator
is; unlike pytorch-grad-cam, nothing is added to the denominator (its 1e-6 exceeds g² as soon as
|g| < 1e-3, and then rules the map).

The weights are positive where the features are: after a ReLU the map is never negative, and its
classes differ little in sign. A channel whose sum is negative (no ReLU before) has a pole at
g = -2 / S_d, beyond which α is negative. Cost: as `gradcam`.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from var_exp.methods.cam import CAM, feature_gradients, weighted_sum
from var_exp.types import Classes, Images


@dataclass(frozen=True)
class GradCAMPlusPlus(CAM):
    """GradCAM++ without the final ReLU, at the model's last spatial feature map.

    Options and errors are those of `CAM`.
    """

    def coarse(
        self, model: nn.Module, images: Images, classes: Classes
    ) -> Float[Tensor, "B K h w"]:
        """Class activation maps in the resolution of the target layer."""
        _, features, gradients = feature_gradients(model, images, classes, self.layer)
        denominators = 2 + features.sum((2, 3))[:, None, :, None, None] * gradients
        shares = gradients.relu_() / denominators
        return weighted_sum(shares.masked_fill_(denominators == 0, 0).sum((3, 4)), features)
