"""Damaged maps of other tools, tables, metadata beside weights, parquet, pictures of odd modes."""

import io
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import DEEP, altered, damaged, each, tried
from PIL import Image
from safetensors.numpy import save_file

from var_exp.classes.named import Named
from var_exp.classes.names import ClassNames
from var_exp.data.geometry import Geometry
from var_exp.data.imagenet import ImageNet
from var_exp.data.pictures import read_picture
from var_exp.methods.map_files import SavedMaps
from var_exp.models.checkpoint import UNREADABLE, read_checkpoint
from var_exp.results.curves import Curves, read_curves, write_curves
from var_exp.results.saved_maps import MapWriter
from var_exp.types import BadData, InputSpec

MAPS = np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype(np.float32)
IDS, LABELS = np.array(["a", "b", "c"]), np.arange(3)
TYPES = [
    "'<f4'", "'<f8'", "'<f2'", "'>f4'", "'|O'", "'<U99999999'", "'<c8'", "'<M8[s]'", "''", "None",
    "[('a','<f4')]", "('<f4',(10**6,10**6))", "'|b1'", "(" * 300 + ")" * 300,
]  # fmt: skip
SHAPES = [
    "(3,1,4,4)", "(3,)", "()", "(10**10,1,4,4)", "(-1,1,4,4)", "(3,1,0,4)", "(2**62,4,4,4)",
    "[3,1,4,4]", "'x'", "(3,1,4,4.0)", "(None,)", "(0,1,4,4)", "(True,1,4,4)",
]  # fmt: skip


def npy(kind, shape, data, version=1):
    """An array whose head says anything."""
    head = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(head).to_bytes(2, "little") + head + data


def plain(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def all_maps(folder):
    saved = SavedMaps(folder)
    assert all(file.parent == folder for file in saved.files())
    for key in saved:
        assert saved[key].dtype == np.float32
        assert saved[key].ndim == 3


@pytest.mark.parametrize("kind", ["stored", "deflated", "heads"])
def test_maps_of_other_tools_in_archives(outcomes, tmp_path, kind):
    stream = io.BytesIO()
    save = np.savez if kind == "stored" else np.savez_compressed
    save(stream, ids=IDS, classes=LABELS, maps=MAPS)
    arrays = {"ids": ("'<U1'", IDS), "classes": ("'<i8'", LABELS), "maps": ("'<f4'", MAPS)}
    for chance in each(f"npz {kind}"):
        if kind == "heads":
            with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
                for name, (type_, array) in arrays.items():
                    type_ = chance.choice(TYPES) if chance.random() < 0.3 else type_
                    shape = chance.choice(SHAPES) if chance.random() < 0.3 else array.shape
                    data = array.tobytes()[: chance.choice([None, None, None, 5])]
                    version = chance.choice([1, 1, 1, 2, 3, 9])
                    archive.writestr(f"{name}.npy", npy(type_, shape, data, version))
        else:
            (tmp_path / "a.npz").write_bytes(damaged(stream.getvalue(), chance))
        tried(outcomes, lambda: all_maps(tmp_path))


def test_maps_of_other_tools_with_an_index(outcomes, tmp_path):
    table = (
        "id,class,variant,shard,row\na,0,base,s.npy,0\nb,1,base,s.npy,1\nc,2,var,t.safetensors,2\n"
    )
    save_file({"base": MAPS, "var": MAPS}, tmp_path / "t.safetensors")
    shard = (tmp_path / "t.safetensors").read_bytes()
    words = ["a", "0", "base", "s.npy", "1", "row", "shard", ",", "\n", "2", "t.safetensors"]
    others = ["-1", "", '"', "\0", "9" * 30, "../x.npy", "/etc/passwd", "1.5", "\r", "x" * 200_000]
    for chance in each("maps with an index"):
        head = npy(chance.choice(TYPES), chance.choice(SHAPES), MAPS.tobytes())
        intact = plain(MAPS)
        content = chance.choice([intact, intact, damaged(intact, chance), head])
        (tmp_path / "s.npy").write_bytes(content)
        content = damaged(shard, chance) if chance.random() < 0.3 else shard
        (tmp_path / "t.safetensors").write_bytes(content)
        text = table.replace(chance.choice(words), chance.choice(others), 1).encode()
        (tmp_path / "index.csv").write_bytes(
            damaged(text, chance) if chance.random() < 0.3 else text
        )
        tried(outcomes, lambda: all_maps(tmp_path))


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ids.npy", plain(IDS[:1]))
        archive.writestr("classes.npy", plain(LABELS[:1]))
        with archive.open("maps.npy", "w", force_zip64=True) as file:
            file.write(npy("'<f4'", "(1,1,40000,40000)", bytes(10**8)))
        archive.getinfo("maps.npy").file_size = 44 * 10**8  # to write them takes long
    assert (tmp_path / "a.npz").stat().st_size < 5_000_000
    with pytest.raises(BadData, match="holds 4 GiB, and is read into memory; save its maps in sev"):
        SavedMaps(tmp_path)


def test_shards_of_a_run_that_were_damaged(outcomes, tmp_path):
    rows = json.dumps([["a", 0], ["b", 1], ["c", 2]])
    save_file({"base": MAPS}, tmp_path / "s.safetensors", {"rows": rows})
    content = (tmp_path / "s.safetensors").read_bytes()
    for chance in each("shards"):
        (tmp_path / "s.safetensors").write_bytes(damaged(content, chance))
        tried(outcomes, lambda: MapWriter(tmp_path).write_index(["a", "b"], ["x", "y", "z"]))


def test_files_of_class_names(outcomes, tmp_path):
    """Which classes compete on which picture (classes.file)."""
    file, known = tmp_path / "c.csv", ClassNames(("cat", "dog", "hat"))
    text = 'a.png,cat,dog\nb.png,"hat",cat,dog\n\nc.png,0,1\n'
    for chance in each("class names"):
        other = chance.choice(
            ['"', "\0", "x", ",", "\n", "-1", "9" * 5000, "\u2028", "cat" * 99_999]
        )
        broken = text.replace(chance.choice(["cat", "dog", ",", "\n", "0"]), other, 1).encode()
        file.write_bytes(damaged(broken, chance) if chance.random() < 0.5 else broken)

        def read():
            found = Named(known, file=str(file)).of_picture
            assert all(0 <= label < 3 for labels in found.values() for label in labels)

        tried(outcomes, read)


@pytest.mark.parametrize("place", ["config.json", "w.classes.txt"])
def test_metadata_beside_weights(outcomes, tmp_path, place):
    weights = tmp_path / "w.safetensors"
    save_file({"w": MAPS}, weights)
    told = {
        "architecture": "resnet18",
        "num_classes": 3,
        "label_names": ["a", "b", "c"],
        "pretrained_cfg": {
            "input_size": [3, 64, 64],
            "mean": [0.5] * 3,
            "std": [0.2] * 3,
            "crop_pct": 0.9,
            "interpolation": "bicubic",
        },
    }
    names = b"cat\ndog\n=hat()\n"
    for chance in each(f"beside {place}"):
        text = DEEP if chance.random() < 0.03 else json.dumps(altered(told, chance))
        content = text.encode() if place == "config.json" else names
        broken = damaged(content, chance) if chance.random() < 0.5 else content
        (tmp_path / place).write_bytes(broken)

        def read():
            found = read_checkpoint(weights)
            assert all(name.isprintable() for name in found.class_names or ())
            height, width = found.config.get("input_size", [3, 1, 1])[1:]
            assert 1 <= height * width < 10**8
            assert min(found.config.get("std", [1])) > 0
            assert 0.05 <= found.config.get("crop_pct", 1) <= 1

        tried(outcomes, read, UNREADABLE)


def test_curves(outcomes, tmp_path):
    file = tmp_path / "curves.csv"
    write_curves(file, [Curves("m", "x", "y", [0.0, 1.0], {"base": [0.5, 0.25]})])
    content = file.read_bytes()
    for chance in each("curves"):
        file.write_bytes(damaged(content, chance))
        tried(outcomes, lambda: read_curves(file))


@pytest.mark.parametrize("layout", ["parquet", "kaggle"])
def test_imagenet(outcomes, tmp_path, layout):
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), (9, 99, 199)).save(stream, "JPEG")
    image = {"bytes": stream.getvalue(), "path": "ILSVRC2012_val_00000001_n01440764.JPEG"}
    spec, file = InputSpec(16, (0.5,) * 3, (0.25,) * 3), tmp_path / "validation-0.parquet"
    pictures = tmp_path / "ILSVRC" / "Data" / "CLS-LOC" / "val"
    if layout == "kaggle":
        pictures.mkdir(parents=True)
        (pictures / "ILSVRC2012_val_00000001.JPEG").write_bytes(stream.getvalue())
        file = tmp_path / "LOC_val_solution.csv"
    rows = [{"image": image, "label": 3}, {"image": image, "label": 7}]
    solution = "ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 30 20 \n"
    for number, chance in enumerate(each(f"imagenet {layout}")):
        if layout == "parquet":  # what was read of a file is kept
            file.unlink(missing_ok=True)
            file = file.with_name(f"validation-{number}.parquet")
        if layout == "kaggle":
            word = chance.choice(["n01440764", " 20", "ImageId", ",", "\n", "30"])
            other = chance.choice(["", "x", "nan", '"', "\0", "9" * 400, "-1", "x" * 200_000])
            content = solution.replace(word, other, 1).encode()
        else:
            kept = [dict(row) for row in rows]
            if chance.random() < 0.3:
                kept[1]["image"] = chance.choice([None, {"bytes": b"x", "path": "\n\x07"}])
            pq.write_table(pa.Table.from_pylist(kept), file)
            content = file.read_bytes()
        file.write_bytes(damaged(content, chance) if chance.random() < 0.6 else content)

        def read():
            data = ImageNet(str(tmp_path), spec)
            for index in range(len(data)):
                assert data.sample_id(index).isprintable()
                assert data[index].image.shape == (3, 16, 16)

        tried(outcomes, read)


def picture(mode):
    """A picture of a mode, or of a kind that is odd otherwise, and the colour of all of it."""
    size, options, form = (30, 20), {}, "PNG"
    match mode:
        case "CMYK":
            image, form = Image.new("CMYK", size, (0, 255, 255, 0)), "TIFF"  # red
        case "palette with transparency":
            image = Image.new("P", size, 1)
            image.putpalette([0, 0, 0, 255, 0, 0])
            options = {"transparency": 0}
        case "grey with transparency":
            image = Image.new("LA", size, (0, 0))  # nothing of it is seen on white
        case "16 bit":
            image = Image.fromarray(np.full(size[::-1], 65535, np.uint16))
        case "1 bit":
            image = Image.new("1", size, 1)
        case "one pixel wide":
            image = Image.new("RGB", (1, 400), (255, 0, 0))
        case "animated":
            image, form = Image.new("RGB", size, (255, 0, 0)), "WEBP"
            more = [Image.new("RGB", size, (0, 255, 0))]
            options = {"save_all": True, "append_images": more, "lossless": True}
        case "turned":
            image, form = Image.new("RGB", size, (255, 0, 0)), "TIFF"
            image.getexif()[274] = 6
            options = {"exif": image.getexif()}
    stream = io.BytesIO()
    image.save(stream, form, **options)
    white = mode in ("grey with transparency", "16 bit", "1 bit")
    return stream.getvalue(), (1.0, 1.0, 1.0) if white else (1.0, 0.0, 0.0)


MODES = ["CMYK", "palette with transparency", "grey with transparency", "16 bit", "1 bit",
         "one pixel wide", "animated", "turned"]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_odd_modes(outcomes, mode):
    content, colour = picture(mode)
    seen = Geometry(16).picture(read_picture(io.BytesIO(content)))
    assert np.abs(seen.mean((1, 2)).numpy() - colour).max() < 0.01

    def read(broken):
        found = Geometry(16).picture(read_picture(io.BytesIO(broken)))
        assert found.shape == (3, 16, 16)
        assert ((found >= 0) & (found <= 1)).all()

    for chance in each(f"mode {mode}"):
        tried(outcomes, lambda c=chance: read(damaged(content, c)))
