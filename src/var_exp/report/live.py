"""What the page's script needs to let classes compete anew: base maps in half precision."""

import base64
from collections.abc import Sequence
from dataclasses import asdict
from math import ceil, sqrt
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from var_exp.report.overlays import class_colours, palette, scale_of
from var_exp.report.panels import Panel
from var_exp.variants import BASE

_BUDGET = 3_000_000  # characters of all stored maps together
_PER_NUMBER = 2 * 4 / 3  # characters of base64 per half


def live_samples(panels: Sequence[Panel]) -> list[int]:
    """Places of the panels to play with: the first of each kind that has a competition."""
    first: dict[str, int] = {}
    for place, panel in enumerate(panels):
        if panel.competes:
            first.setdefault(panel.kind, place)
    return list(first.values())


def live_data(panels: Sequence[Panel]) -> dict[str, Any]:
    """All that the script reads, ready for JSON.

    Maps too large for a page are averaged over blocks of `block` x `block` pixels, the same for all
    samples; what the script computes from them is the competition of the averaged maps.
    """
    numbers = sum(panel.maps[BASE].numel() for panel in panels)
    block = max(1, ceil(sqrt(numbers * _PER_NUMBER / _BUDGET)))
    colours, opacities = palette()
    return {
        "block": block,
        "palette": [[*colours[3 * i : 3 * i + 3], opacities[i]] for i in range(len(opacities) - 1)],
        "samples": [_sample(panel, block) for panel in panels],
    }


def _sample(panel: Panel, block: int) -> dict[str, Any]:
    height, width = panel.image.shape[1:]
    size = (ceil(height / block), ceil(width / block))
    maps = adaptive_avg_pool2d(panel.maps[BASE], size)
    halves, unit = to_halves(maps)
    return {
        "id": panel.sample_id,
        "size": size,
        "channels": maps.shape[1],
        "classes": list(panel.class_names),
        "colours": class_colours(len(panel.class_names)),
        "asked": panel.asked,
        "scale": scale_of(maps.sum(1)),
        "unit": unit,
        "maps": halves,
        "regions": _regions(panel, size),
        "settings": asdict(panel.competition) if panel.competition else None,
    }


def to_halves(maps: Float[Tensor, "..."]) -> tuple[str, float]:
    """Maps as base64 of little-endian half-precision numbers in a unit, the largest |value|.

    Half precision keeps three digits down to 6e-5 of the unit, and coarser steps below.
    """
    values = maps.detach().cpu().numpy().astype(np.float64)
    sizes = np.abs(values[np.isfinite(values)])
    unit = float(sizes.max()) if sizes.size and sizes.max() > 0 else 1.0
    return base64.b64encode((values / unit).astype("<f2").tobytes()).decode(), unit


def _regions(panel: Panel, size: tuple[int, int]) -> list[str] | None:
    """True region of each class asked about, as base64 of bits, the lowest first."""
    if panel.regions is None:
        return None
    within: Bool[np.ndarray, "A h w"] = (
        adaptive_avg_pool2d(panel.regions.float(), size).numpy() > 0.5
    )
    return [
        base64.b64encode(np.packbits(region.ravel(), bitorder="little").tobytes()).decode()
        for region in within
    ]
