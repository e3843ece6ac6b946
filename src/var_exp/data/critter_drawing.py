"""From the facts of a critter scene to its pixels and its exact part masks.

Every shape is a signed distance in the critter's own frame (x right, y down, unit = half a body or
so), negative inside. Its share of each pixel is `clip(1/2 - distance in pixels)`, so edges are
antialiased, and a pixel belongs to the last part that covers more than half of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from var_exp.data.critter_background import Background, draw_background

Floats: TypeAlias = NDArray[np.floating[Any]]
Mask: TypeAlias = NDArray[np.bool_]

PARTS = ("shared", "ornament", "pattern", "tail")
"""Order of the part masks: shared by all classes, the two that make the class, irrelevant to it."""

_SHARED, _ORNAMENT, _PATTERN, _TAIL = range(len(PARTS))
REMOVABLE = ("ornament", "pattern", "tail", "eyes", "legs")
"""What a critter can be drawn without."""

_UNITS_TALL = 2.3
_REACH = 1.3  # units from the centre that no part exceeds
_BELLY_Y = 0.31
_BELLY_RADIUS = 0.35
_BAR_PERIOD = 0.27
_BAR_HALF = 0.068


@dataclass(frozen=True)
class Critter:
    """One critter; only `ornament` and `pattern` decide its class.

    Attributes:
        ornament: Index into `critters.ORNAMENTS`.
        pattern: Index into `critters.PATTERNS`.
        x: Centre in shares of the picture's side, likewise `y`.
        y: See `x`.
        height: Height with its tallest ornament, in shares of the picture's side.
        angle: Rotation in radians.
        girth: Factor on the body's width.
        head: Factor on the head's radius.
        tail_side: -1 left, 1 right.
        tail_lift: Angle of the tail above the horizontal in radians.
        tail_tip: 0 none, 1 ball, 2 block.
        light: Slope of the shading along x and y, in shares of brightness a unit.
        colours: RGB in [0, 1] of "body", "belly", "pattern", "ornament", "eyes", "tail".
        missing: What is not drawn, of `REMOVABLE`; the pattern goes with its disc.
    """

    ornament: int
    pattern: int
    x: float
    y: float
    height: float
    angle: float
    girth: float
    head: float
    tail_side: int
    tail_lift: float
    tail_tip: int
    light: tuple[float, float]
    colours: dict[str, Floats] = field(hash=False)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture: painted in the order background, critters, noise."""

    critters: tuple[Critter, ...]
    background: Background


def render(scene: Scene, size: int) -> tuple[Floats, Mask]:
    """Paint a scene.

    Returns:
        image [3, size, size] in [0, 1] and part masks [critters, len(PARTS), size, size]; the masks
        are disjoint and hold visible pixels only.
    """
    image = draw_background(scene.background, size)
    parts = np.full((size, size), -1, dtype=np.int8)
    for position, critter in enumerate(scene.critters):
        _Brush(image, parts, critter, position * len(PARTS)).paint_critter()
    image += scene.background.noise_field(size)
    np.clip(image, 0.0, 1.0, out=image)
    labels = np.arange(len(scene.critters) * len(PARTS), dtype=np.int8)
    masks = parts == labels[:, None, None]
    return image, masks.reshape(len(scene.critters), len(PARTS), size, size)


def without_each(scene: Scene, size: int) -> Floats:
    """Pictures [5, 3, size, size] of one critter without each of `REMOVABLE`, in that order.

    All else stays, pixel for pixel, and what the part has covered is seen.
    """
    (critter,) = scene.critters
    return np.stack(
        [
            render(
                replace(scene, critters=(replace(critter, missing=(*critter.missing, part)),)), size
            )[0]
            for part in REMOVABLE
        ]
    )


class _Brush:
    """The critter's own coordinates over its box of pixels, and the one way to paint there."""

    def __init__(
        self, image: Floats, parts: NDArray[np.int8], critter: Critter, first_label: int
    ) -> None:
        size = image.shape[-1]
        self.critter = critter
        self.first_label = first_label
        self.pixels = critter.height * size / _UNITS_TALL  # one unit in pixels
        left, right = _span(critter.x * size, _REACH * self.pixels, size)
        top, bottom = _span(critter.y * size, _REACH * self.pixels, size)
        self.image = image[:, top:bottom, left:right]
        self.parts = parts[top:bottom, left:right]
        across = (np.arange(left, right, dtype=np.float32) + 0.5 - critter.x * size) / self.pixels
        down = (np.arange(top, bottom, dtype=np.float32) + 0.5 - critter.y * size) / self.pixels
        cos, sin = np.float32(np.cos(critter.angle)), np.float32(np.sin(critter.angle))
        self.x: Floats = across * cos + down[:, None] * sin
        self.y: Floats = down[:, None] * cos - across * sin
        self.mirrored: Floats = np.abs(self.x)
        slope = critter.light
        self.shade: Floats = 1 + slope[0] * self.x + slope[1] * self.y

    def paint_critter(self) -> None:
        """Paint all parts from back to front."""
        critter, colours = self.critter, self.critter.colours
        drawn = set(REMOVABLE) - set(critter.missing)
        if "tail" in drawn:
            self.paint(self.tail(), colours["tail"], _TAIL)
        if "legs" in drawn:
            self.paint(_box(self.mirrored - 0.2, self.y - 0.9, 0.11, 0.2), colours["body"], _SHARED)
        ornament = _ORNAMENT_SHAPES[critter.ornament](self)
        hat = critter.ornament == 3  # sits on the head; every other ornament grows behind it
        if "ornament" in drawn and not hat:
            self.paint(ornament, colours["ornament"], _ORNAMENT)
        body = _ellipse(self.x, self.y - 0.32, 0.46 * critter.girth, 0.55)
        self.paint(body, colours["body"], _SHARED)
        if "pattern" in drawn:
            belly = _disc(self.x, self.y - _BELLY_Y, _BELLY_RADIUS)
            self.paint(belly, colours["belly"], _PATTERN, outline=0.0)
            motif = np.maximum(_PATTERN_SHAPES[critter.pattern](self), belly)
            self.paint(motif, colours["pattern"], _PATTERN, outline=0.0)
        head = _disc(self.x, self.y + 0.42, 0.35 * critter.head)
        self.paint(head, colours["body"], _SHARED)
        if "eyes" in drawn:
            eyes = _disc(self.mirrored - 0.14, self.y + 0.42, 0.085)
            self.paint(eyes, colours["eyes"], _SHARED, outline=0.0)
        if "ornament" in drawn and hat:
            self.paint(ornament, colours["ornament"], _ORNAMENT)

    def paint(self, distance: Floats, colour: Floats, part: int, *, outline: float = 0.5) -> None:
        """Blend one shape over the picture; `outline` darkens its last pixel by that share."""
        depth = 0.5 - distance * self.pixels
        cover = depth.clip(0, 1)
        shade = self.shade
        if outline:
            inner = (depth - 1).clip(0, 1)
            shade = shade * (1 - outline + outline * inner)
        self.image += cover * (colour[:, None, None] * shade - self.image)
        self.parts[cover > 0.5] = self.first_label + part

    def tail(self) -> Floats:
        """A bar from the body's side, with the tip that the critter happens to have."""
        critter = self.critter
        x = self.x * critter.tail_side
        end_x = 0.42 + 0.42 * np.cos(critter.tail_lift)
        end_y = 0.5 - 0.42 * np.sin(critter.tail_lift)
        distance = _bar(x, self.y, (0.3, 0.5), (end_x, end_y), 0.06)
        if critter.tail_tip == 1:
            return np.minimum(distance, _disc(x - end_x, self.y - end_y, 0.14))
        if critter.tail_tip == 2:
            return np.minimum(distance, _box(x - end_x, self.y - end_y, 0.12, 0.12))
        return distance


def _round_ears(brush: _Brush) -> Floats:
    return _disc(brush.mirrored - 0.31, brush.y + 0.74, 0.21)


def _pointed_ears(brush: _Brush) -> Floats:
    """A triangle with its tip at (0.36, -1.14): an upright outer side, a slanted inner one."""
    x, y = brush.mirrored - 0.36, brush.y + 1.14
    inner = 0.84 * -x - 0.54 * y  # the side that runs down towards the middle of the head
    outer = 0.99 * x - 0.14 * y
    sides = np.maximum(np.maximum(inner, outer), -y)  # -y ends the antialiasing at the tip
    ears: Floats = np.maximum(sides, y - 0.62) * 0.9
    return ears


def _antennae(brush: _Brush) -> Floats:
    stalk = _bar(brush.mirrored, brush.y, (0.1, -0.7), (0.27, -1.03), 0.04)
    return np.minimum(stalk, _disc(brush.mirrored - 0.28, brush.y + 1.06, 0.105))


def _hat(brush: _Brush) -> Floats:
    brim = _box(brush.x, brush.y + 0.71, 0.43, 0.06)
    return np.minimum(brim, _box(brush.x, brush.y + 0.92, 0.24, 0.22))


def _spot(brush: _Brush) -> Floats:
    return _disc(brush.x, brush.y - _BELLY_Y, 0.19)


def _bars_across(brush: _Brush) -> Floats:
    return _stripes(brush.y - _BELLY_Y)


def _bars_upright(brush: _Brush) -> Floats:
    return _stripes(brush.x)


def _quadrants(brush: _Brush) -> Floats:
    y = brush.y - _BELLY_Y
    nearest = np.minimum(brush.mirrored, np.abs(y))
    quadrants: Floats = np.where((brush.x > 0) == (y > 0), -nearest, nearest)
    return quadrants


_ORNAMENT_SHAPES: tuple[Callable[[_Brush], Floats], ...] = (
    _round_ears,
    _pointed_ears,
    _antennae,
    _hat,
)
_PATTERN_SHAPES: tuple[Callable[[_Brush], Floats], ...] = (
    _spot,
    _bars_across,
    _bars_upright,
    _quadrants,
)


def _span(centre: float, reach: float, size: int) -> tuple[int, int]:
    return max(0, int(centre - reach)), min(size, int(centre + reach) + 1)


def _disc(x: Floats, y: Floats, radius: float) -> Floats:
    return np.sqrt(x * x + y * y) - radius


def _ellipse(x: Floats, y: Floats, radius_x: float, radius_y: float) -> Floats:
    """Exact on the outline, scaled by the smaller radius elsewhere."""
    x, y = x / radius_x, y / radius_y
    return (np.sqrt(x * x + y * y) - 1) * np.float32(min(radius_x, radius_y))


def _box(x: Floats, y: Floats, half_x: float, half_y: float) -> Floats:
    return np.maximum(np.abs(x) - half_x, np.abs(y) - half_y)


def _bar(
    x: Floats, y: Floats, start: tuple[float, float], end: tuple[float, float], half: float
) -> Floats:
    """A thick line with round ends."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    length = along_x**2 + along_y**2
    x, y = x - start[0], y - start[1]
    share = x * np.float32(along_x / length) + y * np.float32(along_y / length)
    np.clip(share, 0.0, 1.0, out=share)
    return _disc(x - share * along_x, y - share * along_y, half)


def _stripes(across: Floats) -> Floats:
    folded = across - _BAR_PERIOD * np.rint(across / _BAR_PERIOD)
    stripes: Floats = np.abs(folded) - _BAR_HALF
    return stripes
