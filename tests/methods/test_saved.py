"""Maps made elsewhere are found by sample and class, and nothing that is no map passes."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from var_exp.methods import get_method, list_methods
from var_exp.methods.map_files import SavedMaps
from var_exp.types import BadData, ConfigError

IDS = ["a", "b/c.jpg", "'=d"]
CLASSES = np.array([[0, 3], [1, 2], [4, 0]])
IMAGES = torch.zeros(3, 3, 6, 8)
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 8, 5))


@pytest.fixture
def maps():
    return np.random.default_rng(0).normal(size=(3, 2, 3, 6, 8))


def archive(path, values, **changes):
    """One file with all maps, [n, c, H, W]."""
    arrays = {
        "ids": np.repeat(IDS, 2),
        "classes": CLASSES.ravel(),
        "maps": values.reshape(6, *values.shape[2:]),
    }
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})


def attribute(root, rows=(0, 1, 2), classes=CLASSES, images=IMAGES):
    method = get_method("saved", root=str(root))
    rows = list(rows)
    ids = [IDS[row] for row in rows]
    return method.attribute(MODEL, images[rows], torch.from_numpy(classes[rows]), ids=ids)


def as_archives(folder, maps):
    for row, name in enumerate(IDS):
        classes, ids = CLASSES[row], np.array([name, name])
        np.savez(folder / f"{row}.npz", ids=ids, classes=classes, maps=maps[row])


def as_arrays(folder, maps):
    """Two .npy files and an index, as spreadsheets save it: other columns, another order."""
    flat = maps.reshape(6, *maps.shape[2:])
    np.save(folder / "odd.npy", flat[1::2])
    np.save(folder / "even.npy", np.asfortranarray(flat[::2]))
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["row", "shard", "note", "class", "id"])
        for number, (name, label) in enumerate(
            zip(np.repeat(IDS, 2), CLASSES.ravel(), strict=True)
        ):
            text = f"'{name}" if name.startswith("'=") else name
            shard = ("even.npy", "odd.npy")[number % 2]
            lines.writerow([number // 2, shard, "", label, text])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("save", [as_archives, as_arrays])
def test_each_map_is_found_by_its_sample_and_class(tmp_path, maps, save, dtype):
    maps = maps.astype(dtype)
    save(tmp_path, maps)
    expected = torch.from_numpy(maps.astype(np.float32))
    assert torch.equal(attribute(tmp_path), expected)
    order = [2, 0]
    assert torch.equal(attribute(tmp_path, order), expected[order])
    assert torch.equal(attribute(tmp_path, classes=CLASSES[:, ::-1].copy()), expected.flip(1))
    assert torch.equal(attribute(tmp_path, classes=CLASSES[:, 1:].copy()), expected[:, 1:])
    files = {path.name for path in get_method("saved", root=str(tmp_path)).files()}
    assert files == {path.name for path in tmp_path.iterdir()}


def test_one_channel_will_do(tmp_path, maps):
    archive(tmp_path / "all.npz", maps[:, :, :1])
    assert attribute(tmp_path).shape == (3, 2, 1, 6, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": None}, "lacks the array 'ids'; save ids, classes and maps"),
        ({"maps": None}, "lacks the array 'maps'"),
        ({"ids": np.array(["a"] * 5)}, r"one id and one class per map, got ids \[5\]"),
        ({"ids": np.array(["a"] * 6)}, "holds two maps of class 0 of 'a'"),
        ({"ids": np.arange(6)}, "ids as text and classes as integers, got int64 and int64"),
        ({"classes": np.arange(6.0)}, "ids as text and classes as integers, got <U7 and float64"),
        ({"ids": np.array(IDS * 2, dtype=object)}, "holds Python objects, which are never loaded"),
        ({"maps": np.full((6, 3, 6, 8), None)}, "Python objects, which are never loaded"),
        ({"maps": np.zeros((6, 6, 8))}, r"floats \[n, c, H, W\], got float64 \[6, 6, 8\]"),
        ({"maps": np.zeros((6, 3, 6, 8), dtype=np.uint8)}, "got uint8"),
    ],
)
def test_what_is_no_map_is_refused_before_any_is_read(tmp_path, maps, changes, message):
    archive(tmp_path / "all.npz", maps, **changes)
    with pytest.raises(BadData, match=message):
        SavedMaps(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("id,class,row\na,0,0", "lacks the column shard"),
        ("id,class,shard,row\na,zero,x.npy,0", "line 2 of .* is no place of a map"),
        ("class,shard,row,id\n0,x.npy,0", "line 2 of .* is no place of a map .it is too short"),
        ("id,class,shard,row\na,0,../x.npy,0", r"names '\.\./x.npy', which is no \.npy file of"),
        ("id,class,shard,row\na,0,x.pickle,0", "which is no .npy file"),
        ("id,class,shard,row\na,0,y.npy,0", "names 'y.npy', which is not there"),
        ("id,class,shard,row\na,0,x.npy,0\na,0,x.npy,1", "two maps of class 0 of 'a'"),
        ("id,class,shard,row\na,0,o.npy,0", "Python objects, which are never loaded"),
        ("id,class,shard,row\na,0,cut.npy,0", "'.*cut.npy' cannot be read"),
    ],
)
def test_a_wrong_index_is_refused(tmp_path, maps, line, message):
    np.save(tmp_path / "x.npy", maps[0])
    np.save(tmp_path / "o.npy", np.full((2, 3, 6, 8), None), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:40])
    (tmp_path / "index.csv").write_text(line, encoding="utf-8")
    with pytest.raises(BadData, match=message):
        SavedMaps(tmp_path)


def test_damage_that_shows_late_is_a_sentence_too(tmp_path, maps):
    np.save(tmp_path / "x.npy", maps[0])
    (tmp_path / "index.csv").write_text("id,class,shard,row\na,0,x.npy,7", encoding="utf-8")
    with pytest.raises(BadData, match=r"x\.npy' cannot be read \(index 7 is out of bounds"):
        SavedMaps(tmp_path)["a", 0, "base"]
    (tmp_path / "index.csv").unlink()
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 not the rest")
    with pytest.raises(BadData, match=r"cut\.npz' cannot be read"):
        SavedMaps(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, maps, bad):
    maps[1, 0, 2, 3, 4] = bad
    archive(tmp_path / "all.npz", maps)
    assert attribute(tmp_path, [0, 2]).isfinite().all()
    with pytest.raises(
        BadData, match=r"the map of class 1 of 'b/c\.jpg' in .* holds NaN or infinite"
    ):
        attribute(tmp_path)


@pytest.mark.parametrize("shape", [(3, 3, 4), (2, 6, 8), (3, 8, 6)])
def test_maps_of_another_size_are_refused(tmp_path, shape):
    archive(tmp_path / "all.npz", np.zeros((3, 2, *shape)))
    with pytest.raises(BadData, match=r"class 0 of 'a' .* is \[.*\], and its picture \[3, 6, 8\]"):
        attribute(tmp_path)


def test_missing_maps_are_named(tmp_path, maps):
    archive(tmp_path / "all.npz", maps)
    with pytest.raises(BadData, match=r"lacks the maps of class 2 of 'a', class 0 of 'b/c.jpg', "):
        attribute(tmp_path, classes=np.array([[0, 2], [0, 1], [3, 2]]))
    with pytest.raises(BadData, match="and 1 others; add them, or choose classes that are there"):
        attribute(tmp_path, classes=np.array([[0, 2], [0, 1], [3, 2]]))
    with pytest.raises(ConfigError, match="found by the id of their sample; pass ids="):
        get_method("saved", root=str(tmp_path)).attribute(MODEL, IMAGES, torch.from_numpy(CLASSES))
    with pytest.raises(ConfigError, match=r"option 'root' must be given; add method.root="):
        get_method("saved")


def test_it_is_no_attribution_method_among_the_others():
    assert "saved" not in list_methods()
