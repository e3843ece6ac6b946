"""Samples become the model-ready batches that are attributed, and images fit for people again.

Without Lightning, which takes longer to import than one picture to explain.
"""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from var_exp.types import Batch, Images, InputSpec, Sample


def collate(samples: Sequence[Sample], spec: InputSpec) -> tuple[Batch, ...]:
    """Stack samples of equal shapes into batches; normalise the images as the model expects.

    Photographs hold one, two, five objects, and may keep their own size. Nothing is padded: samples
    that differ in the picture's size, in the number of classes asked about or of competitors, or in
    whether they know regions, go into batches of their own.

    Returns:
        Batches in the order in which their shapes first occur.
    """
    alike: dict[tuple[object, ...], list[Sample]] = {}
    for sample in samples:
        alike.setdefault(_shapes(sample), []).append(sample)
    return tuple(_stack(group, spec) for group in alike.values())


def _shapes(sample: Sample) -> tuple[object, ...]:
    """What samples of one batch have in common."""
    known = (sample.classes, sample.regions, sample.scope, sample.competitors, sample.without)
    return tuple(None if tensor is None else tensor.shape for tensor in (sample.image, *known))


def _stack(samples: Sequence[Sample], spec: InputSpec) -> Batch:
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (spec.mean, spec.std))

    def stacked(tensors: Sequence[Tensor | None]) -> Tensor | None:
        known = [tensor for tensor in tensors if tensor is not None]
        return torch.stack(known) if known else None

    without = stacked([sample.without for sample in samples])
    return Batch(
        images=(torch.stack([sample.image for sample in samples]) - mean) / std,
        classes=torch.stack([sample.classes for sample in samples]),
        regions=stacked([sample.regions for sample in samples]),
        ids=tuple(sample.id for sample in samples),
        scope=stacked([sample.scope for sample in samples]),
        competitors=stacked([sample.competitors for sample in samples]),
        without=None if without is None else (without - mean) / std,
    )


def to_display(images: Images, spec: InputSpec) -> UInt8[Tensor, "B C H W"]:
    """Undo the normalisation of a batch of images, for people to look at."""
    mean, std = (images.new_tensor(numbers).view(3, 1, 1) for numbers in (spec.mean, spec.std))
    return ((images * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
