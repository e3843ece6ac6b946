"""Which grids a number of tokens proposes, counted by hand."""

import pytest

from var_exp.models.grids import Grids


def grids(size, *seen):
    found = Grids(size)
    for grid in seen:
        found.add(grid)
    return found


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (3136, [((56, 56), 0)]),
        (784, [((28, 28), 0)]),  # merged 2 x 2, again, and again
        (196, [((14, 14), 0)]),
        (49, [((7, 7), 0)]),
        (50, [((7, 7), 1)]),
        (197, [((14, 14), 1)]),
        (3136 + 5, [((56, 56), 5)]),
        (3136 + 101, [((56, 56), 101)]),  # prompts
    ],
)
def test_merged_tokens_lead_back_to_the_patch_embedding(count, expected):
    assert grids((224, 224), (56, 56)).of_tokens(count) == expected


@pytest.mark.parametrize(("count", "grid"), [(91, (7, 13)), (72, (6, 12)), (28, (4, 7))])
def test_an_odd_row_is_padded_or_dropped(count, grid):
    assert (grid, 0) in grids((104, 200), (13, 25)).of_tokens(count)


def test_two_branches_propose_each_its_own_grid():
    seen = grids((240, 240), (20, 20), (14, 14))
    assert seen.of_tokens(401)[0] == ((20, 20), 1)
    assert seen.of_tokens(197)[0] == ((14, 14), 1)
    assert all(rest < 200 for _, rest in seen.of_tokens(401))  # not 14 x 14 and 205 others


def test_without_a_map_the_shape_of_the_image_counts():
    assert ((14, 14), 1) in grids((224, 224)).of_tokens(197)
    assert ((4, 8), 2) in grids((64, 128)).of_tokens(34)


def test_pruned_tokens_make_no_grid():
    assert grids((224, 224), (14, 14)).of_tokens(138) == []


def test_a_grid_is_shaped_as_the_image_and_no_finer():
    square, oblong = Grids((64, 64)), Grids((64, 96))
    assert square.fits(8, 8)
    assert not square.fits(8, 9)
    assert not square.fits(65, 65)
    assert not square.fits(1, 1)
    assert oblong.fits(2, 3)
    assert oblong.fits(3, 5)  # 4.5, rounded up
    assert not oblong.fits(4, 4)
