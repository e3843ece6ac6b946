"""Pictures of samples: one file each, under the sample's name, whatever the disk and the names."""

import io

import numpy as np
import pytest
from PIL import Image

from var_exp.results.drawings import Drawings
from var_exp.types import CannotWrite


def written(folder, *ids, sentence="tabby 0.60 rather than lynx 0.10"):
    """Files below the folder of pictures, by id; each picture has its own colour."""
    drawings = Drawings(folder / "maps", ids)
    for place, name in enumerate(ids):
        colour = (place, 2 * place, 90)
        large, small = Image.new("RGB", (9, 6), colour), Image.new("RGB", (4, 3), colour)
        drawings.write(name, large, small, sentence)
    return {one.sample_id: one for one in Drawings(folder / "maps", ids).found(ids)}


@pytest.mark.parametrize(
    ("ids", "files"),
    [
        (["x.png"], ["x.png"]),
        (["a/b.JPEG", "c.v2"], ["a/b.png", "c.v2.png"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg.png", "a.png.png", "b.png"]),
        (["a.jpg", "A.png"], ["a.jpg.png", "A.png.png"]),  # one file, where capitals do not count
        (["a.jpg", "a.jpg.png"], ["a.png", "a.jpg.png.png"]),
        (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg.png", "a.png.png", "a.jpg.png.png"]),
        (["写 真.png", "critters/7"], ["写 真.png", "critters/7.png"]),
    ],
)
def test_a_picture_has_the_name_of_its_sample_and_no_two_have_the_same(tmp_path, ids, files):
    found = written(tmp_path, *ids)
    assert [str(found[name].picture) for name in ids] == [f"maps/pictures/{file}" for file in files]
    for place, name in enumerate(ids):  # no file was written over
        assert np.asarray(Image.open(tmp_path / found[name].picture))[0, 0, 0] == place


@pytest.mark.parametrize("name", ["x" * 400, "../../up", "/root"])
def test_pictures_have_names_that_a_disk_takes(tmp_path, name):
    (drawing,) = written(tmp_path, name).values()
    file = (tmp_path / drawing.picture).resolve()
    assert file.is_relative_to(tmp_path / "maps" / "pictures")
    assert all(len(part.encode()) < 255 for part in file.parts)


def test_long_names_stay_different(tmp_path):
    assert len({one.picture for one in written(tmp_path, *("x" * 300 + e for e in "ab")).values()})
    assert len(list((tmp_path / "maps" / "pictures").iterdir())) == 2


def test_the_small_picture_carries_the_sentence(tmp_path):
    (drawing,) = written(tmp_path, "写.png", sentence="Käuzchen 0.60 rather than 猫 0.10").values()
    assert drawing.sentence == "Käuzchen 0.60 rather than 猫 0.10"
    assert Image.open(io.BytesIO(drawing.thumbnail)).size == (4, 3)


def test_what_was_not_drawn_is_passed_over(tmp_path):
    written(tmp_path, "a.png")
    assert [one.sample_id for one in Drawings(tmp_path / "maps", ["a.png", "b.png"]).found(
        ["b.png", "a.png"]
    )] == ["a.png"]  # fmt: skip


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "maps").write_text("in the way")
    with pytest.raises(CannotWrite, match=r"cannot write maps to .* maps=false"):
        written(tmp_path, "a")
