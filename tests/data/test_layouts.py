"""Grids show what they claim, use every picture once, and are the same in every run."""

from dataclasses import replace
from hashlib import blake2b
from types import MappingProxyType

import pytest
import torch

from var_exp.data.layouts import Grid, pair, single
from var_exp.types import ConfigError, InputSpec, Sample, SampleDataset

SPEC = InputSpec(size=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
FIXED = InputSpec(size=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), fixed_size=True)


class Flat(SampleDataset):
    """Picture i is a constant image of value i / count, of class i mod `classes`."""

    def __init__(self, count: int = 40, classes: int = 5) -> None:
        self.count, self.class_names = count, [str(i) for i in range(classes)]

    def __len__(self):
        return self.count

    def label(self, index):
        return index % len(self.class_names)

    def sample_id(self, index):
        return f"flat-{index}"

    def __getitem__(self, index):
        return Sample(
            image=torch.full((3, 8, 8), index / self.count),
            classes=torch.tensor([self.label(index)]),
            regions=None,
            id=self.sample_id(index),
        )


def test_single_is_the_data_set_itself():
    data = Flat()
    assert single(data) is data


def test_pair_refuses_data_that_draw_no_scenes():
    with pytest.raises(ConfigError, match=r"layout=pair needs .* got Flat; use data=critters"):
        pair(Flat())


@pytest.mark.parametrize("n", [2, 3])
def test_each_region_of_a_grid_covers_exactly_the_picture_of_its_class(n):
    data = Flat(count=90, classes=10)
    grid = Grid(data, SPEC, n=n)
    sample = grid[0]
    assert sample.image.shape == (3, 8 * n, 8 * n)
    assert sample.regions.shape == (n * n, 8 * n, 8 * n)
    assert torch.equal(sample.regions.sum(0), torch.ones(8 * n, 8 * n, dtype=torch.int64))
    for position, (region, cell) in enumerate(zip(sample.regions, grid.cells[0], strict=True)):
        row, column = divmod(position, n)
        assert region[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8].all()
        assert torch.all(sample.image[:, region] == data[cell].image[0, 0, 0])
        assert sample.classes[position] == data.label(cell)
    assert sample.id == "+".join(f"flat-{cell}" for cell in grid.cells[0])
    assert grid.label(0) == sample.classes[0]
    assert grid.sample_id(0) == sample.id


def test_every_picture_is_used_once_and_classes_are_distinct():
    data = Flat(count=40, classes=5)
    grid = Grid(data, SPEC)
    used = [cell for cells in grid.cells for cell in cells]
    assert sorted(used) == list(range(40))  # 8 of each of 5 classes make exactly 10 grids of 4
    assert all(len({data.label(cell) for cell in cells}) == 4 for cells in grid.cells)


def test_grouping_depends_on_the_seed_alone():
    assert Grid(Flat(), SPEC).cells == Grid(Flat(), SPEC).cells
    assert Grid(Flat(), SPEC, seed=1).cells != Grid(Flat(), SPEC).cells
    assert Grid(Flat(), SPEC, count=3).cells == Grid(Flat(), SPEC).cells[:3]


@pytest.mark.parametrize(("seed", "classes"), [(0, 5), (3, 7)])
def test_who_meets_is_the_same_in_every_version(seed, classes):
    """By a plain loop and the hashes of the numbers."""
    data = Flat(count=60, classes=classes)

    def number(*key):
        return blake2b(repr((seed, *key)).encode(), digest_size=8).digest()

    left = {label: [] for label in range(classes)}
    for index in sorted(range(60), key=number):
        left[index % classes].append(index)
    for place, cells in enumerate(Grid(data, SPEC, seed=seed).cells):
        fullest = sorted(left, key=lambda label: (-len(left[label]), number(place, label)))[:4]
        fullest.sort(key=lambda label: number(place, label, 1))
        assert cells == [left[label].pop() for label in fullest]
        left = {label: rest for label, rest in left.items() if rest}
    assert len(left) < 4


def test_classes_have_no_favourite_cell():
    grid = Grid(Flat(count=4000, classes=5), SPEC)
    first = torch.bincount(torch.tensor([grid.label(i) for i in range(len(grid))]), minlength=5)
    assert (first - 200).abs().max() < 60  # 1,000 grids, expected 200 each, standard deviation 13


def test_cells_shrink_for_models_of_one_input_size():
    assert Grid(Flat(), FIXED)[0].image.shape == (3, 8, 8)
    assert Grid(Flat(), FIXED, cell="full")[0].image.shape == (3, 16, 16)
    assert Grid(Flat(), SPEC, cell="rescaled")[0].regions.shape == (4, 8, 8)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n": 1}, "layout.n must be at least 2, got 1"),
        ({"n": 3}, "of 9 different classes, .* has fewer; use a smaller layout.n or more data"),
        ({"cell": "half"}, "layout.cell must be auto, full or rescaled, got 'half'"),
    ],
)
def test_grids_that_cannot_be_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Grid(Flat(), SPEC, **options)


def test_pictures_of_several_sizes_make_no_grid():
    class Tall(Flat):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return replace(sample, image=sample.image[:, : 8 - index % 2])

    with pytest.raises(ConfigError, match=r"of a grid must have one size; use data\.view"):
        [Grid(Tall(), SPEC)[i] for i in range(10)]


def test_what_a_data_set_need_not_say_has_a_default_and_layouts_hand_it_on(tmp_path):
    class Told(Flat):
        model_names = ("x", "y")
        members = torch.ones(8, 2, dtype=torch.bool)
        skipped = MappingProxyType({"lost": "cut off"})
        notes = MappingProxyType({"a": "b"})

        def files(self):
            return iter([tmp_path])

    plain, told = Flat(8, 8), Told(8, 8)
    assert (plain.model_names, plain.members, plain.fewest, plain.scenes()) == (
        (),
        None,
        None,
        None,
    )
    assert (dict(plain.skipped), dict(plain.notes), list(plain.files())) == ({}, {}, [])
    assert plain.siblings.shape == (0, 0)
    assert plain.content(3) == plain.sample_id(3).encode()
    grid = Grid(told, SPEC)
    assert (grid.model_names, grid.notes, grid.skipped) == (
        ("x", "y"),
        {"a": "b"},
        {"lost": "cut off"},
    )
    assert grid.members is told.members
    assert list(grid.files()) == [tmp_path]
