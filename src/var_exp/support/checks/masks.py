"""Forward-only methods: a loop over the masked images, one at a time."""

import torch
from torch.nn.functional import interpolate

from var_exp.seeds import sample_generator
from var_exp.support.checks.case import Case, relative_error


def occlusion(case: Case) -> float:
    """A loop over the windows, one masked image at a time."""
    window, stride = case.method.window, case.method.stride
    height, width = case.image.shape[2:]
    total, covering = torch.zeros_like(case.maps), torch.zeros(height, width)
    with torch.no_grad():
        before = case.scores(case.image)[0]
        for top in _starts(height, window, stride):
            for left in _starts(width, window, stride):
                inside = (..., slice(top, top + window), slice(left, left + window))
                masked = case.image.clone()
                masked[inside] = 0
                total[inside] += (before - case.scores(masked)[0]).view(-1, 1, 1, 1)
                covering[inside] += 1
    return relative_error(case.maps, total / covering)


def _starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one side; the last window reaches the border."""
    starts = [0]
    while starts[-1] + window < length:
        starts.append(starts[-1] + stride)
    return starts


def rise(case: Case) -> float:
    """A loop over the random masks, redrawn, one masked image at a time."""
    method, (height, width) = case.method, case.image.shape[2:]
    cell = (-(-height // method.grid), -(-width // method.grid))
    size = ((method.grid + 1) * cell[0], (method.grid + 1) * cell[1])
    stream = sample_generator(method.seed, case.id)
    kept = torch.rand(method.masks, 1, method.grid, method.grid, generator=stream) < method.keep
    shifts = torch.rand(method.masks, 2, generator=stream)
    total = torch.zeros_like(case.maps)
    for cells, shift in zip(kept, shifts, strict=True):
        top, left = int(shift[0] * cell[0]), int(shift[1] * cell[1])
        mask = interpolate(cells[None].float(), size, mode="bilinear", align_corners=False)
        mask = mask[..., top : top + height, left : left + width].double()
        with torch.no_grad():
            shares = case.model(case.image * mask).softmax(1)[0, case.classes[0]]
        total += shares.view(-1, 1, 1, 1) * mask
    return relative_error(case.maps, total / (method.keep * method.masks))
