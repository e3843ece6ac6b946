"""Letters in pictures: their font, how wide a line is, where it breaks."""

from functools import cache

from matplotlib import font_manager
from PIL import ImageFont

_SPARE = 1.03  # Matplotlib sets the same letters a little wider, by the resolution


def broken(text: str, width: float, size: float, *, bold: bool = False, lines: int) -> list[str]:
    """Text in lines of at most a width in pixels; what does not fit ends in an ellipsis."""
    done: list[str] = []
    words = text.split(" ")
    while words:
        taken = 1
        while (
            taken < len(words) and width_of(" ".join(words[: taken + 1]), size, bold=bold) <= width
        ):
            taken += 1
        line, words = " ".join(words[:taken]), words[taken:]
        if len(done) == lines - 1 and words:
            line, words = f"{line} …", []
        while width_of(line, size, bold=bold) > width and len(line) > 1:
            line = line.rstrip("…").rstrip()[:-1].rstrip() + "…"
        done.append(line)
    return [line for line in done if line]


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Pixels that one line takes at most, with Pillow as with Matplotlib."""
    return _SPARE * float(font(size, bold=bold).getlength(text))


@cache
def font(size: float, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that Matplotlib ships, so that every machine draws the same letters."""
    weight = "bold" if bold else "normal"
    properties = font_manager.FontProperties(family="DejaVu Sans", weight=weight)
    return ImageFont.truetype(font_manager.findfont(properties), size=size)
