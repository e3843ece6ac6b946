"""What the page's script needs to let classes compete anew: base maps in half precision."""

import base64
from collections.abc import Sequence
from dataclasses import asdict
from math import ceil, isfinite, isnan, sqrt
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from var_exp.report.overlays import CURVE, class_colours, palette, thinned
from var_exp.report.panels import Panel
from var_exp.variants import BASE

_BUDGET = 3_000_000  # characters of all stored maps together
_PLAYABLE = 8  # most samples to play with
_PER_NUMBER = 2 * 4 / 3  # characters of base64 per half


def live_samples(panels: Sequence[Panel], *, every: bool = False) -> list[int]:
    """Places of the panels to play with, of those that have a competition.

    The first of each kind, or the first eight of all.
    """
    first: dict[str, int] = {}
    for place, panel in enumerate(panels):
        if panel.competes:
            first.setdefault(str(place) if every else panel.kind, place)
    return list(first.values())[:_PLAYABLE]


def live_data(panels: Sequence[Panel]) -> dict[str, Any]:
    """All that the script reads, ready for JSON.

    Of maps too large for a page it holds every `step`-th pixel of every `step`-th row, the same
    step for all samples. Competition is pointwise, so with the sizes of the whole maps beside them
    these pixels compete as they did in the run. (Averages would not: gradients cancel in them.)
    """
    numbers = sum(panel.maps[BASE].numel() for panel in panels)
    step = max(1, ceil(sqrt(numbers * _PER_NUMBER / _BUDGET)))
    colours, opacities = palette()
    return {
        "step": step,
        "curve": CURVE,
        "palette": [[*colours[3 * i : 3 * i + 3], opacities[i]] for i in range(len(opacities) - 1)],
        "samples": [_sample(panel, step) for panel in panels],
    }


def _sample(panel: Panel, step: int) -> dict[str, Any]:
    base = panel.maps[BASE]
    maps = thinned(base, step)
    halves, unit = to_halves(maps)
    return {
        "id": panel.sample_id,
        "size": tuple(maps.shape[2:]),
        "channels": maps.shape[1],
        "classes": list(panel.class_names),
        "colours": class_colours(len(panel.class_names)),
        "asked": panel.asked,
        "scale": panel.scale,
        "sizes": {"separate": _sizes(base), "sum": _sizes(base.sum(1, keepdim=True))},
        "unit": unit,
        "maps": halves,
        "regions": _regions(panel, step),
        "settings": asdict(panel.competition) if panel.competition else None,
    }


def _sizes(maps: Float[Tensor, "K c H W"]) -> list[dict[str, float | str]]:
    """Largest |A| and root mean square of each class's whole map, by which VAR scales."""
    largest = maps.abs().amax((1, 2, 3)).tolist()
    squares = maps.double().square().mean((1, 2, 3)).sqrt().tolist()
    return [
        {"max": _in_json(size), "rms": _in_json(square)}
        for size, square in zip(largest, squares, strict=True)
    ]


def _in_json(number: float) -> float | str:
    """JSON has no word for what is not finite; JavaScript reads these."""
    if isfinite(number):
        return number
    return "NaN" if isnan(number) else "Infinity"


def to_halves(maps: Float[Tensor, "..."]) -> tuple[str, float]:
    """Maps as base64 of little-endian half-precision numbers in a unit, the largest |value|.

    Half precision keeps three digits down to 6e-5 of the unit, and coarser steps below.
    """
    values = maps.detach().cpu().numpy().astype(np.float64)
    sizes = np.abs(values[np.isfinite(values)])
    unit = float(sizes.max()) if sizes.size and sizes.max() > 0 else 1.0
    return base64.b64encode((values / unit).astype("<f2").tobytes()).decode(), unit


def _regions(panel: Panel, step: int) -> list[str] | None:
    """True region of each class asked about, as base64 of bits, the lowest first."""
    if panel.regions is None:
        return None
    within: Bool[np.ndarray, "A h w"] = thinned(panel.regions, step).numpy()
    return [
        base64.b64encode(np.packbits(region.ravel(), bitorder="little").tobytes()).decode()
        for region in within
    ]
