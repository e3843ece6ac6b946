"""Regular files through links, in order; pipes and loops are counted and never waited for."""

import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from var_exp.data.folder import PictureFolder
from var_exp.data.pictures import check_header, read_picture
from var_exp.data.walk import regular_files
from var_exp.types import BadData, InputSpec

SPEC = InputSpec(16, (0.5,) * 3, (0.25,) * 3)


def picture(file, size=(20, 20)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 40)).save(file, "PNG")


def test_links_are_followed_and_loops_are_counted(tmp_path):
    picture(tmp_path / "elsewhere" / "x.png")
    picture(tmp_path / "root" / "hat" / "a.png")
    (tmp_path / "root" / "hat" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "hat" / "up").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "root" / ".hidden").mkdir()
    picture(tmp_path / "root" / ".hidden" / "y.png")
    os.mkfifo(tmp_path / "root" / "pipe.jpg")
    counts = Counter()
    found = regular_files(tmp_path / "root", counts)
    names = [file.relative_to(tmp_path / "root").as_posix() for file in found]
    assert names == ["gone.png", "hat/a.png", "hat/more/x.png"]
    assert counts == {"links back into a folder around them": 1, "pipes and devices": 1}


def test_a_folder_of_pictures_names_what_it_passed_over(tmp_path):
    picture(tmp_path / "b.png")
    os.mkfifo(tmp_path / "a.jpg")
    data = PictureFolder(str(tmp_path), SPEC, 2)
    assert [data.sample_id(i) for i in range(len(data))] == ["b.png"]
    assert data.notes["passed over: pipes and devices"] == "1"
    assert list(data.files()) == [tmp_path / "b.png"]


def test_a_pipe_is_refused_by_whoever_reads_it(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    for read in (check_header, read_picture):
        with pytest.raises(BadData, match="it is a device or a pipe"):
            read(tmp_path / "a.jpg")


def test_heic_alone_is_called_what_it_is(tmp_path):
    for name in ("a.HEIC", "b.heic"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(BadData, match=r"1 \.HEIC, 1 \.heic.*save the pictures as JPEG or PNG"):
        PictureFolder(str(tmp_path), SPEC, 2)


@pytest.mark.parametrize("head", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"8BPS\0\1"])
def test_other_formats_are_not_opened_whatever_their_name(tmp_path, head, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", pytest.fail)
    (tmp_path / "photo.jpg").write_bytes(head + bytes(500))
    with pytest.raises(BadData, match="no picture of a format that is read: JPEG, PNG"):
        read_picture(tmp_path / "photo.jpg")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "L", "I;16"])
def test_strips_give_what_the_whole_gives(tmp_path, mode, monkeypatch):
    values = np.random.default_rng(0).integers(0, 256, (50, 40, 4), dtype=np.uint8)
    made = Image.fromarray(values, "RGBA")
    if mode == "I;16":
        made = Image.fromarray(values[..., :2].copy().view("<u2")[..., 0])
    elif mode == "CMYK":
        made = Image.fromarray(values, "CMYK")
    else:
        made = made.convert(mode)
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    made.save(file, **({"transparency": 3} if mode == "P" else {}))
    whole = np.asarray(read_picture(file))
    monkeypatch.setattr("var_exp.data.pictures._STRIP", 40 * 7)
    np.testing.assert_array_equal(np.asarray(read_picture(file)), whole)


def test_odd_names_are_shown_in_one_line(tmp_path):
    for name in ("new\nline.png", "bell\x07.png", "sep\u2028.png"):
        picture(tmp_path / "k\n0" / name)
    data = PictureFolder(str(tmp_path), SPEC, 1, labels="sorted")
    assert data.class_names == ["k\\n0"]
    assert {data.sample_id(i) for i in range(3)} == {
        "k\\n0/new\\nline.png",
        "k\\n0/bell\\x07.png",
        "k\\n0/sep\\u2028.png",
    }
