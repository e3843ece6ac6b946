"""What the page shows of a sample: its pictures as data addresses, in words and in colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isnan, sqrt
from zlib import Z_RLE

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from var_exp.report.overlays import (
    class_colours,
    coloured,
    decided,
    decision,
    greyed,
    lead,
    note,
    outline_path,
    overlay,
    palette,
    scale_of,
    winners,
)
from var_exp.report.panels import Panel
from var_exp.report.templates import data_url
from var_exp.variants import BASE

_BUDGET = 4_500_000  # characters of all maps drawn on a page
_PER_PIXEL = 1.2  # characters of one pixel of noise, the worst there is
_PHOTO = 448  # longest side of a photograph
_COLUMNS = 6  # most maps side by side

REASONS = {
    "random": "drawn at random",
    "best": "among the best scores",
    "worst": "among the worst scores",
    "most changed": "among those that refining changed most",
}


@dataclass(frozen=True)
class Cell:
    """One map of one class: the picture and what is written beside it."""

    source: str
    alt: str
    name: str
    note: str
    score: float
    column: int


@dataclass(frozen=True)
class Exhibit:
    """One sample of the gallery.

    Attributes:
        panel: Its maps.
        image: The photograph.
        grey: The photograph in light grey, on which maps are laid.
        scale: The |base map| of full colour.
        colours: One per competing class.
        outlines: SVG path of the true region of each class asked about, where it is known.
        rows: Cells of each variant.
        winners: Who wins each pixel; None when classes do not compete.
        decided: How decided each pixel is; likewise.
        lead: How far the winner's share is above 1/K where "who wins" has its full colour.
        decision: 1 - entropy / ln K where "how decided" has its full colour.
    """

    panel: Panel
    image: str
    grey: str
    scale: float
    colours: Sequence[str]
    outlines: Sequence[str]
    rows: Mapping[str, Sequence[Cell]]
    winners: str | None
    decided: str | None
    lead: float
    decision: float

    @property
    def columns(self) -> int:
        """Maps side by side, so that the rows are of about equal length."""
        count = len(self.panel.class_names)
        return ceil(count / ceil(count / _COLUMNS))

    def score(self, variant: str) -> float:
        """Mean score of one variant over the classes asked about; NaN when undefined."""
        scores = [score for score in self.panel.scores.get(variant, ()) if not isnan(score)]
        return float(np.mean(scores)) if scores else float("nan")


def exhibits(panels: Sequence[Panel]) -> list[Exhibit]:
    """Draw all samples, so small that the page stays light however many they are."""
    count = sum(len(panel.class_names) * (len(panel.maps) + panel.competes) for panel in panels)
    side = int(sqrt(_BUDGET / _PER_PIXEL / max(1, count)))
    return [_exhibit(panel, side) for panel in panels]


def colour_bar() -> str:
    """The colours of a map from its lowest to its highest value, as stops of a CSS gradient."""
    colours, opacities = palette()
    return ", ".join(
        "rgb({} {} {} / {:.2f})".format(*colours[3 * i : 3 * i + 3], opacities[i] / 255)
        for i in range(0, len(opacities) - 1, 2)  # every second one is smooth enough
    )


def _exhibit(panel: Panel, side: int) -> Exhibit:
    maps = {variant: _reduced(panel.flat(variant), side) for variant in panel.maps}
    scale = scale_of(maps[BASE])
    shares = _reduced(panel.shares(), side) if panel.competes else None
    return Exhibit(
        panel=panel,
        image=data_url(_small(coloured(panel.image)), "JPEG", quality=88),
        grey=data_url(_small(greyed(panel.image)), "JPEG", quality=80),
        scale=scale,
        colours=class_colours(len(panel.class_names)),
        outlines=[] if panel.regions is None else [outline_path(one) for one in panel.regions],
        rows={variant: _cells(panel, variant, drawn, scale) for variant, drawn in maps.items()},
        winners=None if shares is None else _png(winners(shares)),
        decided=None if shares is None else _png(decided(shares)),
        lead=0.0 if shares is None else scale_of(lead(shares)),
        decision=0.0 if shares is None else scale_of(decision(shares)),
    )


def _cells(panel: Panel, variant: str, drawn: Float[Tensor, "K h w"], scale: float) -> list[Cell]:
    """Overlays of one variant, a cell per class."""
    cells = []
    scores = panel.scores.get(variant, ())
    for column, (name, values) in enumerate(
        zip(panel.class_names, panel.flat(variant), strict=True)
    ):
        remark = note(values)
        alt = f"{variant} map of the class {name} for sample {panel.sample_id}"
        cells.append(
            Cell(
                source=_png(overlay(drawn[column] * panel.strength(variant), scale)),
                alt=f"{alt}, {remark}" if remark else alt,
                name=name,
                note=remark,
                score=scores[column] if column < len(scores) else float("nan"),
                column=column,
            )
        )
    return cells


def _reduced(values: Float[Tensor, "K H W"], side: int) -> Float[Tensor, "K h w"]:
    """The same, averaged over blocks until no side is longer than asked."""
    height, width = values.shape[1:]
    block = max(1, ceil(max(height, width) / side))
    if block == 1:
        return values
    return adaptive_avg_pool2d(values[None], (ceil(height / block), ceil(width / block)))[0]


def _small(picture: Image.Image) -> Image.Image:
    picture.thumbnail((_PHOTO, _PHOTO))
    return picture


def _png(picture: Image.Image) -> str:
    return data_url(picture, "PNG", compress_type=Z_RLE)
