"""ImageNet in the true layouts of its sources: everywhere the same pictures, labels and boxes."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from var_exp.data import imagenet as module
from var_exp.data.imagenet import ImageNet, imagenette
from var_exp.data.imagenet_classes import imagenet_names
from var_exp.data.pictures import read_labels
from var_exp.types import BadData, ConfigError, Unreadable

# name -> WordNet id, class number, width, height, boxes (first and last column and row, from 0)
PICTURES = {
    "ILSVRC2012_val_00000001": ("n01751748", 65, 60, 40, [(10, 5, 30, 20), (25, 15, 59, 39)]),
    "ILSVRC2012_val_00000002": ("n01440764", 0, 40, 60, [(0, 0, 39, 59)]),
    "ILSVRC2012_val_00000003": ("n15075141", 999, 50, 50, [(20, 20, 20, 20)]),
    "ILSVRC2012_val_00000004": ("n01440764", 0, 50, 40, [(5, 0, 44, 9)]),
}
IDS = [
    f"{PICTURES[name][0]}/{name}.JPEG"
    for name in sorted(PICTURES, key=lambda n: (PICTURES[n][0], n))
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for name, (_, _, width, height, _) in PICTURES.items():
        values = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{name}.JPEG", format="JPEG")
    return folder


@pytest.fixture(scope="module")
def class_folders(files, tmp_path_factory):
    root = tmp_path_factory.mktemp("folders") / "val"
    for name, (wordnet_id, *_) in PICTURES.items():
        (root / wordnet_id).mkdir(parents=True, exist_ok=True)
        shutil.copy(files / f"{name}.JPEG", root / wordnet_id)
    return root


@pytest.fixture(scope="module")
def kaggle(files, tmp_path_factory):
    root = tmp_path_factory.mktemp("kaggle")
    pictures = shutil.copytree(files, root / "ILSVRC" / "Data" / "CLS-LOC" / "val")
    assert len(list(pictures.iterdir())) == 4
    lines = ["ImageId,PredictionString"]
    for name, (wordnet_id, _, _, _, boxes) in reversed(PICTURES.items()):
        words = [f"{wordnet_id} {' '.join(map(str, box))} " for box in boxes]
        lines.append(f"{name},{''.join(words)}")
    (root / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def parquet(files, tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    (root / "data").mkdir()
    rows = [
        {
            "image": {
                "bytes": (files / f"{name}.JPEG").read_bytes(),
                "path": f"{name}_{wordnet_id}.JPEG",
            },
            "label": label,
        }
        for name, (wordnet_id, label, *_) in PICTURES.items()
    ]
    for part in range(2):
        table = pa.Table.from_pylist(rows[2 * part : 2 * part + 2])
        pq.write_table(
            table, root / "data" / f"validation-0000{part}-of-00002.parquet", row_group_size=1
        )
    return root


@pytest.fixture(scope="module")
def xml(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes") / "val"
    folder.mkdir()
    for name, (wordnet_id, _, width, height, boxes) in PICTURES.items():
        objects = [
            f"<object><name>{wordnet_id}</name><pose>Unspecified</pose><truncated>0</truncated>"
            f"<difficult>0</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
            f"<ymax>{d}</ymax></bndbox></object>"
            for a, b, c, d in boxes
        ]
        (folder / f"{name}.xml").write_text(
            f"<annotation><folder>val</folder><filename>{name}</filename><size><width>{width}"
            f"</width><height>{height}</height><depth>3</depth></size>{''.join(objects)}"
            "</annotation>"
        )
    return folder


@pytest.mark.parametrize("layout", ["class_folders", "kaggle", "parquet"])
def test_every_layout_gives_the_same_pictures_in_the_same_order(layout, request, files, spec):
    data = ImageNet(str(request.getfixturevalue(layout)), spec)
    assert [data.sample_id(i) for i in range(4)] == IDS
    assert [data.label(i) for i in range(4)] == [0, 0, 65, 999]
    assert data.class_names == imagenet_names()
    for index in range(4):
        sample = data[index]
        assert sample.id == IDS[index]
        assert sample.classes.tolist() == [data.label(index)]
        assert sample.regions is None
        picture = Image.open(files / Path(sample.id).name).convert("RGB")
        assert torch.equal(sample.image, data.geometry.picture(picture))
    assert [
        ImageNet(str(request.getfixturevalue(layout)), spec, count=2).sample_id(i) for i in (0, 1)
    ] == [
        IDS[0],
        IDS[3],
    ]


def test_the_folder_around_val_will_do(class_folders, spec):
    assert len(ImageNet(str(class_folders.parent), spec)) == 4


@pytest.mark.parametrize("source", ["csv", "kaggle xml", "xml"])
def test_boxes_to_the_pixel(source, kaggle, class_folders, xml, spec, seen, tmp_path):
    if source == "csv":
        data = ImageNet(str(kaggle), spec, regions="boxes")
    elif source == "xml":
        data = ImageNet(str(class_folders), spec, regions="boxes", annotations=str(xml))
    else:
        root = Path(shutil.copytree(kaggle, tmp_path / "kaggle"))
        shutil.copytree(xml, root / "ILSVRC" / "Annotations" / "CLS-LOC" / "val")
        (root / "ILSVRC" / "Annotations" / "CLS-LOC" / "train").mkdir()
        data = ImageNet(
            str(root), spec, "boxes", str(root / "ILSVRC" / "Annotations" / "CLS-LOC" / "val")
        )
    for index in range(4):
        sample = data[index]
        _, _, width, height, boxes = PICTURES[Path(sample.id).stem]
        painted = np.zeros((height, width), bool)
        for left, top, right, bottom in boxes:
            painted[top : bottom + 1, left : right + 1] = True
        assert torch.equal(sample.regions[0], torch.from_numpy(seen(painted)))


def test_masks_of_imagenet_s(class_folders, spec, seen, tmp_path):
    root = tmp_path / "ImageNetS50"
    shutil.copytree(class_folders, root / "validation")
    wordnet_ids = sorted(
        {f"n{number:08d}" for number in range(1, 48)} | {v[0] for v in PICTURES.values()}
    )
    assert len(wordnet_ids) == 50
    masks = {}
    for wordnet_id in wordnet_ids:
        (root / "validation-segmentation" / wordnet_id).mkdir(parents=True)
    for name, (wordnet_id, _, width, height, boxes) in PICTURES.items():
        left, top, right, bottom = boxes[0]
        numbers = np.zeros((height, width), np.int64)
        numbers[top : bottom + 1, left : right + 1] = wordnet_ids.index(wordnet_id) + 1
        numbers[0, :] = 1000  # ignored
        numbers[1, :] = 300  # another class: more than a byte holds
        masks[name] = numbers
        rgb = np.stack([numbers % 256, numbers // 256, 0 * numbers], -1).astype(np.uint8)
        Image.fromarray(rgb).save(root / "validation-segmentation" / wordnet_id / f"{name}.png")
        file = root / "validation-segmentation" / wordnet_id / f"{name}.png"
        assert np.array_equal(read_labels(file), numbers)
    data = ImageNet(str(root), spec, regions="masks")
    assert [data.sample_id(i) for i in range(4)] == IDS
    for index in range(4):
        sample = data[index]
        name = Path(sample.id).stem
        expected = masks[name] == wordnet_ids.index(PICTURES[name][0]) + 1
        assert torch.equal(sample.regions[0], torch.from_numpy(seen(expected)))
    first = root / "validation-segmentation" / IDS[0].replace("JPEG", "png")
    Image.new("RGB", (40, 60), (3, 0, 0)).save(first)
    with pytest.raises(BadData, match=r"holds the classes \[3\], and its picture is of class 48"):
        ImageNet(str(root), spec, regions="masks")
    first.unlink()
    with pytest.raises(BadData, match=r"the mask .* is missing"):
        ImageNet(str(root), spec, regions="masks")
    with pytest.raises(BadData, match="must hold the folders of ImageNet-S's 50, 300 or 919"):
        ImageNet(str(root / "validation"), spec, regions="masks")


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"root": None}, BadData, "data.root=FOLDER"),
        ({"root": "/nowhere"}, BadData, "is not a folder"),
        ({"regions": "outline"}, ConfigError, "data.regions must be none, boxes or masks"),
        ({"regions": "boxes"}, BadData, "there are no boxes in .*data.annotations=FOLDER"),
        ({"regions": "boxes", "annotations": "/nowhere"}, BadData, "no boxes in '/nowhere'"),
    ],
)
def test_what_cannot_be_is_one_sentence(class_folders, spec, options, error, sentence):
    with pytest.raises(error, match=sentence):
        ImageNet(**{"root": str(class_folders), "spec": spec, **options})


def test_missing_and_wrong_files_are_named(kaggle, class_folders, xml, spec, tmp_path):
    with pytest.raises(BadData, match="holds no ImageNet; expected folders named by WordNet id"):
        ImageNet(str(tmp_path), spec)
    root = Path(shutil.copytree(kaggle, tmp_path / "kaggle"))
    (root / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000002.JPEG").unlink()
    with pytest.raises(BadData, match=r"1 pictures of .* are missing, such as ILSVRC2012_val_0+2"):
        ImageNet(str(root), spec)
    for line in ("ILSVRC2012_val_00000001,n00000000 1 1 2 2", "ILSVRC2012_val_00000001,", "a"):
        (root / "LOC_val_solution.csv").write_text(f"ImageId,PredictionString\n{line}\n")
        with pytest.raises(BadData, match="it must be Kaggle's"):
            ImageNet(str(root), spec)
    (root / "LOC_val_solution.csv").unlink()
    with pytest.raises(BadData, match=r"the labels .* are missing"):
        ImageNet(str(root), spec)
    boxes = Path(shutil.copytree(xml, tmp_path / "xml"))
    (boxes / "ILSVRC2012_val_00000001.xml").unlink()
    with pytest.raises(BadData, match=r"no boxes of 1 of 4 pictures, such as ILSVRC2012_val_0+1"):
        ImageNet(str(class_folders), spec, "boxes", str(boxes))
    text = (xml / "ILSVRC2012_val_00000001.xml").read_text()
    (boxes / "ILSVRC2012_val_00000001.xml").write_text(text.replace("n01751748", "n01440764"))
    with pytest.raises(BadData, match="no box of the class of n01751748"):
        ImageNet(str(class_folders), spec, "boxes", str(boxes))
    (boxes / "ILSVRC2012_val_00000001.xml").write_text(text.replace("<width>60", "<width>61"))
    with pytest.raises(BadData, match=r"has \(60, 40\) pixels and its annotation \(61, 40\)"):
        ImageNet(str(class_folders), spec, "boxes", str(boxes))[2]
    other = tmp_path / "others"
    (other / "cats").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(other / "cats" / "a.png")
    with pytest.raises(BadData, match="cats' is not named by an ImageNet-1k WordNet id"):
        ImageNet(str(other), spec)


def test_bad_rows_of_parquet_files(parquet, spec, tmp_path, monkeypatch):
    root = tmp_path / "hub"
    root.mkdir()
    image = {"bytes": b"no picture", "path": None}
    for name, rows, sentence in (
        ("label", [{"image": image, "label": 1000}], "has the label 1000 in row 0"),
        ("columns", [{"picture": b"", "label": 1}], "lacks the columns image and label"),
    ):
        pq.write_table(pa.Table.from_pylist(rows), root / f"validation-{name}.parquet")
        with pytest.raises(BadData, match=sentence):
            ImageNet(str(root), spec)
        (root / f"validation-{name}.parquet").unlink()
    pq.write_table(
        pa.Table.from_pylist([{"image": image, "label": 3}]), root / "validation-0.parquet"
    )
    with pytest.raises(BadData, match="cannot read picture 'n01491361/validation-0_0_0'"):
        ImageNet(str(root), spec)[0]
    with pytest.raises(Unreadable):
        ImageNet(str(root), spec, on_error="skip")[0]
    (root / "validation-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadData, match=r"cannot read .*download it again"):
        ImageNet(str(root), spec)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"pip install 'var_exp\[parquet\]'"):
        ImageNet(str(parquet), spec)


def test_imagenette_is_read_where_it_is(class_folders, spec, tmp_path, monkeypatch):
    shutil.copytree(class_folders, tmp_path / "imagenette2-320" / "val")
    (tmp_path / "imagenette2-320" / "train").mkdir()
    data = imagenette(str(tmp_path), spec)
    assert [data.sample_id(i) for i in range(4)] == IDS

    def offline(url, timeout):
        assert url.endswith("imagenette2-160.tgz")
        raise OSError("no network")

    monkeypatch.setattr(module, "urlopen", offline)
    with pytest.raises(BadData, match=r"cannot be downloaded \(no network\); unpack https://"):
        imagenette(str(tmp_path), spec, size="160px")
    with pytest.raises(ConfigError, match=r"data.size must be one of full, 320px, 160px"):
        imagenette(str(tmp_path), spec, size="80px")
