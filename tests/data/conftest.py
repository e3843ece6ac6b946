"""Small data sets in their true layouts on disk."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from var_exp.data.voc import NAMES
from var_exp.types import InputSpec


@pytest.fixture(scope="session")
def spec():
    """A model of 32 px that crops."""
    return InputSpec(
        size=32, mean=(0.5,) * 3, std=(0.25,) * 3, crop_pct=0.8, interpolation="bilinear"
    )


def noise(seed, width, height):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.fixture(scope="session")
def seen(spec):
    """A mask as the model sees it, by Pillow alone: nearest pixel, then the crop or the whole."""

    def pillow(mask, view="crop"):
        side = spec.size if view == "whole" else int(spec.size / spec.crop_pct)
        width, height = (int(side * length / min(mask.shape)) for length in mask.shape[::-1])
        resized = Image.fromarray(mask.astype(np.uint8)).resize((width, height), Image.NEAREST)
        left, top = round((width - spec.size) / 2), round((height - spec.size) / 2)
        box = (left, top, left + spec.size, top + spec.size)
        return np.asarray(resized if view == "whole" else resized.crop(box)) > 0

    return pillow


def voc_xml(name, width, height, objects):
    """Annotation of Pascal VOC: objects are (class, difficult, xmin, ymin, xmax, ymax)."""
    lines = [f"<annotation><folder>VOC2007</folder><filename>{name}.jpg</filename>"]
    lines += [f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
    for label, difficult, *corners in objects:
        sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin></bndbox></part>"
        lines += [f"<object><name>{label}</name><pose>Left</pose><truncated>0</truncated>"]
        lines += [f"<difficult>{difficult}</difficult><bndbox>{box}</bndbox>"]
        lines += [part if label == "person" else "", "</object>"]
    return "\n".join([*lines, "</annotation>"])


VOC_OBJECTS = {
    "000001": (
        60,
        40,
        [("dog", 0, 5, 3, 20, 30), ("dog", 1, 40, 1, 60, 40), ("cat", 0, 1, 1, 9, 9)],
    ),
    "000002": (40, 60, [("person", 0, 10, 20, 30, 50), ("sheep", 1, 2, 2, 12, 12)]),
    "000003": (50, 50, [("bottle", 1, 10, 10, 20, 40)]),
    "000004": (80, 40, [("train", 0, 1, 15, 80, 30), ("person", 0, 70, 1, 80, 10)]),
}


@pytest.fixture(scope="session")
def voc2007(tmp_path_factory):
    """VOCdevkit/VOC2007 with four pictures."""
    home = tmp_path_factory.mktemp("voc") / "VOCdevkit" / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main", "ImageSets/Segmentation"):
        (home / folder).mkdir(parents=True)
    for name, (width, height, objects) in VOC_OBJECTS.items():
        noise(int(name), width, height).save(home / "JPEGImages" / f"{name}.jpg", quality=95)
        (home / "Annotations" / f"{name}.xml").write_text(voc_xml(name, width, height, objects))
    (home / "ImageSets" / "Main" / "test.txt").write_text("\n".join(VOC_OBJECTS) + "\n")
    (home / "ImageSets" / "Main" / "dog_test.txt").write_text("000001  1\n000002 -1\n")
    return SimpleNamespace(root=str(home.parents[1]), home=home, objects=VOC_OBJECTS)


@pytest.fixture(scope="session")
def voc2012(tmp_path_factory):
    """VOCdevkit/VOC2012 with the masks of two pictures; and the label pictures themselves."""
    home = tmp_path_factory.mktemp("voc") / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (home / folder).mkdir(parents=True)
    labels = {}
    for name, width, height in (("2007_000033", 60, 40), ("2007_000042", 40, 60)):
        noise(int(name[-2:]), width, height).save(home / "JPEGImages" / f"{name}.jpg")
        labels[name] = np.zeros((height, width), np.uint8)
    labels["2007_000033"][4:30, 8:25] = NAMES.index("aeroplane") + 1
    labels["2007_000033"][10:20, 40:60] = NAMES.index("tvmonitor") + 1
    labels["2007_000033"][3, :] = 255
    labels["2007_000042"][30:60, 3:30] = NAMES.index("person") + 1
    palette = np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tolist()
    for name, values in labels.items():
        picture = Image.fromarray(values)
        picture.putpalette(palette)
        picture.save(home / "SegmentationClass" / f"{name}.png")
    (home / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(labels) + "\n")
    return SimpleNamespace(root=str(home.parents[1]), home=home, labels=labels)


@pytest.fixture(scope="session")
def coco(tmp_path_factory):
    """annotations/instances_val2017.json and val2017/ with three pictures."""
    root = tmp_path_factory.mktemp("coco")
    (root / "annotations").mkdir()
    (root / "val2017").mkdir()
    sizes = {139: (63, 47), 285: (40, 60), 632: (50, 50)}
    for number, size in sizes.items():
        noise(number, *size).save(root / "val2017" / f"{number:012d}.jpg")
    crowd = np.zeros((47, 63), np.uint8, order="F")
    crowd[30:40, 5:60] = 1
    lengths = _uncompressed(crowd)
    content = {
        "info": {},
        "licenses": [],
        "images": [
            {"id": number, "file_name": f"{number:012d}.jpg", "width": width, "height": height}
            for number, (width, height) in reversed(sizes.items())
        ],
        "categories": COCO_CATEGORIES,
        "annotations": [
            _instance(1, 139, 18, [[3.5, 4.2, 30.1, 6.0, 25.7, 40.3]]),  # dog
            _instance(2, 139, 18, [[40, 10, 60, 10, 60, 30, 40, 30], [5, 40, 9, 40, 9, 46, 5, 46]]),
            _instance(3, 139, 1, lengths, crowd=1),  # person
            _instance(4, 139, 90, []),  # toothbrush, drawn nowhere
            _instance(5, 285, 23, [[2, 2, 38, 3, 30.5, 58, 4, 50]]),  # bear
            _instance(6, 285, 17, [[2, 2, 5, 2, 5, 5]]),  # cat, tiny
        ],
    }
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return str(root)


def _instance(identity, image, category, segmentation, crowd=0):
    return {
        "id": identity,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": crowd,
        "area": 1.0,
        "bbox": [0, 0, 1, 1],
    }


def _uncompressed(mask):
    """Run lengths as the crowds of COCO have them."""
    values = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *edges, len(values)]).tolist()
    assert values[0] == 0
    return {"size": list(mask.shape), "counts": counts}


# every category of COCO: the ids leave eleven numbers out
_CATEGORIES = """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,
fire hydrant,,stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,
giraffe,,backpack,umbrella,,,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,
baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,,wine glass,cup,fork,knife,
spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,
potted plant,bed,,dining table,,,toilet,,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,
toaster,sink,refrigerator,,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"""
COCO_CATEGORIES = [
    {"id": number, "name": name, "supercategory": "thing"}
    for number, name in enumerate(_CATEGORIES.replace("\n", "").split(","), start=1)
    if name
]
