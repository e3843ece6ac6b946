"""How printed figures look, and the files that each of them becomes."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

logging.getLogger("fontTools").setLevel(logging.WARNING)  # else each letter of a PDF is told

INK, SOFT, LINE = "#1c1e22", "#5a606b", "#e3e0d8"  # of the pages
HUES = ("#b2182b", "#1f66b0", "#e69f00", "#56b4e9", "#009e73", "#cc79a7")
"""Colours of the refiners, in their order; told apart with any common colour blindness."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""Shapes that go with the colours, so that no figure depends on colour."""
KINDS = (".pdf", ".svg", ".png")

_STYLE = {
    "font.family": "DejaVu Sans",  # ships with Matplotlib: every machine draws the same letters
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "text.color": INK,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType, embedded
    "svg.fonttype": "path",  # letters as outlines: no font needed
    "svg.hashsalt": "var_exp",  # the same file in every repeat
    "savefig.dpi": 300,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.03,
}


@contextmanager
def printed() -> Iterator[None]:
    """Matplotlib draws for print within."""
    with plt.rc_context(_STYLE):  # type: ignore[arg-type]
        yield


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.pdf`, `.svg` and `.png` and close the figure; call it within `printed`."""
    if figure.get_layout_engine() is not None:  # laid out once, not for each file
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    paths = [stem.with_name(stem.name + kind) for kind in KINDS]
    for path in paths:
        dated = {".pdf": "CreationDate", ".svg": "Date"}.get(path.suffix)
        figure.savefig(path, metadata={dated: None} if dated else None)
    plt.close(figure)
    return paths


def mark_of(names: Sequence[str], name: str) -> tuple[str, str]:
    """Colour and shape of a refiner among others."""
    place = list(names).index(name)
    return HUES[place % len(HUES)], MARKERS[place % len(MARKERS)]
