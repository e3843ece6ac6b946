"""What stands in the picture of one panel: pictures at the left, rows of maps, the caption."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from PIL import Image

from var_exp.report.figure_style import SOFT
from var_exp.report.overlays import (
    class_colours,
    coloured,
    greyed,
    outline_lines,
    overlay,
    painted,
    rgb_of,
    scale_colours,
    winners,
)
from var_exp.report.panels import Panel
from var_exp.variants import BASE

ACCENT = "#a31627"
SCALE_BAR = 300  # pixels of the colour bar


@dataclass(frozen=True)
class Row:
    """One row of maps: what stands over it, a picture per class, and remarks with their colours."""

    name: str
    meaning: str
    pictures: Sequence[Image.Image]
    remarks: Sequence[Sequence[tuple[str, str]]]


@dataclass(frozen=True)
class Side:
    """One picture at the left, with what stands over it and the lines in it."""

    name: str
    image: Image.Image
    lines: Sequence[tuple[int, int, int, int]] = ()


def sides(panel: Panel) -> Iterator[Side]:
    """The pictures at the left."""
    regions = [] if panel.regions is None else [outline_lines(one) for one in panel.regions]
    regions += [] if panel.within is None else [outline_lines(panel.within)]
    yield Side("photograph", coloured(panel.image), [line for lines in regions for line in lines])
    if panel.competes:
        drawn = winners(panel.shares(), panel.flat(BASE), panel.scale)
        yield Side("who wins", _laid(panel, drawn))
    if panel.shared is not None:
        yield Side("what they share", _laid(panel, overlay(panel.shared, panel.scale)))


def rows(panel: Panel) -> Iterator[Row]:
    """Base, refined, and how strongly each class wins where."""
    columns = range(len(panel.class_names))
    for variant in panel.maps:
        drawn = [_laid(panel, overlay(values, panel.scale)) for values in panel.drawn(variant)]
        remarks = [_remarks(panel, variant, column) for column in columns]
        yield Row(variant, panel.meaning(variant), drawn, remarks)
    if panel.competes:
        colours = class_colours(len(panel.class_names))
        shares = [
            _laid(panel, painted(strength, colour))
            for strength, colour in zip(panel.won(), colours, strict=True)
        ]
        meaning = "where each class wins, and how clearly"
        yield Row("shares", meaning, shares, [[] for _ in columns])


def _remarks(panel: Panel, variant: str, column: int) -> list[tuple[str, str]]:
    """The score of one map and what the eye could mistake, with their colours."""
    scores = panel.scores.get(variant, ())
    score = scores[column] if column < len(scores) else float("nan")
    told = f"{score:.2f} {panel.metric}".rstrip() if isfinite(score) else ""
    remark = panel.remark(variant, column)
    both = ((told, SOFT), (remark, SOFT if remark.startswith(("loses least", "keeps")) else ACCENT))
    return [(text, colour) for text, colour in both if text]


def _laid(panel: Panel, drawn: Image.Image) -> Image.Image:
    """A transparent picture on the greyed photograph."""
    grey = greyed(panel.image).convert("RGBA")
    return Image.alpha_composite(grey, drawn.convert("RGBA")).convert("RGB")


def told(panel: Panel) -> Iterator[str]:
    """The sentences of the caption."""
    yield (
        "All maps of this picture have one scale, in the method's own units (no probabilities): "
        f"full colour at {panel.scale:.2g}, the 98 % quantile of the non-zero base values."
    )
    remarks = " ".join(
        panel.remark(variant, k) for variant in panel.maps for k in range(len(panel.class_names))
    )
    if "empty map" in remarks:
        yield "Empty map: the class keeps nothing, as its share is nowhere large enough."
    if "loses least" in remarks:
        yield (
            "Loses least: where every class has evidence against it, the one with the least wins; "
            "that is no evidence for it, and not drawn."
        )
    by_size = [variant for variant in panel.maps if panel.keeps_against(variant)]
    if any((panel.flat(variant) < 0).any() for variant in by_size):
        yield (
            f"Blue in {' and '.join(by_size)}: sizes compete there, so strong evidence against a "
            "class wins as well, and stays."
        )
    if panel.competes:
        yield (
            "Shares and who wins: in the colour of the class, the stronger the more evidence it "
            f"has and the further its share lies above 1/{len(panel.class_names)}."
        )
    if panel.shared is not None:
        yield "What they share: what speaks for all of them and is won by none, in red."
    if panel.regions is not None:
        yield "A line outlines the true region of the class."
    if panel.within is not None:
        yield "A line in the photograph outlines the region that the classes are asked about."


def scale_bar() -> Image.Image:
    """The colours of a map from its lowest to its highest value, on light grey."""
    colours = np.array(scale_colours(SCALE_BAR))
    rgb, opacity = colours[:, :3], colours[:, 3:]
    mixed = opacity * rgb + (1 - opacity) * np.array(rgb_of("#d4d4d4"))
    return Image.fromarray(np.rint(mixed).astype(np.uint8)[None])
