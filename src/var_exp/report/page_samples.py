"""What the page shows of a panel: its pictures as data addresses, and the words beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isnan, sqrt
from zlib import Z_RLE

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from var_exp.report.overlays import (
    class_colours,
    coloured,
    decided,
    decision,
    greyed,
    lead,
    outline_path,
    overlay,
    painted,
    scale_colours,
    scale_of,
    thinned,
    winners,
    won,
)
from var_exp.report.panels import Panel
from var_exp.report.templates import data_url
from var_exp.variants import BASE

_BUDGET = 4_500_000  # characters of all maps drawn on a page
_PER_PIXEL = 1.2  # characters of one pixel of noise, the worst there is
_SIDES = 3  # more pictures of a sample: who wins, how decided, what is shared
_PHOTO = 448  # longest side of a photograph
_SMALL_IMAGE = 100  # pixels: what has fewer along its sides is shown pixel by pixel
_COLUMNS = 6  # most maps side by side
_STOPS = 16  # of the colour bar, on each side of zero

REASONS = {
    "random": "drawn at random",
    "best": "among the best scores",
    "worst": "among the worst scores",
    "most changed": "among those that refining changed most",
}


@dataclass(frozen=True)
class MapPicture:
    """One map of one class: its overlay and what is written beside it."""

    source: str
    alt: str
    name: str
    note: str
    score: float
    column: int


@dataclass(frozen=True)
class PageSample:
    """One sample of the gallery.

    Attributes:
        panel: Its maps.
        image: The photograph.
        grey: The photograph in light grey, on which maps are laid.
        scale: The |base map| of full colour.
        colours: One per competing class.
        outlines: SVG path of the true region of each class asked about, where it is known.
        rows: Map of each class, by variant.
        shares: Where each class wins, and how clearly; empty when classes do not compete.
        winners: Who wins each pixel; None when classes do not compete.
        decided: How decided each pixel is; likewise.
        shared: What speaks for all classes and is won by none, where that is known.
        step: Every so many pixels one is drawn.
        lead: How far the winner's share is above 1/K where "who wins" has its full colour.
        decision: 1 - entropy / ln K where "how decided" has its full colour.
    """

    panel: Panel
    image: str
    grey: str
    scale: float
    colours: Sequence[str]
    outlines: Sequence[str]
    rows: Mapping[str, Sequence[MapPicture]]
    shares: Sequence[MapPicture]
    winners: str | None
    decided: str | None
    shared: str | None
    step: int
    lead: float
    decision: float

    @property
    def columns(self) -> int:
        """Maps side by side, so that the rows are of about equal length."""
        count = len(self.panel.class_names)
        return ceil(count / ceil(count / _COLUMNS))

    @property
    def rendering(self) -> str:
        """How the browser enlarges the maps: the CSS property `image-rendering`."""
        few = max(self.panel.image.shape[1:]) / self.step < _SMALL_IMAGE
        return "pixelated" if few else "auto"

    def score(self, variant: str) -> float:
        """Mean score of one variant over the classes asked about; NaN when undefined."""
        scores = [score for score in self.panel.scores.get(variant, ()) if not isnan(score)]
        return float(np.mean(scores)) if scores else float("nan")


def page_samples(panels: Sequence[Panel]) -> list[PageSample]:
    """Draw all samples, so small that the page stays light however many they are."""
    count = sum(
        len(panel.class_names) * (len(panel.maps) + panel.competes) + _SIDES for panel in panels
    )
    side = int(sqrt(_BUDGET / _PER_PIXEL / max(1, count)))
    return [_page_sample(panel, side) for panel in panels]


def colour_bar() -> str:
    """The colours of a map from its lowest to its highest value, as stops of a CSS gradient."""
    colours = scale_colours(2 * _STOPS + 1)
    return ", ".join("rgb({} {} {} / {:.2f})".format(*colour) for colour in colours)


def _page_sample(panel: Panel, side: int) -> PageSample:
    step = max(1, ceil(max(panel.image.shape[1:]) / side))
    shares = panel.shares() if panel.competes else None
    drawn = None if shares is None else thinned(shares, step)
    base = thinned(panel.flat(BASE), step)
    shared = None if panel.shared is None else overlay(thinned(panel.shared, step), panel.scale)
    return PageSample(
        panel=panel,
        image=data_url(_small(coloured(panel.image)), "JPEG", quality=88),
        grey=data_url(_small(greyed(panel.image)), "JPEG", quality=80),
        scale=panel.scale,
        colours=class_colours(len(panel.class_names)),
        outlines=[] if panel.regions is None else [outline_path(one) for one in panel.regions],
        rows={variant: _maps(panel, variant, step) for variant in panel.maps},
        shares=[] if drawn is None else _shares(panel, won(drawn, base, panel.scale)),
        winners=None if drawn is None else _png(winners(drawn, base, panel.scale)),
        decided=None if drawn is None else _png(decided(drawn)),
        shared=None if shared is None else _png(shared),
        step=step,
        lead=0.0 if shares is None else scale_of(lead(shares).amax(0)),
        decision=0.0 if shares is None else scale_of(decision(shares)),
    )


def _maps(panel: Panel, variant: str, step: int) -> list[MapPicture]:
    """Overlays of one variant, one per class."""
    maps = []
    scores = panel.scores.get(variant, ())
    drawn = thinned(panel.drawn(variant), step)
    for column, name in enumerate(panel.class_names):
        remark = panel.remark(variant, column)
        alt = f"{variant} map of the class {name} for sample {panel.sample_id}"
        maps.append(
            MapPicture(
                source=_png(overlay(drawn[column], panel.scale)),
                alt=f"{alt}, {remark}" if remark else alt,
                name=name,
                note=remark,
                score=scores[column] if column < len(scores) else float("nan"),
                column=column,
            )
        )
    return maps


def _shares(panel: Panel, strengths: Float[Tensor, "K h w"]) -> list[MapPicture]:
    """Where each class wins, in its colour."""
    colours = class_colours(len(panel.class_names))
    return [
        MapPicture(
            source=_png(painted(strength, colour)),
            alt=f"Where the class {name} wins in sample {panel.sample_id}, and how clearly",
            name=name,
            note="" if strength.any() else "wins nowhere",
            score=float("nan"),
            column=column,
        )
        for column, (name, strength, colour) in enumerate(
            zip(panel.class_names, strengths, colours, strict=True)
        )
    ]


def _small(picture: Image.Image) -> Image.Image:
    picture.thumbnail((_PHOTO, _PHOTO))
    return picture


def _png(picture: Image.Image) -> str:
    return data_url(picture, "PNG", compress_type=Z_RLE)
