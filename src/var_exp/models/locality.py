"""Whether the cells of a feature map answer for the places in the image that they lie over.

A patch of the image is changed, and the cell that changes most is looked up: it should lie over the
patch. These are differences of forward passes, since attention and normalisation let every cell
depend on every pixel, if only a little, and gradients do not say how much. The pictures are made
here, of noise: what is found belongs to the network and does not differ from image to image.

    1 0 . . . . .        cells away from a patch that lies over the cell 0;
    1 1 . . . . .        where two patches are changed at once, each answers in the cells that are
    . . . . . . .        nearer to it than to the other
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from var_exp.models.frozen import frozen
from var_exp.models.grids import Grid
from var_exp.models.spatial import Frame, Target, first_of
from var_exp.types import Images

NEAR = 1
"""Cells between a patch and its answer at most: the fields of view of two neighbours overlap."""

ENOUGH = 7
"""Cells along a side from which on two patches in one picture are told apart well."""

_FINE = 56  # parts of a side
_ROW_ENDS = (  # found by search: no order that networks are known to have makes them look alike
    ((27, 0), (5, 55), (54, 0), (0, 18), (19, 19), (44, 48)),
    ((52, 0), (12, 55), (25, 0), (55, 26), (7, 13), (14, 41)),
    ((3, 0), (49, 55), (34, 0), (49, 14), (13, 48), (34, 50)),
)
_BEYOND_DOUBT = 2
_DRAWS = 3  # of pictures, until a patch is answered
_LEVEL = 1e-3  # share by which changes differ that count as the same: then the farthest counts
_SILENT = 1e-9  # share of the largest change below which a change is rounding


class Patch(NamedTuple):
    """Pixels of the image from top to bottom and from left to right, the ends not included."""

    top: int
    bottom: int
    left: int
    right: int


def two_patches_twice(size: Grid) -> list[list[Patch]]:
    """Patches for two pictures, which tell apart all orders of rows and columns."""
    sevenths = [[(0, 6), (3, 1)], [(6, 0), (1, 4)]]
    return [[_cell(size, (ENOUGH, ENOUGH), cell) for cell in cells] for cells in sevenths]


def row_ends(size: Grid) -> list[list[Patch]]:
    """Small patches for three pictures, many at the ends of rows: tokens have an order and no axes.

    With those of `two_patches_twice` they tell apart the orders that networks are known to have.
    """
    return [[_cell(size, (_FINE, _FINE), cell) for cell in cells] for cells in _ROW_ENDS]


def changed(
    image: Images, patches: Sequence[Sequence[Patch]], seed: int = 0, by: float = 1.0
) -> Images:
    """A picture of noise, and behind it copies that are changed at the patches.

    Args:
        image: [1, C, H, W], of which only the shape, type and device count.
        patches: For each copy the patches that are changed.
        seed: Of the noise.
        by: Standard deviation of the change; that of the noise is 1.

    Returns:
        [1 + copies, C, H, W]
    """
    stream = torch.Generator().manual_seed(seed)
    noise = torch.randn(image.shape[1:], generator=stream)
    pictures = noise.repeat(1 + len(patches), 1, 1, 1)
    for picture, places in zip(pictures[1:], patches, strict=True):
        for top, bottom, left, right in places:
            area = picture[:, top:bottom, left:right]
            area += by * torch.randn(area.shape, generator=stream)
    return pictures.to(image)


def change(maps: Float[Tensor, "1+n D h w"]) -> Float[Tensor, "n h w"]:
    """How much each position of the copies differs from the first picture, squared."""
    wide = maps.detach().to(torch.promote_types(maps.dtype, torch.float32))
    return (wide[1:] - wide[:1]).square().sum(1)


def cells_away(
    changes: Float[Tensor, "... n h w"],
    patches: Sequence[Sequence[Patch]],
    size: Grid,
    frame: Frame | None = None,
) -> Float[Tensor, "... n P"]:
    """For each patch, how far from it the cell lies that changes most.

    The longer side of the grid where only cells that are nearer to another patch change, NaN where
    none does in the whole picture.

    Args:
        changes: Of n pictures, at each position.
        patches: The P that are changed in each picture.
        size: (H, W) of the image.
        frame: As of `Target`.
    """
    changes = changes.cpu()
    distances = _distances(changes.shape[-2:], patches, size, frame)
    mine = distances == distances.amin(1, keepdim=True)
    each = changes.unsqueeze(-3).where(mine, -1).flatten(-2)
    most = each.amax(-1, keepdim=True)
    away = distances.flatten(-2).where(each >= (1 - _LEVEL) * most, 0).amax(-1)
    strongest = changes.flatten(-2).amax(-1, keepdim=True)
    away = away.where(most.squeeze(-1) > _SILENT * strongest, float(max(changes.shape[-2:])))
    return away.where(strongest > 0, torch.nan)


def is_local(
    changes: Float[Tensor, "n h w"],
    patches: Sequence[Sequence[Patch]],
    size: Grid,
    frame: Frame | None = None,
) -> bool:
    """Whether each patch is answered near it, and by cells that are near to none not half as much.

    Stricter than `cells_away`, which gives each patch the cells that are nearer to it than to the
    others: only what is beyond doubt is local.

    Args:
        changes: Of n pictures, at each position.
        patches: Those changed in each of them.
        size: (H, W) of the image.
        frame: As of `Target`.
    """
    for change, places in zip(changes.cpu(), patches, strict=True):
        near = _distances(change.shape, [places], size, frame)[0] <= NEAR
        weakest = change.where(near, -torch.inf).amax((1, 2)).amin()
        if not weakest > _BEYOND_DOUBT * change.where(~near.any(0), 0).amax():
            return False
    return True


def locality(model: nn.Module, image: Images, target: Target) -> int | None:
    """Cells between a changed patch and the cell that changes most, at the worst of some places.

    Args:
        model: Any module from images to logits; it runs in eval mode.
        image: [1, C, H, W], of which only the shape, type and device count.
        target: A layer of the model, as `models.targets.find_target` returns it.

    Returns:
        0 where the cell over the patch answers, 1 where a neighbour does; more is not local, and
        the longer side of the grid means no answer. None where no cell answers any patch, as where
        all features are zero.
    """
    return localities(model, image, [target])[0]


def localities(model: nn.Module, image: Images, targets: Sequence[Target]) -> list[int | None]:
    """As `locality`, for several ways to read one layer on one grid.

    One forward pass of a picture and copies of it with one patch changed, as large as a cell:
    corners and two places between. Tokens have no axes, only an order, so theirs are tried at more
    places, where rows begin and end in particular: there tokens that are shifted by one are far
    off. Where nothing answers, or a token that is no neighbour, two other pictures are tried: what
    attention mixes differs from picture to picture, the order of the tokens does not.
    """
    size, grid = (image.shape[2], image.shape[3]), targets[0].grid
    # cells of the image, not of the frame, so that no patch lies in the padding
    patches = [[_cell(size, grid, cell)] for cell in _places(targets[0])]
    away = torch.full((len(targets), len(patches)), torch.nan)
    for draw in range(_DRAWS):
        doubtful = away.isnan() | (away > NEAR) & (targets[0].layout == "tokens")
        asked = doubtful.all(0).nonzero().flatten().tolist()
        if not asked:
            break
        some = [patches[place] for place in asked]
        output = _output(model, changed(image, some, seed=draw, by=1 + 2 * draw), targets[0])
        for found, target in zip(away, targets, strict=True):
            now = cells_away(change(target.to_map(output)), some, size, target.frame)[:, 0]
            found[asked] = found[asked].fmin(now)  # NaN only where both are
    return [
        None if found.isnan().all() else int(found.nan_to_num(float(max(grid))).max())
        for found in away
    ]


def _places(target: Target) -> list[Grid]:
    """Cells whose patches are changed."""
    h, w = target.grid
    cells = [(0, 0), (0, w - 1), (h - 1, 0), (h // 2, w // 4), (h // 4, w - 1 - w // 4)]
    if target.layout == "tokens":
        cells.append((h - 1, w - 1))
        for row in (1, h // 2, (h // 2 + 1) % h):  # even and odd ones
            cells += [(row % h, 0), (row % h, w - 1), (row % h, w // 2)]
    return list(dict.fromkeys(cells))


def _output(model: nn.Module, pictures: Images, target: Target) -> Tensor:
    """What a layer returns for some pictures."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        outputs.append(first_of(output).detach().clone())  # a later layer may overwrite it

    handle = model.get_submodule(target.name).register_forward_hook(keep)
    try:
        with torch.inference_mode(False), torch.no_grad(), frozen(model):
            model(pictures)
    finally:
        handle.remove()
    return outputs[target.run]


def _cell(size: Grid, grid: Grid, cell: Grid) -> Patch:
    """Pixels under a cell of a grid over the image, one at least."""
    ends = [
        (side * i // n, max(side * (i + 1) // n, side * i // n + 1))
        for side, n, i in zip(size, grid, cell, strict=True)
    ]
    return Patch(*ends[0], *ends[1])


def _distances(
    grid: torch.Size, patches: Sequence[Sequence[Patch]], size: Grid, frame: Frame | None
) -> Float[Tensor, "n P h w"]:
    """How many cells each cell is away from those that lie over a patch."""
    top, left, *covered = frame or (0, 0, *size)
    return torch.stack(
        [
            torch.stack(
                [
                    torch.maximum(
                        _along(grid[0], covered[0], p.top - top, p.bottom - top)[:, None],
                        _along(grid[1], covered[1], p.left - left, p.right - left),
                    )
                    for p in places
                ]
            )
            for places in patches
        ]
    )


def _along(cells: int, pixels: int, start: int, end: int) -> Float[Tensor, " cells"]:
    """How many cells each of those along a side is away from those that touch these pixels."""
    first, last = start * cells // pixels, (end * cells - 1) // pixels
    places = torch.arange(cells, dtype=torch.float32)
    return torch.maximum(first - places, places - last).clamp(min=0)
