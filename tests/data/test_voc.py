"""Pascal VOC in its true layout: classes, boxes and masks to the pixel, and what is left out."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from var_exp.data.imagenet_classes import imagenet_names
from var_exp.data.voc import NAMES, VOC
from var_exp.types import BadData, ConfigError, InputSpec, Unreadable

DOG, CAT, PERSON, TRAIN = (NAMES.index(name) for name in ("dog", "cat", "person", "train"))


def painted(width, height, boxes):
    """Union of boxes of VOC: rows and columns count from 1, and the last belong to the box."""
    mask = np.zeros((height, width), bool)
    for left, top, right, bottom in boxes:
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                mask[row - 1, column - 1] = True
    return mask


@pytest.mark.parametrize("view", ["crop", "whole"])
def test_regions_are_the_union_of_the_boxes_in_every_view(voc2007, spec, seen, view):
    data = VOC(voc2007.root, spec, view=view)
    assert [data.sample_id(i) for i in range(len(data))] == [
        "voc2007/000001",
        "voc2007/000002",
        "voc2007/000004",
    ]
    for index in range(len(data)):
        sample = data[index]
        assert sample.id == data.sample_id(index)
        assert sample.classes[0] == data.label(index)
        width, height, objects = voc2007.objects[sample.id[-6:]]
        assert sample.image.shape[1:] == sample.regions.shape[1:]
        for label, region in zip(sample.classes.tolist(), sample.regions, strict=True):
            boxes = [corners for name, _, *corners in objects if name == NAMES[label]]
            expected = seen(painted(width, height, boxes), view)
            assert torch.equal(region, torch.from_numpy(expected))


def test_pictures_go_the_way_of_their_boxes(voc2007, spec):
    sample = VOC(voc2007.root, spec, view="whole")[0]
    picture = Image.open(voc2007.home / "JPEGImages" / "000001.jpg")
    resized = np.asarray(picture.resize((48, 32), Image.BILINEAR), np.float32) / 255
    assert torch.equal(sample.image, torch.from_numpy(resized).permute(2, 0, 1))


def test_classes_with_difficult_objects_only_are_left_out_and_counted(voc2007, spec):
    data = VOC(voc2007.root, spec)
    assert [photograph.classes for photograph in data.photographs] == [
        (CAT, DOG),  # one of the dogs is difficult, the other is not
        (PERSON,),
        (PERSON, TRAIN),
    ]
    assert data.notes == {
        "classes asked": "5",
        "classes left out": "2 with difficult objects only",
        "pictures left out": "1 with fewer than 1 asked",
    }


def test_a_box_that_the_crop_cuts_away_leaves_an_empty_region(voc2007, spec):
    sample = VOC(voc2007.root, spec)[2]
    person, train = sample.regions
    assert sample.classes.tolist() == [PERSON, TRAIN]
    assert not person.any()
    assert train.any()


def test_imagenet_models_are_asked_about_what_they_know(voc2007, spec):
    data = VOC(voc2007.root, spec, num_classes=1000)
    assert [photograph.classes for photograph in data.photographs] == [(CAT, DOG), (TRAIN,)]
    assert "2 without a class of the model" in data.notes["classes left out"]
    assert data.class_names == NAMES
    assert data.model_names == imagenet_names()
    assert data.members[CAT].nonzero()[:, 0].tolist() == [281, 282, 283, 284, 285]


@pytest.mark.parametrize("num_classes", [None, 20])
def test_models_of_the_own_classes_are_asked_about_all(voc2007, spec, num_classes):
    data = VOC(voc2007.root, spec, num_classes=num_classes)
    assert data.members is None
    assert data.model_names == NAMES


def test_small_classes_and_lonely_classes_can_be_left_out(voc2007, spec):
    share = painted(60, 40, [(1, 1, 9, 9)]).mean()  # the cat
    kept = VOC(voc2007.root, spec, min_area=share).photographs[0]
    assert kept.classes == (CAT, DOG)
    data = VOC(voc2007.root, spec, min_area=share + 1e-6)
    assert data.photographs[0].classes == (DOG,)
    assert "of the picture" in data.notes["classes left out"]
    assert [p.id[-1] for p in VOC(voc2007.root, spec, min_classes=2).photographs] == ["1", "4"]
    assert [p.id[-1] for p in VOC(voc2007.root, spec, count=2).photographs] == ["1", "4"]


def test_a_subset_of_pairs_as_torchray_lists_them(voc2007, spec, tmp_path):
    file = tmp_path / "difficult.txt"
    rows = {"000001": {DOG}, "000002": set(), "000004": {PERSON}}
    file.write_text(
        "".join(
            "\t".join([name, *(str(int(c in wanted)) for c in range(20))]) + "\n"
            for name, wanted in rows.items()
        )
    )
    data = VOC(voc2007.root, spec, subset=str(file))
    assert [photograph.classes for photograph in data.photographs] == [(DOG,), (PERSON,)]
    assert "3 not in the subset" in data.notes["classes left out"]
    file.write_text("000001\t1\t0\n")
    with pytest.raises(BadData, match="must have a picture's name and 20 times 0 or 1"):
        VOC(voc2007.root, spec, subset=str(file))


def test_masks_of_2012_without_the_void_border(voc2012, spec, seen):
    data = VOC(voc2012.root, spec, year=2012, split="val", regions="masks")
    assert [data.sample_id(i) for i in range(2)] == ["voc2012/2007_000033", "voc2012/2007_000042"]
    for index in range(2):
        sample = data[index]
        labels = voc2012.labels[sample.id[8:]]
        present = sorted(set(np.unique(labels).tolist()) - {0, 255})
        assert [label + 1 for label in sample.classes.tolist()] == present
        for label, region in zip(sample.classes.tolist(), sample.regions, strict=True):
            assert torch.equal(region, torch.from_numpy(seen(labels == label + 1)))
    kept = VOC(voc2012.root, spec, year=2012, split="val", regions="masks", min_area=0.1)
    assert [photograph.classes for photograph in kept.photographs] == [(0,), (PERSON,)]
    assert (voc2012.labels["2007_000033"] == 1).mean() >= 0.1
    assert (voc2012.labels["2007_000033"] == 20).mean() < 0.1


@pytest.mark.parametrize("inside", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_the_root_may_be_any_folder_on_the_way(voc2007, spec, inside):
    assert len(VOC(f"{voc2007.root}/{inside}", spec)) == 3


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"root": None}, BadData, "data.root="),
        ({"year": 2012}, BadData, "holds no VOC2012 with a folder JPEGImages"),
        ({"split": "val"}, BadData, r"data.split can be test\."),
        ({"regions": "outlines"}, ConfigError, "data.regions must be boxes or masks"),
        ({"view": "square"}, ConfigError, "data.view must be crop or whole"),
        ({"min_area": 1.0}, ConfigError, "data.min_area must be in"),
        ({"min_classes": 0}, ConfigError, "data.min_classes and data.count at least 1"),
        ({"min_classes": 3}, BadData, "none of the 4 pictures is left"),
        ({"num_classes": 80}, ConfigError, "the model has 80 classes; these data can ask"),
        ({"subset": "/nowhere"}, BadData, "cannot read data.subset"),
    ],
)
def test_what_cannot_be_is_one_sentence(voc2007, spec, options, error, sentence):
    with pytest.raises(error, match=sentence):
        VOC(**{"root": voc2007.root, "spec": spec, **options})


def test_models_of_one_size_see_crops_only(voc2007):
    fixed = InputSpec(size=32, mean=(0.5,) * 3, std=(0.5,) * 3, fixed_size=True)
    with pytest.raises(ConfigError, match="view=whole needs a model that takes any size"):
        VOC(voc2007.root, fixed, view="whole")


OBJECT = "<object><name>{}</name><bndbox>{}</bndbox></object>"
BOX = "<xmin>{}</xmin><ymin>5</ymin><xmax>{}</xmax><ymax>9</ymax>"
SIZE = "<size><width>60</width><height>40</height></size>"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot read annotation .*000001.xml"),
        ("<annotation>", "cannot read annotation"),
        ("<annotation></annotation>", "cannot read annotation"),
        (SIZE + OBJECT.format("tiger", BOX.format(1, 5)), "names the class 'tiger'"),
        (SIZE + OBJECT.format("dog", BOX.format(61, 70)), "holds no pixel of a picture"),
        (SIZE + OBJECT.format("dog", BOX.format(9, 5)), "holds no pixel of a picture"),
        (SIZE + OBJECT.format("dog", BOX.format("x", 5)), "cannot read annotation"),
    ],
)
def test_bad_annotations_are_named(voc2007, spec, tmp_path, content, sentence):
    home = shutil.copytree(voc2007.home, tmp_path / "VOC2007")
    file = home / "Annotations" / "000001.xml"
    file.unlink()
    if content is not None:
        file.write_text(f"<annotation>{content}</annotation>" if "<size" in content else content)
    with pytest.raises(BadData, match=sentence):
        VOC(str(home), spec)


def test_boxes_are_cut_at_the_edge_of_the_picture_and_may_have_fractions(voc2007, spec, tmp_path):
    home = shutil.copytree(voc2007.home, tmp_path / "VOC2007")
    box = BOX.format("45.00", 75)
    text = f"<annotation>{SIZE}{OBJECT.format('dog', box)}</annotation>"
    (home / "Annotations" / "000001.xml").write_text(text)
    _, boxes = VOC(str(home), spec).photographs[0].annotation
    assert boxes.boxes == ((44, 4, 60, 9),)


def test_pictures_and_annotations_of_other_sizes_do_not_meet(voc2007, spec, tmp_path):
    home = shutil.copytree(voc2007.home, tmp_path / "VOC2007")
    Image.new("RGB", (50, 40)).save(home / "JPEGImages" / "000001.jpg")
    with pytest.raises(BadData, match=r"has \(50, 40\) pixels and its annotation \(60, 40\)"):
        VOC(str(home), spec)[0]
    (home / "JPEGImages" / "000002.jpg").unlink()
    with pytest.raises(BadData, match=r"1 of 4 pictures are missing, such as .*000002\.jpg"):
        VOC(str(home), spec)


def test_masks_of_unknown_classes_are_named(voc2012, spec, tmp_path):
    home = shutil.copytree(voc2012.home, tmp_path / "VOC2012")
    Image.new("L", (60, 40), 21).save(home / "SegmentationClass" / "2007_000033.png")
    with pytest.raises(BadData, match="has class 21, and VOC only 20"):
        VOC(str(home), spec, year=2012, split="val", regions="masks")


def test_stored_pixels_are_not_turned_by_exif_since_boxes_are_of_them(voc2007, spec, tmp_path):
    home = shutil.copytree(voc2007.home, tmp_path / "VOC2007")
    file = home / "JPEGImages" / "000001.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.open(file).convert("RGB")
    picture.save(file, exif=exif, quality=95)
    resized = Image.open(file).resize((48, 32), Image.BILINEAR)
    sample = VOC(str(home), spec, view="whole")[0]
    assert torch.equal(
        (sample.image * 255).byte().permute(1, 2, 0), torch.tensor(np.array(resized))
    )


def test_unreadable_pictures_end_the_run_or_are_left_out_by_name(voc2007, spec, tmp_path):
    home = shutil.copytree(voc2007.home, tmp_path / "VOC2007")
    (home / "JPEGImages" / "000002.jpg").write_bytes(b"")
    whole = (home / "JPEGImages" / "000001.jpg").read_bytes()
    (home / "JPEGImages" / "000001.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadData, match=r"1 of 3 pictures are unreadable: .*000002\.jpg"):
        VOC(str(home), spec)
    data = VOC(str(home), spec, on_error="skip")
    assert list(data.skipped) == ["voc2007/000002"]
    with pytest.raises(Unreadable, match=r"000001\.jpg"):
        data[0]


def test_the_files_of_boxes_and_masks_are_known_for_provenance(voc2007, voc2012, spec):
    boxed = VOC(voc2007.root, spec)
    names = [photograph.file.stem for photograph in boxed.photographs]
    assert sorted(file.name for file in boxed.files()) == sorted(
        [f"{name}.jpg" for name in names] + [f"{name}.xml" for name in names]
    )
    masked = VOC(voc2012.root, spec, year=2012, split="val", regions="masks")
    names = [photograph.file.stem for photograph in masked.photographs]
    assert sorted(file.name for file in masked.files()) == sorted(
        [f"{name}.jpg" for name in names] + [f"{name}.png" for name in names]
    )
    assert all(file.is_file() for file in [*boxed.files(), *masked.files()])
