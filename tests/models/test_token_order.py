"""The order of tokens is read off rightly or refused, also where it is nearly the usual one."""

import pytest
import torch
from changed_cells import farthest_answer
from torch import nn
from torch.nn.functional import pad

from var_exp.models.targets import find_target
from var_exp.types import UnsupportedModel


class Tokens(nn.Module):
    """Patches of 8 px through two blocks; `order` puts the tokens and others into a sequence."""

    def __init__(self, order, read=lambda tokens: tokens.mean(1), batch_first=True):
        super().__init__()
        torch.manual_seed(3)
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.others = nn.Parameter(torch.randn(1, 4, 32))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(32, 2, 64, 0.0, batch_first=batch_first, norm_first=True)
                for _ in range(2)
            )
        )
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)
        self.order, self.read = order, read

    def forward(self, images):
        grid = self.patches(images)
        tokens = self.order(grid, self.others.expand(len(images), -1, -1))
        return self.head(self.read(self.norm(self.blocks(tokens))))


def rows(grid):
    return grid.flatten(2).mT


def snake(grid):
    turned = grid.clone()
    turned[:, :, 1::2] = turned[:, :, 1::2].flip(3)
    return rows(turned)


def shuffled(grid):
    order = torch.randperm(grid[0, 0].numel(), generator=torch.Generator().manual_seed(1))
    return rows(grid)[:, order]


def inserted(grid, others):
    tokens, middle = rows(grid), grid[0, 0].numel() // 2
    return torch.cat([tokens[:, :middle], others[:, :1], tokens[:, middle:]], 1)


SHAPES = [(64, 64), (72, 72), (64, 96)]
KNOWN = {
    "in front": (lambda g, o: torch.cat([o, rows(g)], 1), 4),
    "behind": (lambda g, o: torch.cat([rows(g), o], 1), 0),
    "in front and behind": (lambda g, o: torch.cat([o[:, :3], rows(g), o[:, 3:]], 1), 3),
}
UNKNOWN = {
    "among them": inserted,
    "every second row turned": lambda g, o: snake(g),
    "shuffled": lambda g, o: shuffled(g),
    "columns first": lambda g, o: rows(g.mT),
    "backwards": lambda g, o: rows(g).flip(1),
    "of the middle alone": lambda g, o: rows(g[:, :, 2:-2, 2:-2]),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("where", KNOWN)
def test_other_tokens_stand_in_front_or_behind(where, shape):
    order, prefix = KNOWN[where]
    image = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(5))
    model = Tokens(order).eval()
    found = find_target(model, image)
    assert (found.name, found.prefix) == ("norm", prefix)
    assert found.grid == (shape[0] // 8, shape[1] // 8)
    assert farthest_answer(model, found, image) == 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("order", UNKNOWN)
def test_another_order_is_refused(order, shape):
    with pytest.raises(UnsupportedModel, match=r"places|do not change most"):
        find_target(Tokens(UNKNOWN[order]).eval(), torch.zeros(1, 3, *shape))


def test_tokens_before_pictures_are_refused_and_not_replaced_by_an_earlier_layer():
    model = Tokens(lambda g, o: rows(g).transpose(0, 1), lambda t: t.mean(0), batch_first=False)
    with pytest.raises(UnsupportedModel, match=r"they come before the pictures, \[N, B, D\]"):
        find_target(model.eval(), torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    "seen",
    [
        lambda x: x[:, :, 16:-16, 16:-16],
        lambda x: x[:, :, :32, :32],
        lambda x: pad(x[:, :, 16:-16], (0, 0, 0, 32)),
    ],
    ids=["the middle", "a corner", "moved"],
)
def test_networks_that_see_a_part_of_the_picture_are_refused(seen):
    class Part(nn.Sequential):
        def forward(self, images):
            return super().forward(seen(images))

    torch.manual_seed(0)
    model = Part(
        *(nn.Conv2d(3, 16, 5, 4, 2), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)),
    )
    with pytest.raises(UnsupportedModel, match=r"do not change most|crops or warps the picture"):
        find_target(model.eval(), torch.zeros(1, 3, 64, 64))


def test_what_a_module_hands_through_is_not_its_own():
    """As in CoaT, whose last block returns the finest tokens untouched beside those it changed."""

    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 16)

        def forward(self, untouched, tokens):
            return untouched, self.layer(tokens)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.fine, self.coarse = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 16, 2, 2)
            self.beside, self.head = Beside(), nn.Linear(16, 5)

        def forward(self, images):
            fine = self.fine(images)
            coarse = self.coarse(fine)
            _, tokens = self.beside(rows(fine), rows(coarse))
            return self.head(tokens.mean(1))

    found = find_target(Two().eval(), torch.zeros(1, 3, 32, 32))
    assert (found.name, found.grid) == ("coarse", (4, 4))
