"""A convolutional stem that stands in for the patch embedding of a vision transformer."""

import itertools
from typing import Any

from timm.layers import PatchEmbed
from torch import nn


class ConvPatches(PatchEmbed):  # type: ignore[misc]  # timm is untyped
    """Tokens from a few 3x3 convolutions instead of one large one per patch.

    Each stage halves the picture and then looks once more (convolution, batch norm, ReLU); a 1x1
    convolution gives the tokens. Small transformers learn much faster so.

    Args:
        channels: Channels of the stages; their number sets the patch size, 2 to that power.
        embed_dim: Width of a token.
        arguments: Further arguments of timm's `PatchEmbed`.
    Shape:
        images [B, 3, H, W] -> tokens [B, H/p * W/p, embed_dim], or NHWC where timm asks for it.
    Source: Xiao et al. 2021, arXiv 2106.14881.
    """

    def __init__(self, channels: tuple[int, ...], embed_dim: int = 768, **arguments: Any) -> None:
        super().__init__(embed_dim=embed_dim, **{**arguments, "patch_size": 2 ** len(channels)})
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((3, *channels)):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
                nn.Conv2d(after, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        self.proj = nn.Sequential(*layers, nn.Conv2d(channels[-1], embed_dim, 1))
