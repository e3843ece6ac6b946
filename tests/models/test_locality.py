"""How far from a changed patch a layer answers, by hand and on networks whose order is known."""

import pytest
import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from var_exp.models.locality import (
    Patch,
    cells_away,
    change,
    changed,
    is_local,
    locality,
    row_ends,
    two_patches_twice,
)
from var_exp.models.spatial import Target

IMAGE = torch.zeros(1, 3, 32, 32)


def test_only_the_patches_are_changed_and_only_the_kind_of_the_image_counts():
    patches = [[Patch(0, 4, 8, 16)], [Patch(20, 24, 0, 4), Patch(30, 32, 30, 32)]]
    pictures = changed(IMAGE.double(), patches)
    assert pictures.dtype == torch.float64
    assert torch.equal(pictures, changed(torch.randn(1, 3, 32, 32).double(), patches))
    for difference, places in zip(pictures[1:] - pictures[:1], patches, strict=True):
        expected = torch.zeros(32, 32, dtype=torch.bool)
        for top, bottom, left, right in places:
            expected[top:bottom, left:right] = True
        assert torch.equal(difference.ne(0).all(0), expected)
        assert torch.equal(difference.ne(0).any(0), expected)


def test_changes_are_squared_distances():
    maps = torch.randn(3, 5, 2, 2)
    found = change(maps)
    for n in (1, 2):
        for i in (0, 1):
            for j in (0, 1):
                expected = torch.dist(maps[n, :, i, j], maps[0, :, i, j]) ** 2
                torch.testing.assert_close(found[n - 1, i, j], expected)


def lit(*cells, size=8):
    changes = torch.zeros(1, size, size)
    for rank, cell in enumerate(cells):
        changes[0][cell] = 10.0 - rank
    return changes


@pytest.mark.parametrize(
    ("cell", "expected"), [((2, 4), 0), ((2, 5), 0), ((1, 3), 1), ((3, 6), 1), ((2, 7), 2)]
)
def test_cells_are_counted_from_those_under_the_patch(cell, expected):
    patch = Patch(8, 12, 16, 24)  # of 32 x 32: the cells (2, 4) and (2, 5)
    assert cells_away(lit(cell), [[patch]], (32, 32)).tolist() == [[expected]]


def test_two_patches_answer_each_in_the_cells_nearer_to_it():
    patches = [[Patch(0, 4, 0, 4), Patch(28, 32, 28, 32)]]
    assert cells_away(lit((0, 1), (6, 6)), patches, (32, 32)).tolist() == [[1, 1]]
    # the weaker one is missing: the strongest cell on its side does not lie near it
    assert cells_away(lit((0, 0), (4, 4)), patches, (32, 32)).tolist() == [[0, 3]]


def test_cells_that_change_alike_are_no_answer():
    everywhere = torch.ones(1, 8, 8) + 1e-5 * lit((0, 0))
    assert cells_away(everywhere, [[Patch(0, 4, 0, 4)]], (32, 32)).tolist() == [[7]]


def test_silence_is_no_answer():
    assert cells_away(torch.zeros(1, 8, 8), [[Patch(0, 4, 0, 4)]], (32, 32)).isnan().all()


def test_cells_of_a_padded_image():
    patch = Patch(0, 4, 0, 4)  # in a frame that begins 16 pixels before: row 4 of 12, not 0 of 8
    away = cells_away(lit((4, 4), size=12), [[patch]], (32, 32), frame=(-16, -16, 48, 48))
    assert away.tolist() == [[0]]


@pytest.mark.parametrize(
    "turn",
    [
        lambda m: m.mT,
        lambda m: m.flip(-1),
        lambda m: m.flip(-2),
        lambda m: m.rot90(1, (-2, -1)),
        lambda m: m.rot90(2, (-2, -1)),
        lambda m: m.rot90(3, (-2, -1)),
        lambda m: m.roll(2, -1),
        lambda m: m.unflatten(-2, (2, 7)).unflatten(-1, (2, 7)).transpose(-3, -2).reshape(m.shape),
    ],
)
def test_two_pictures_tell_every_other_order_of_the_cells(turn):
    patches = two_patches_twice((224, 224))
    changes = torch.stack(
        [
            change(changed(torch.zeros(1, 1, 224, 224), [places]))[0]
            .unfold(0, 16, 16)
            .unfold(1, 16, 16)
            .sum((2, 3))
            for places in patches
        ]
    )
    assert cells_away(changes, patches, (224, 224)).tolist() == [[0, 0], [0, 0]]
    assert cells_away(turn(changes), patches, (224, 224)).max() > 1


def orders(h, w):
    """Ways in which a network may keep its tokens, by name; those of [h, w] row by row."""
    rows = torch.arange(h * w).view(h, w)
    snake = rows.clone()
    snake[1::2] = snake[1::2].flip(1)
    found = {
        "mirrored": rows.flip(1),
        "upside down": rows.flip(0),
        "turned": rows.rot90(1).reshape(h, w),
        "turned twice": rows.flip(0, 1),
        "columns first": rows.mT.reshape(h, w),
        "every second row turned": snake,
        "odd rows first": torch.cat([rows[1::2], rows[::2]]),
        "halves changed": rows.roll(h // 2, 0),
        "shuffled": torch.randperm(h * w, generator=torch.Generator().manual_seed(0)).view(h, w),
    }
    for by in (-16, -7, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 7, 16):
        found[f"{by} tokens in front"] = rows.flatten().roll(by).view(h, w)
    late = rows.flatten()[h * w // 2 :].roll(1)
    found["one among them"] = torch.cat([rows.flatten()[: h * w // 2], late]).view(h, w)
    for k in (2, 3, 4, 7, 8):
        if h % k == w % k == 0 and k < min(h, w):
            windows = rows.view(h // k, k, w // k, k)
            found[f"windows of {k}"] = windows.transpose(1, 2).reshape(h, w)
            found[f"unrolled by {k}"] = windows.permute(1, 3, 0, 2).reshape(h, w)
            found[f"dilated by {k}"] = rows.view(k, h // k, k, w // k).transpose(1, 2).reshape(h, w)
    return found


def answers(size, grid, patches, spread, everywhere):
    """How much each cell changes whose own pixels are, its neighbours and all others a little."""
    pictures = changed(torch.zeros(1, 1, *size), patches)
    own = adaptive_avg_pool2d((pictures[1:] - pictures[:1]).ne(0).float(), grid)[:, 0]
    near = avg_pool2d(own[:, None], 3, 1, 1)[:, 0]
    noise = torch.rand(own.shape, generator=torch.Generator().manual_seed(1))
    return own + spread * near + everywhere * own.mean((1, 2), keepdim=True) * noise


@pytest.mark.parametrize(("spread", "everywhere"), [(0, 0), (1, 0.5)])
@pytest.mark.parametrize(
    ("size", "grid"),
    [
        *(
            ((side, side), (cells, cells))
            for side, cells in ((224, 7), (64, 8), (224, 9), (192, 12))
        ),
        *(((side, side), (cells, cells)) for side, cells in ((224, 14), (256, 16), (224, 28))),
        *(((side, side), (cells, cells)) for side, cells in ((518, 37), (448, 56))),
        *(((128, 64), (16, 8)), ((224, 160), (14, 10)), ((256, 128), (32, 16))),
    ],
    ids=str,
)
def test_one_pass_tells_the_order_of_the_rows_from_every_other(size, grid, spread, everywhere):
    patches = two_patches_twice(size) + row_ends(size)
    changes = answers(size, grid, patches, spread, everywhere)
    assert is_local(changes, patches, size)
    taken = {
        name
        for name, order in orders(*grid).items()
        if order.tolist() != torch.arange(grid[0] * grid[1]).view(grid).tolist()
        and is_local(changes.flatten(1)[:, order.flatten()].unflatten(1, grid), patches, size)
    }
    assert taken <= ({"16 tokens in front", "-16 tokens in front"} if grid[1] == 16 else set())


def test_local_is_what_answers_every_patch_more_than_any_other_place():
    patches = [[Patch(0, 4, 0, 4), Patch(28, 32, 28, 32)]]
    near = lit((0, 1), (6, 6))
    assert is_local(near, patches, (32, 32))
    assert not is_local(lit((0, 1)), patches, (32, 32))  # one is not answered
    # the weaker answer is 9
    assert not is_local(near + 4.6 * lit((4, 4)).bool(), patches, (32, 32))
    assert is_local(near + 4.4 * lit((4, 4)).bool(), patches, (32, 32))
    assert not is_local(torch.zeros(1, 8, 8), patches, (32, 32))
    assert not is_local(near.masked_fill(near == 0, torch.nan), patches, (32, 32))


class Patches(nn.Module):
    """Tokens of 4 x 4 pixels, in the order that is asked for."""

    def __init__(self, order):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.order = nn.Conv2d(3, 8, 4, 4), order
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, images):
        tokens = self.embed(images).flatten(2).transpose(1, 2)[:, self.order]
        return self.head(self.norm(tokens).mean(1))


def test_the_figure_of_known_orders():
    rows = torch.arange(64)
    target = Target("norm", "tokens", (8, 8))
    assert locality(Patches(rows), IMAGE, target) == 0
    assert locality(Patches(rows.roll(1)), IMAGE, target) == 7  # the last of a row opens the next
    assert locality(Patches(rows.view(8, 8).T.flatten()), IMAGE, target) == 7
    assert locality(Patches(rows.view(8, 8).roll(1, 0).flatten()), IMAGE, target) == 7
    unrolled = rows.view(4, 2, 4, 2).permute(1, 3, 0, 2).flatten()  # as Hiera keeps them
    assert locality(Patches(unrolled), IMAGE, target) > 1


def test_a_layer_that_does_not_see_the_image_has_no_figure():
    model = Patches(torch.arange(64))
    nn.init.zeros_(model.embed.weight)
    assert locality(model, IMAGE, Target("norm", "tokens", (8, 8))) is None
