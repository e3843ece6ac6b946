"""How far from a changed patch a layer answers, by hand and on networks whose order is known."""

import pytest
import torch
from torch import nn

from var_exp.models.locality import Patch, cells_away, change, changed, locality, two_patches_twice
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
