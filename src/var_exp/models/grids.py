"""Which grids (h, w) of positions a network works on, and which of them a number of tokens makes.

Nothing is decided by class names. A map with two spatial axes shows its grid. Tokens do not: their
number has to be followed from a grid that was seen, through merging (2 x 2 become one, an odd row
or column is padded or dropped) and through tokens without a place, such as a class token. What a
number proposes is a guess; `models.locality` tells whether the tokens lie where it says.
"""

from math import isqrt
from typing import TypeAlias

Grid: TypeAlias = tuple[int, int]

MOST_OTHERS = 16
"""As many tokens without a place are usual: class, distillation, registers."""


class Grids:
    """The grids that one forward pass has shown.

    Args:
        size: (H, W) of the image.
    """

    def __init__(self, size: Grid) -> None:
        self.size = size
        self.seen: list[Grid] = []
        """In the order in which they were last seen."""

    def fits(self, h: int, w: int) -> bool:
        """Whether h x w positions are shaped as the image, up to rounding, and no finer than it."""
        height, width = self.size
        tolerance = 0 if height == width else 1
        return 1 < h * w <= height * width and abs(w - h * width / height) <= tolerance

    def add(self, grid: Grid) -> None:
        """Note a grid; a single position is none."""
        if grid[0] * grid[1] > 1:
            self.seen = [other for other in self.seen if other != grid] + [grid]

    def of_tokens(self, count: int) -> list[tuple[Grid, int]]:
        """Grids that so many tokens may make up, each with the number of tokens without a place.

        First those of the fewest tokens without a place. Where no grid was seen at all, as behind
        patches that were cut out by hand, grids of the image's shape.
        """
        found: dict[Grid, int] = {}
        for seen in reversed(self.seen):
            for grid in (seen, *_merged(seen)):
                places = grid[0] * grid[1]
                most = max(places - 1, MOST_OTHERS) if grid == seen else places // 4
                if 0 <= count - places <= most:
                    found[grid] = count - places
        if not self.seen:
            found = {
                (h, w): rest
                for rest in range(min(MOST_OTHERS + 1, count))
                for h, w in self._of_the_images_shape(count - rest)
            }
        return sorted(found.items(), key=lambda each: each[1])

    def _of_the_images_shape(self, count: int) -> list[Grid]:
        near = isqrt(count * self.size[0] // self.size[1])
        heights = [h for h in (near, near + 1) if h and count % h == 0]
        return [(h, count // h) for h in heights if self.fits(h, count // h)]


def _merged(grid: Grid) -> list[Grid]:
    """What merging 2 x 2 makes of a grid, again and again."""
    found: list[Grid] = []
    for padded in (1, 0):
        h, w = grid
        while h * w > 4:
            h, w = (h + padded) // 2, (w + padded) // 2
            if h * w > 1 and (h, w) not in found:
                found.append((h, w))
    return found
