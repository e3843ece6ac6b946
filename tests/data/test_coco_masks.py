"""Outlines are drawn as pycocotools draws them, and what is none is refused with its place."""

import numpy as np
import pytest

from var_exp.data.coco_masks import is_drawn, union
from var_exp.types import BadData

mask = pytest.importorskip("pycocotools.mask")
SQUARE = [[3, 3, 40, 3, 40, 40, 3, 40]]


@pytest.mark.parametrize("seed", range(8))
def test_run_lengths_are_those_of_pycocotools(seed):
    chance = np.random.default_rng(seed)
    height, width = chance.integers(1, 90, 2).tolist()
    drawn = chance.random((height, width)) < chance.choice([0.02, 0.5, 0.98, 1.0])
    encoded = mask.encode(np.asfortranarray(drawn.astype(np.uint8)))
    as_text = {"size": [height, width], "counts": encoded["counts"].decode()}
    found = union([as_text], height, width, "here")
    np.testing.assert_array_equal(found.numpy(), drawn)
    flat = drawn.flatten(order="F")
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1), len(flat)]
    counts = np.diff(edges).tolist()
    plain = {"size": [height, width], "counts": [0, *counts] if flat[0] else counts}
    np.testing.assert_array_equal(union([plain], height, width, "here").numpy(), drawn)


def test_polygons_are_those_of_pycocotools_and_boxes_in_their_place_are_empty():
    expected = mask.decode(mask.merge(mask.frPyObjects(SQUARE, 50, 60))).astype(bool)
    np.testing.assert_array_equal(union([SQUARE], 50, 60, "here").numpy(), expected)
    assert not union([[[1, 2, 30, 20]]], 50, 60, "here").any()


@pytest.mark.parametrize(
    ("segmentation", "drawn"),
    [
        *[(None, False), ([], False), ([[]], False), ([[1, 2, 3, 4]], False), ("x", False)],
        *[(SQUARE, True), ({"size": [1, 1], "counts": ""}, False), ({"counts": [1]}, True)],
    ],
)
def test_what_has_no_outline_is_known_before(segmentation, drawn):
    assert is_drawn(segmentation) is drawn


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ({"size": [5, 6], "counts": [0, 30]}, r"size \[5, 6\] in a picture of \[50, 60\]"),
        ({"size": [50, 60], "counts": [0, 30]}, "do not add up to 50 x 60"),
        ({"size": [50, 60], "counts": [-10, 3010]}, "do not add up"),
        ({"size": [50, 60], "counts": "junk!"}, "no run lengths|do not add up|cut off"),
        ({"counts": [3000]}, "'size' is missing"),
        ([[0, 0, 9, 9, float("nan"), 3]], "'?nan'? in a polygon"),
        ([[0, 0, 1e9, 9, 3, 3]], r"a polygon at 1e\+09 in a picture of 60 x 50"),
        ([[0, 0, 9, 9, 3, 3, 3]], "an odd number of coordinates"),
        ([[0, 0, 9, 9, "x", 3]], "'x' in a polygon"),
    ],
)
def test_what_is_no_outline_is_named(segmentation, reason):
    with pytest.raises(BadData, match=f"^here has an outline that is none .*(?:{reason})"):
        union([segmentation], 50, 60, "here")
