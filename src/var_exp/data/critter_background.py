"""What is behind the critters: a smooth colour field, an oriented texture, clutter, and noise."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIELD_KNOTS = 4
"""Random colours along each side of the smooth colour field."""

_CLUTTER_KINDS = 4


TAG_HALF = 0.07
"""Half the side of a tag, in shares of the picture's side."""
_TAG_RIM, _TAG_COLOUR = (0.05, 0.05, 0.05), (0.95, 0.1, 0.85)


@dataclass(frozen=True, eq=False)
class Background:
    """Everything that decides the picture apart from its critters.

    Attributes:
        field: Colours of the knots of the smooth field, [3, FIELD_KNOTS, FIELD_KNOTS] in [0, 1].
        texture: Amplitude of the stripes per colour channel, [3].
        waves: Stripe periods along x and y that fit in the picture.
        phase: Phase of the stripes in radians.
        clutter: One row per geometric shape, [n, 8]: kind, x, y, radius (in shares of the
            picture's side), angle, and RGB.
        noise: Standard deviation of the noise on every pixel of the picture.
        noise_seed: Seed of that noise.
        tag: Centre, x and y in shares of the picture's side, of a magenta square with a black rim;
            None is a picture without.
    """

    field: NDArray[np.floating[Any]]
    texture: NDArray[np.floating[Any]]
    waves: tuple[float, float]
    phase: float
    clutter: NDArray[np.float64]
    noise: float
    noise_seed: int
    tag: tuple[float, float] | None = None

    def noise_field(self, size: int) -> NDArray[np.floating[Any]]:
        """Uniform noise [3, size, size] around 0 with the scene's own seed."""
        generator = np.random.Generator(np.random.Philox(key=self.noise_seed))
        unit = generator.random((3, size, size), dtype=np.float32) - np.float32(0.5)
        return unit * np.float32(np.sqrt(12) * self.noise)


def sample_background(generator: np.random.Generator) -> Background:
    """Draw a background."""
    angle, waves = generator.uniform((0, 3), (np.pi, 12))
    shapes = int(generator.integers(2, 8))
    low = [0, 0, 0, 0.02, 0, 0, 0, 0]
    high = [_CLUTTER_KINDS, 1, 1, 0.08, 2 * np.pi, 1, 1, 1]
    strength = 0.22 * max(0.0, generator.uniform(-0.5, 1))  # a third has no texture
    return Background(
        field=generator.random((3, FIELD_KNOTS, FIELD_KNOTS), dtype=np.float32),
        texture=generator.uniform(-strength, strength, 3).astype(np.float32),
        waves=(waves * np.cos(angle), waves * np.sin(angle)),
        phase=generator.uniform(0, 2 * np.pi),
        clutter=generator.uniform(low, high, (shapes, 8)),
        noise=generator.uniform(0.0, 0.08),
        noise_seed=int(generator.integers(2**62)),
    )


def draw_background(background: Background, size: int) -> NDArray[np.floating[Any]]:
    """Paint a background without its noise: [3, size, size], unclipped."""
    pixels = (np.arange(size, dtype=np.float32) + 0.5) / size
    blend = _hat_weights(size)
    image: NDArray[np.floating[Any]] = blend @ background.field @ blend.T
    turn = np.float32(2 * np.pi)
    x = turn * np.float32(background.waves[0]) * pixels
    y = turn * np.float32(background.waves[1]) * pixels + np.float32(background.phase)
    stripes = np.outer(np.sin(y), np.cos(x)) + np.outer(np.cos(y), np.sin(x))
    image += background.texture[:, None, None] * stripes
    for shape in background.clutter:
        _paint_clutter(image, shape, pixels)
    if background.tag is not None:
        for half, colour in ((TAG_HALF, _TAG_RIM), (0.7 * TAG_HALF, _TAG_COLOUR)):
            square = [1.5, *background.tag, half / 0.85, 0.0, *colour]
            _paint_clutter(image, np.array(square), pixels)
    return image


def _hat_weights(size: int) -> NDArray[np.floating[Any]]:
    """Smoothed linear interpolation from the knots to the pixels, [size, FIELD_KNOTS]."""
    at = np.linspace(0, FIELD_KNOTS - 1, size, dtype=np.float32)[:, None]
    hats = np.clip(1 - np.abs(at - np.arange(FIELD_KNOTS, dtype=np.float32)), 0, 1)
    smooth: NDArray[np.floating[Any]] = hats * hats * (3 - 2 * hats)
    return smooth


def _paint_clutter(
    image: NDArray[np.floating[Any]], shape: NDArray[np.float64], pixels: NDArray[np.floating[Any]]
) -> None:
    """Blend one antialiased disc, square, triangle or stick over the picture."""
    kind, centre_x, centre_y, radius, angle = shape[:5].tolist()
    size = len(pixels)
    reach = 1.5 * radius
    columns = slice(max(0, int((centre_x - reach) * size)), int((centre_x + reach) * size) + 1)
    rows = slice(max(0, int((centre_y - reach) * size)), int((centre_y + reach) * size) + 1)
    across, down = pixels[columns] - centre_x, pixels[rows, None] - centre_y
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = across * cos + down * sin, down * cos - across * sin
    if kind < 1:
        distance = np.sqrt(x * x + y * y) - radius
    elif kind < 2:
        distance = np.maximum(np.abs(x), np.abs(y)) - 0.85 * radius
    elif kind < 3:
        distance = np.maximum(0.87 * np.abs(x) - 0.5 * y, y)
        distance -= 0.6 * radius
    else:
        thin = np.abs(y) - 0.25 * radius
        distance = np.maximum(np.abs(x) - 1.45 * radius, thin)
    cover = (0.5 - distance * size).clip(0, 1)
    box = image[:, rows, columns]
    box += cover * (shape[5:, None, None].astype(np.float32) - box)
