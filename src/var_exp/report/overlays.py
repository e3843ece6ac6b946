"""Pictures of signed maps and of class distributions, to be laid on the greyed image.

Red speaks for the class, blue against it. Zero is transparent. An *overlay* is such a picture.
"""

from functools import cache
from math import ceil, log

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image
from torch import Tensor

from var_exp.refine.var import entropy_map, winner_map

_LEVELS = 63  # shades per sign, even in opacity: no contours are seen, and they still compress
_OUTLINE = 2 * _LEVELS + 1  # palette index of the true region's outline
_STEPS = 63  # of opacity
_DECIDED = "#3b1f6b"  # violet
CURVE = 0.6  # opacity = strength to this power
_OKABE_ITO = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#c8b400", "#555555",
)  # fmt: skip  # their yellow a little darker, to be seen on light grey


def thinned(values: Shaped[Tensor, "*of H W"], step: int) -> Shaped[Tensor, "*of h w"]:
    """Every `step`-th pixel of every `step`-th row, from the middles of the blocks; none altered.

    Not averages: a signed map cancels in them, and what a class wins would be won by nobody.
    """
    for dim in (-2, -1):
        length = values.shape[dim]
        count = ceil(length / step)
        middles = ((torch.arange(count) + 0.5) * length / count).long()
        values = values.index_select(dim, middles.to(values.device))
    return values


def coloured(image: UInt8[Tensor, "3 H W"]) -> Image.Image:
    """The image as it is (mode "RGB")."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())


def greyed(image: UInt8[Tensor, "3 H W"]) -> Image.Image:
    """The image in light grey, quiet enough for colours on top (mode "L")."""
    grey = coloured(image).convert("L")
    return grey.point([round(255 * 0.58 + 0.38 * level) for level in range(256)])


def scale_of(values: Float[Tensor, "..."]) -> float:
    """The |value| that gets full colour, 0 where all is empty: the 98 % quantile.

    It is over non-zero values, since a refined map is mostly zeros. The few largest are cut, or
    nothing else would be seen of maps as heavy-tailed as gradients.
    """
    sizes = np.abs(values.detach().cpu().numpy())
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return float(np.quantile(sizes, 0.98)) if sizes.size else 0.0


def overlay(
    values: Float[Tensor, "H W"], scale: float, region: Bool[Tensor, "H W"] | None = None
) -> Image.Image:
    """A signed map as a transparent palette picture, to be laid on the greyed image.

    Args:
        values: Signed; what is not finite is drawn as zero (`note` says so beside the picture).
        scale: The |value| that gets full colour and opacity; 0 draws nothing.
        region: Outlined when given.
    """
    numbers = np.nan_to_num(values.detach().cpu().numpy(), posinf=0.0, neginf=0.0)
    share = np.clip(numbers / scale, -1.0, 1.0) if scale > 0 else np.zeros_like(numbers)
    indices = level(share)
    if region is not None:
        indices[_outline(region.cpu().numpy())] = _OUTLINE
    colours, opacities = palette()
    picture = Image.fromarray(indices)
    picture.putpalette(colours)  # turns "L" into "P"
    picture.info["transparency"] = opacities
    return picture


def note(values: Float[Tensor, "H W"]) -> str:
    """What the eye could mistake: "empty map", "not finite in n pixels", or ""."""
    numbers = values.detach().cpu().numpy()
    if broken := np.count_nonzero(~np.isfinite(numbers)):
        return f"not finite in {broken:,} pixels"
    return "" if numbers.any() else "empty map"


def level(share: Float[np.ndarray, "*of"]) -> UInt8[np.ndarray, "*of"]:
    """Place in the palette of shares of full colour, -1 to 1."""
    steps = np.rint(np.sign(share) * np.abs(share) ** CURVE * _LEVELS)
    places: UInt8[np.ndarray, "*of"] = (steps + _LEVELS).astype(np.uint8)
    return places


@cache
def palette() -> tuple[bytes, bytes]:
    """RGB triples and opacities of an overlay: blue to red in 127 steps, then the outline."""
    opacity = np.arange(-_LEVELS, _LEVELS + 1) / _LEVELS
    share = np.sign(opacity) * np.abs(opacity) ** (1 / CURVE)
    # The middle of the colour map is white: start a step into each side, let opacity fade.
    colours = colormaps["RdBu_r"](0.5 + np.sign(share) * (0.26 + 0.16 * np.abs(share)))
    rgb = np.vstack([np.rint(colours[:, :3] * 255), [20, 20, 20]]).astype(np.uint8)
    opacities = np.append(np.rint(255 * np.abs(opacity)), 255).astype(np.uint8)
    return rgb.tobytes(), opacities.tobytes()


def scale_colours(count: int) -> list[tuple[int, int, int, float]]:
    """Red, green, blue and opacity (0 to 1) at so many even places of a scale, lowest first."""
    colours, opacities = palette()
    places = level(np.linspace(-1.0, 1.0, count)).tolist()
    return [(*colours[3 * i : 3 * i + 3], opacities[i] / 255) for i in places]


def class_colours(count: int) -> list[str]:
    """Colours "#rrggbb" that tell classes apart: Okabe and Ito's eight, then hues between them."""
    more = max(0, count - len(_OKABE_ITO))
    hues = [to_hex(colormaps["hsv"]((i + 0.5) / more)) for i in range(more)]
    return [*_OKABE_ITO, *hues][:count]


def winners(
    shares: Float[Tensor, "K H W"], values: Float[Tensor, "K H W"], scale: float
) -> Image.Image:
    """Who wins each pixel, as a transparent picture in the colours of the classes.

    The opacity follows `won` of the winner; nobody wins where the first place is shared.

    Args:
        shares: Class distribution at every pixel.
        values: Base maps, signed: where the winner's speaks against it, nothing is drawn.
        scale: The value that counts as full strength.
    """
    winner = winner_map(shares[None, :, None])[0, 0]
    strength = won(shares, values, scale).gather(0, winner.clamp_min(0)[None])[0]
    steps = _steps(torch.where(winner >= 0, strength, 0))
    rgb = np.array([rgb_of(colour) for colour in class_colours(len(shares))], np.uint8)
    pixels = np.zeros((*steps.shape, 4), np.uint8)
    pixels[..., :3] = rgb[winner.cpu().numpy()]
    pixels[..., 3] = np.rint(255 / _STEPS * steps)
    pixels[steps == 0] = 0
    return Image.fromarray(pixels)


def painted(strength: Float[Tensor, "H W"], colour: str) -> Image.Image:
    """A strength from 0 to 1 as a transparent picture in one colour "#rrggbb"."""
    picture = Image.fromarray(_steps(strength))
    picture.putpalette(bytes(rgb_of(colour)) * (_STEPS + 1))
    picture.info["transparency"] = bytes(round(255 * i / _STEPS) for i in range(_STEPS + 1))
    return picture


def decided(shares: Float[Tensor, "K H W"]) -> Image.Image:
    """How decided each pixel is, as a transparent violet picture.

    Clear at entropy ln K, where all classes are level; opaque at the lowest of the picture.
    """
    values = decision(shares)
    return painted(_relative(values, scale_of(values)), _DECIDED)


def lead(shares: Float[Tensor, "K H W"]) -> Float[Tensor, "K H W"]:
    """What each class's share has above the equal share 1/K; 0 where it has less."""
    return (shares - 1 / len(shares)).clamp_min(0)


def won(
    shares: Float[Tensor, "K H W"], values: Float[Tensor, "K H W"], scale: float
) -> Float[Tensor, "K H W"]:
    """Strength with which each class wins each pixel, 0 to 1: evidence for it x its lead.

    Evidence is the positive part of its map, full at `scale`; the lead is relative to the clearest
    pixels of the picture. Both fade to zero where a class stops winning, so edges are as soft as
    the decision is, and what a class wins by losing least is not seen.
    """
    leads = lead(shares)
    return _relative(values, scale) * _relative(leads, scale_of(leads.amax(0)))


def decision(shares: Float[Tensor, "K H W"]) -> Float[Tensor, "H W"]:
    """1 - entropy / ln K: 0 where all classes are level, 1 where one has it all."""
    entropy = entropy_map(shares[None, :, None])[0, 0]
    return (1 - entropy / log(len(shares))).clamp(0, 1)


def rgb_of(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of "#rrggbb"."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


def _relative(values: Float[Tensor, "*of H W"], full: float) -> Float[Tensor, "*of H W"]:
    """0 to 1, which is reached at `full`; nothing where that is 0."""
    if full <= 0:
        return torch.zeros_like(values)
    return (values.nan_to_num(posinf=0.0) / full).clamp(0, 1)


def _steps(strength: Float[Tensor, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Steps of opacity, as of the maps; few compress well."""
    steps: UInt8[np.ndarray, "H W"] = np.rint(strength.cpu().numpy() ** CURVE * _STEPS).astype(
        np.uint8
    )
    return steps


def outline_path(region: Bool[Tensor, "H W"]) -> str:
    """Border of a region as an SVG path in pixels of the picture, each straight run one line."""
    lines = outline_lines(region)
    return "".join(f"M{a} {b}H{c}" if b == d else f"M{a} {b}V{d}" for a, b, c, d in lines)


def outline_lines(region: Bool[Tensor, "H W"]) -> list[tuple[int, int, int, int]]:
    """The same as lines (x, y, x, y) from end to end, the horizontal ones first."""
    padded = np.pad(region.cpu().numpy(), 1)
    down = padded[1:, 1:-1] != padded[:-1, 1:-1]  # [H+1, W]: borders between rows
    across = padded[1:-1, 1:] != padded[1:-1, :-1]  # [H, W+1]: borders between columns
    lines = [(first, y, end, y) for y, first, end in _runs(down)]
    return lines + [(x, first, x, end) for x, first, end in _runs(across.T)]


def _runs(lines: Bool[np.ndarray, "L n"]) -> list[tuple[int, int, int]]:
    """Every run of True: its line, its first place and one past its last."""
    edges = np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(np.int8))
    (line, first), (_, end) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    return list(zip(line.tolist(), first.tolist(), end.tolist(), strict=True))


def _outline(region: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels of the region that touch its outside or the picture's edge."""
    padded = np.pad(region, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    outline: Bool[np.ndarray, "H W"] = region & ~inner
    return outline
