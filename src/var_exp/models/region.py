"""A segmentation network asked about one region: what speaks for a class *there*?

y_c(x) = the mean over the region of the network's logit of class c at each pixel

as Seg-Grad-CAM asks it (Vinogradova, Dibrov and Myers 2020, arXiv 2002.11434), which takes the sum.
The softmax of these means is the geometric mean of the pixels' softmaxes, normalised again. So one
region makes a classifier of a network that classifies pixels, and every method explains it: why is
this region a cat, and not a dog?
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from var_exp.models.declared import class_names, declare, told_by
from var_exp.models.description import run_or_refuse
from var_exp.models.frozen import frozen, weights_type
from var_exp.models.outputs import at_least_two, logits_of_pixels
from var_exp.types import ConfigError


class RegionScores(nn.Module):
    """From images [B, C, H, W] to the mean logits [B, N] of one region, the same in every image.

    It shares the network's weights, and says of its input, head and classes what the network says.

    Args:
        network: From images to logits [B, N, h, w] at any resolution, or to what holds them.
        region: [H, W] of the network's input; some pixel of it is True.

    Raises:
        ConfigError: an empty region.
    """

    region: Tensor

    def __init__(self, network: nn.Module, region: Bool[Tensor, "H W"]) -> None:
        super().__init__()
        if not region.any():
            raise ConfigError("the region holds no pixel of what the network sees; choose another.")
        self.network = network
        self.register_buffer("region", region.float())
        self.pretrained_cfg = dict(told_by(network))
        declare(self, class_names=class_names(network))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N"]:
        """Mean logits; a cell of the network's output counts by its share of the region."""
        pixels = self.pixels(images)
        size = pixels.shape[2], pixels.shape[3]
        weights = adaptive_avg_pool2d(self.region[None, None], size)
        return (pixels * (weights / weights.sum()).to(pixels.dtype)).sum((2, 3))

    def pixels(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N h w"]:
        """Logits of every cell of the network's output."""
        return logits_of_pixels(self.network(images))


def pixel_logits(network: nn.Module, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N h w"]:
    """Logits of every cell of a segmentation network's output; one logit makes two classes.

    Raises:
        UnsupportedModel: the network cannot take the images, or gives no logits for pixels.
    """
    everywhere = torch.ones(images.shape[2:], dtype=torch.bool, device=images.device)
    scores = RegionScores(network, everywhere)
    with frozen(scores), torch.no_grad():
        run_or_refuse(scores, images)
        found = scores.pixels(images.to(weights_type(network) or images.dtype))
    return at_least_two(found)
