"""One panel small enough to stand among hundreds: the photograph, and who wins."""

from PIL import Image

from var_exp.report.panel_parts import sides
from var_exp.report.panels import Panel

_WIDTH, _TALLEST = 168, 224  # pixels of each of the two
_GAP = 4


def thumbnail(panel: Panel) -> Image.Image:
    """The photograph and who wins beside each other; what stands beside it in the whole picture."""
    shown = [side.image.convert("RGB") for side in list(sides(panel))[:2]]
    for image in shown:
        image.thumbnail((_WIDTH, _TALLEST))
    width = sum(image.width for image in shown) + _GAP * (len(shown) - 1)
    canvas = Image.new("RGB", (width, max(image.height for image in shown)), "white")
    left = 0
    for image in shown:
        canvas.paste(image, (left, 0))
        left += image.width + _GAP
    return canvas
