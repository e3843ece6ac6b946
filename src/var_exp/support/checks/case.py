"""What a check is given, and what most checks use."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class Unchecked(Exception):  # noqa: N818  # it is no error of the method's
    """The check does not know a network of this kind; one sentence says what it lacks."""


@dataclass(frozen=True)
class Case:
    """One method that has run on one image, K classes at once.

    Attributes:
        method: The method, with the options of its check.
        model: float64, in eval mode, frozen.
        image: [1, C, H, W] float64.
        classes: [1, K] int64.
        id: Name of the sample.
        maps: [K, c, H, W] float64, what the method returned.
    """

    method: Any
    model: nn.Module
    image: Tensor
    classes: Tensor
    id: str
    maps: Tensor

    def scores(self, images: Tensor) -> Tensor:
        """What the method explains, [n, K], for images [n, C, H, W]."""
        return self.explained(self.model(images))

    def pair(self) -> Tensor:
        """The image twice, [2, C, H, W], for the autograd of torch itself.

        Of one image alone its batch norm may return wrong gradients on the CPU (torch 2.15), where
        they come back through a transposition to tokens, as in LeViT.
        """
        return self.image.repeat(2, 1, 1, 1)

    def explained(self, scores: Tensor) -> Tensor:
        """What the method explains, [n, K], of logits [n, N]: the logits unless it says."""
        score = getattr(self.method, "score", "logit")
        if score != "logit":
            scores = scores.softmax(1)
        if score == "log_probability":
            scores = scores.log()
        return scores[:, self.classes[0]]


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference as a share of the largest value expected."""
    return float((found - expected).abs().max() / expected.abs().max())


def per_class(scores: Tensor, point: Tensor) -> Tensor:
    """Gradients [K, ...] of K scores at a point [1, ...], one backward pass each."""
    return torch.cat([torch.autograd.grad(s, point, retain_graph=True)[0] for s in scores])
