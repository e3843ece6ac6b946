"""The forward-only primitive: masked copies of the images, whose logits serve all classes."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from var_exp.engine.chunks import ChunkLimit
from var_exp.engine.gradients import Score
from var_exp.engine.scores import check_logits, class_scores
from var_exp.models.frozen import frozen
from var_exp.types import Classes, Images, Logits

MakeMasks: TypeAlias = Callable[[Int[Tensor, " n"], Int[Tensor, " n"]], Float[Tensor, "n 1 H W"]]
"""From rows of the batch and indices of masks to the masks of these n pairs, on any device."""


class MaskedLogits(NamedTuple):
    """One chunk of (image, mask) pairs, image by image.

    Attributes:
        rows: [n], which image of the batch; never decreasing.
        masks: [n, 1, H, W], 1 keeps a pixel.
        logits: [n, N] of the masked images.
    """

    rows: Int[Tensor, " n"]
    masks: Float[Tensor, "n 1 H W"]
    logits: Logits


def masked_logits(
    model: nn.Module,
    images: Images,
    make_masks: MakeMasks,
    n_masks: int,
    *,
    limit: ChunkLimit,
    baseline: float = 0.0,
) -> Iterator[MaskedLogits]:
    """Run the model on image * mask + baseline * (1 - mask), for `n_masks` masks of every image.

    Args:
        model: Any module from images to logits; it runs in eval mode.
        images: [B, C, H, W].
        make_masks: Makes the masks of one chunk, so that no more than one chunk is ever held.
        n_masks: Masks per image.
        limit: Most images in one forward pass; chunks are filled across images.
        baseline: Value of a masked-out pixel, in the units of `images`.
    """

    def work(rows: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        masks = make_masks(rows, indices).to(images)
        with torch.no_grad(), frozen(model):
            masked = images[rows] * masks
            if baseline:
                masked += baseline * (1 - masks)
            return masks, check_logits(model(masked))

    for rows, _, (masks, logits) in limit.pairs(len(images), n_masks, work):
        yield MaskedLogits(rows, masks, logits)


def masked_scores(
    model: nn.Module,
    images: Images,
    classes: Classes,
    make_masks: MakeMasks,
    n_masks: int,
    *,
    limit: ChunkLimit,
    score: Score = class_scores,
) -> Float[Tensor, "B n K"]:
    """Scores of K classes for `n_masks` masked copies of every image; a masked-out pixel is zero.

    Args:
        model: Any module from images to logits; it runs in eval mode.
        images: [B, C, H, W].
        classes: [B, K] int64.
        make_masks: Makes the masks of one chunk.
        n_masks: Masks per image.
        limit: Most images in one forward pass.
        score: What is read from the logits, which it gets in float64; those of the classes by
            default.

    Returns:
        [B, n_masks, K] float64, so that differences of close scores lose nothing more.

    Raises:
        ValueError: a class that the model does not have.
        UnsupportedModel: the model returns no logits.
    """
    chunks = masked_logits(model, images, make_masks, n_masks, limit=limit)
    scores = [score(chunk.logits.double(), classes[chunk.rows]) for chunk in chunks]
    return torch.cat(scores).view(len(images), n_masks, -1)
