import hashlib
import itertools
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from var_exp.data.critter_drawing import PARTS, render
from var_exp.data.critters import (
    CLASS_NAMES,
    ORNAMENTS,
    PATTERNS,
    Critters,
    differing_part,
    part_indices,
)
from var_exp.types import ConfigError

SHARED, ORNAMENT, PATTERN, TAIL = (
    PARTS.index(name) for name in ("shared", "ornament", "pattern", "tail")
)
SCENES = [(index, objects) for objects in (1, 2) for index in range(25)]


def drawn(index, objects, size=64):
    scene = Critters(100, 7, size, objects).scene(index)
    return scene, *render(scene, size)


def with_critter(scene, position, **changes):
    critters = list(scene.critters)
    critters[position] = replace(critters[position], **changes)
    return replace(scene, critters=tuple(critters))


def changed(first, second):
    return np.abs(first - second).max(axis=0) > 1e-6


def near(mask):
    """The mask and two pixels around it: antialiasing, and tips between two pixels' centres."""
    return binary_dilation(mask, np.ones((5, 5)))


def test_sample_has_the_agreed_shapes_and_types():
    for objects in (1, 2):
        sample = Critters(3, size=48, objects=objects)[2]
        assert sample.image.shape == (3, 48, 48)
        assert sample.image.dtype == torch.float32
        assert 0 <= sample.image.min() < sample.image.max() <= 1
        assert sample.classes.shape == (objects,)
        assert sample.classes.dtype == torch.int64
        assert sample.regions.shape == (objects, 48, 48)
        assert sample.regions.dtype == torch.bool


def test_label_and_scene_agree_with_the_sample():
    for objects in (1, 2):
        critters = Critters(30, 3, objects=objects)
        for index in range(30):
            sample = critters[index]
            assert critters.label(index) == sample.classes[0]
            facts = [(c.ornament, c.pattern) for c in critters.scene(index).critters]
            assert facts == [part_indices(int(label)) for label in sample.classes]


def test_all_classes_occur_about_equally_often():
    labels = [Critters(4800).label(index) for index in range(4800)]
    counts = np.bincount(labels, minlength=16)
    assert len(counts) == 16
    assert np.abs(counts - 300).max() < 5 * np.sqrt(300)


def test_a_picture_depends_on_its_id_alone():
    few, many = Critters(5, 1), Critters(50, 1)
    backwards = [many[index] for index in reversed(range(5))][::-1]
    for index, sample in enumerate(backwards):
        assert torch.equal(few[index].image, sample.image)
        assert few[index].id == sample.id == f"critters-1-{index:06d}"
    assert not torch.equal(few[0].image, Critters(5, 2)[0].image)
    assert not torch.equal(few[0].image, Critters(5, "1x")[0].image)
    assert few[0].id != few.scenes()[0].id


def test_another_process_draws_the_same_bits(python):
    program = (
        "import hashlib; from var_exp.data.critters import Critters;"
        "print(hashlib.sha256(b''.join(Critters(9, 4, objects=o)[8].image.numpy().tobytes()"
        " for o in (1, 2))).hexdigest())"
    )
    there = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    here = b"".join(Critters(9, 4, objects=o)[8].image.numpy().tobytes() for o in (1, 2))
    assert there.stdout.strip() == hashlib.sha256(here).hexdigest()


def test_global_random_state_is_left_alone():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (the global state is what is tested)
    before = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    Critters(3)[1]
    after = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])


def test_siblings_are_the_classes_one_part_away():
    siblings = Critters().siblings
    assert siblings.shape == (16, 6)
    for label, name in enumerate(CLASS_NAMES):
        mine = set(name.split(" / "))
        expected = [
            other
            for other, other_name in enumerate(CLASS_NAMES)
            if len(mine & set(other_name.split(" / "))) == 1
        ]
        assert siblings[label].tolist() == expected


def test_differing_part_by_the_names():
    for first, second in itertools.product(range(16), repeat=2):
        ornaments, patterns = zip(
            *(CLASS_NAMES[label].split(" / ") for label in (first, second)), strict=True
        )
        differ = [ornaments[0] != ornaments[1], patterns[0] != patterns[1]]
        if sum(differ) == 1:
            assert differing_part(first, second) == ("ornament" if differ[0] else "pattern")
        else:
            with pytest.raises(ValueError, match="differ in exactly one part"):
                differing_part(first, second)


def test_pairs_share_no_part_and_every_disjoint_pair_occurs():
    pairs = Critters(3000, objects=2)
    seen = set()
    for index in range(3000):
        first, second = (c.ornament * 4 + c.pattern for c in pairs.scene(index).critters)
        assert part_indices(first)[0] != part_indices(second)[0]
        assert part_indices(first)[1] != part_indices(second)[1]
        seen.add((first, second))
    assert len(seen) == 16 * 9


@pytest.mark.parametrize(("index", "objects"), SCENES)
def test_parts_are_disjoint_and_make_up_the_region(index, objects):
    critters = Critters(100, 7, objects=objects)
    parts = critters.parts(index)
    assert parts.shape == (objects, len(PARTS), 64, 64)
    assert parts.sum(dim=(0, 1)).max() == 1
    assert torch.equal(parts.any(dim=1), critters[index].regions)
    assert (parts.sum(dim=(-1, -2)) > 0).all()


@pytest.mark.parametrize(("index", "objects"), SCENES)
def test_another_class_changes_only_its_part(index, objects):
    scene, image, parts = drawn(index, objects)
    critter = scene.critters[-1]
    for name, part, count in (
        ("ornament", ORNAMENT, len(ORNAMENTS)),
        ("pattern", PATTERN, len(PATTERNS)),
    ):
        other = (getattr(critter, name) + 1) % count
        sibling, sibling_parts = render(with_critter(scene, -1, **{name: other}), 64)
        allowed = near(parts[-1, part] | sibling_parts[-1, part])
        difference = changed(image, sibling)
        assert not (difference & ~allowed).any()
        assert difference.sum() > 8


@pytest.mark.parametrize(("index", "objects"), SCENES)
def test_recolouring_finds_the_mask_of_a_part(index, objects):
    """Paint one part black, then white: the change is the share of the part in each pixel."""
    scene, _, parts = drawn(index, objects)
    plain = replace(scene, background=replace(scene.background, noise=0.0))
    coloured = {
        SHARED: ("body", "eyes"),
        ORNAMENT: ("ornament",),
        PATTERN: ("belly", "pattern"),
        TAIL: ("tail",),
    }
    for part, names in coloured.items():
        pictures = []
        for value in (0.0, 1.0):
            plain_colours = dict.fromkeys(names, np.full(3, value, np.float32))
            colours = {**plain.critters[-1].colours, **plain_colours}
            pictures.append(
                render(with_critter(plain, -1, colours=colours, light=(0.0, 0.0)), 64)[0]
            )
        share = (pictures[1] - pictures[0]).mean(axis=0)
        inside = parts[-1, part]
        assert (share > -1e-6).all()
        assert not (share[~near(inside)] > 1e-6).any()
        assert not (inside ^ (share > 0.5))[(share < 0.1) | (share > 0.9)].any()


def test_masks_hold_visible_pixels_only_and_scale_with_the_picture():
    for index in range(10):
        small, large = (Critters(10, 5, size).parts(index).float() for size in (64, 256))
        torch.testing.assert_close(small.mean((-1, -2)), large.mean((-1, -2)), atol=0.012, rtol=0.1)


@pytest.mark.parametrize("objects", [1, 2])
def test_critters_are_whole_and_apart(objects):
    """Alone in the picture each critter is where it was: no part is cut off or covered."""
    cut = covered = 0
    frame = np.ones((64, 64), dtype=bool)
    frame[1:-1, 1:-1] = False
    for index in range(100):
        scene, _, parts = drawn(index, objects)
        for position, critter in enumerate(scene.critters):
            alone = render(replace(scene, critters=(critter,)), 64)[1][0].any(axis=0)
            visible = parts[position].any(axis=0)
            assert not (visible & ~alone).any()
            covered += visible.sum() < 0.98 * alone.sum()
            cut += (alone & frame).any()
    assert covered <= 2
    assert cut <= 4


@pytest.mark.parametrize(
    ("options", "name"),
    [({"count": 0}, "count"), ({"size": 8}, "size"), ({"objects": 3}, "objects")],
)
def test_impossible_options_are_refused(options, name):
    with pytest.raises(ConfigError, match=f"{name} must be"):
        Critters(**options)


def test_an_index_outside_is_refused():
    with pytest.raises(IndexError, match="0 … 4"):
        Critters(5)[5]
    with pytest.raises(IndexError):
        Critters(5)[-1]
