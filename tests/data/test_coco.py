"""COCO in its true layout, against pycocotools' own reader."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO as Official  # noqa: N811

from var_exp.data.coco import COCO
from var_exp.types import BadData, ConfigError


@pytest.fixture(scope="module")
def official(coco):
    with contextlib.redirect_stdout(io.StringIO()):
        return Official(f"{coco}/annotations/instances_val2017.json")


@pytest.mark.parametrize("view", ["crop", "whole"])
def test_regions_are_what_pycocotools_draws(coco, official, spec, seen, view):
    data = COCO(coco, spec, view=view)
    ids = sorted(official.getCatIds())
    assert [data.sample_id(i) for i in range(len(data))] == [
        "coco-val2017/000000000139",
        "coco-val2017/000000000285",
    ]
    for index in range(len(data)):
        sample = data[index]
        image = int(sample.id[-12:])
        for number, region in zip(sample.classes.tolist(), sample.regions, strict=True):
            found = official.loadAnns(official.getAnnIds(image, catIds=[ids[number]]))
            union = np.any([official.annToMask(each) for each in found], axis=0)
            assert union.any()
            assert torch.equal(region, torch.from_numpy(seen(union, view)))
            assert data.class_names[number] == official.loadCats(ids[number])[0]["name"]


def test_classes_are_those_that_are_drawn_somewhere(coco, official, spec):
    data = COCO(coco, spec)
    names = [[data.class_names[c] for c in photograph.classes] for photograph in data.photographs]
    assert names == [["person", "dog"], ["cat", "bear"]]
    assert len(data.class_names) == 80
    assert data.notes["classes left out"] == "1 without outlines"
    assert data.notes["pictures left out"] == "1 with fewer than 1 asked"


def test_torchvisions_models_number_the_classes_by_category(coco, spec):
    data = COCO(coco, spec, num_classes=91)
    assert [photograph.classes for photograph in data.photographs] == [(1, 18), (17, 23)]
    assert (data.class_names[18], data.class_names[12]) == ("dog", "unused 12")
    assert data.members is None


def test_imagenet_models_are_asked_about_what_they_know(coco, spec):
    data = COCO(coco, spec, num_classes=1000)
    names = [[data.class_names[c] for c in photograph.classes] for photograph in data.photographs]
    assert names == [["dog"], ["cat", "bear"]]


def test_the_least_area_is_that_of_the_union(coco, official, spec):
    def share(image, category):
        found = official.loadAnns(official.getAnnIds(image, catIds=[category]))
        return np.any([official.annToMask(each) for each in found], axis=0).mean()

    names = COCO(coco, spec, min_area=0.025).class_names
    assert share(285, 17) < 0.025 <= share(285, 23)
    kept = COCO(coco, spec, min_area=0.025).photographs[1]
    assert [names[c] for c in kept.classes] == ["bear"]
    dog = share(139, 18)
    for area, kept in ((dog, True), (dog + 1e-9, False)):
        asked = COCO(coco, spec, min_area=area).photographs[0]
        assert ("dog" in [names[c] for c in asked.classes]) == (kept and asked.id.endswith("139"))


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"root": None}, BadData, "data.root="),
        ({"split": "val2014"}, BadData, r"data.split can be val2017\."),
        ({"num_classes": 20}, ConfigError, "the model has 20 classes"),
    ],
)
def test_what_cannot_be_is_one_sentence(coco, spec, options, error, sentence):
    with pytest.raises(error, match=sentence):
        COCO(**{"root": coco, "spec": spec, **options})


def edited(coco, folder, change):
    root = Path(shutil.copytree(coco, folder / "coco"))
    file = root / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return str(root)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c["annotations"][0].update(category_id=12), "is of category 12, which is none"),
        (lambda c: c["annotations"][0].update(image_id=7), "is of image 7, which is none"),
        (lambda c: c.pop("images"), "lacks images"),
        (lambda c: c["images"][0].update(file_name="x.jpg"), "1 of 3 pictures are missing"),
    ],
)
def test_bad_annotations_are_named(coco, spec, tmp_path, change, sentence):
    with pytest.raises(BadData, match=sentence):
        COCO(edited(coco, tmp_path, change), spec)


def test_a_picture_of_another_size_than_annotated_is_refused(coco, spec, tmp_path):
    root = edited(coco, tmp_path, lambda c: c["images"][-1].update(width=65))
    with pytest.raises(BadData, match=r"has \(63, 47\) pixels and its annotation \(65, 47\)"):
        COCO(root, spec)[0]


def test_pictures_may_lie_in_images(coco, spec, tmp_path):
    root = Path(shutil.copytree(coco, tmp_path / "coco"))
    (root / "images").mkdir()
    (root / "val2017").rename(root / "images" / "val2017")
    assert len(COCO(str(root), spec)) == 2
    shutil.rmtree(root / "images")
    with pytest.raises(BadData, match="holds no folder val2017"):
        COCO(str(root), spec)
    (root / "annotations" / "instances_val2017.json").write_text("{")
    (root / "val2017").mkdir()
    with pytest.raises(BadData, match="cannot read"):
        COCO(str(root), spec)


def test_without_pycocotools_the_way_to_it_is_said(coco, spec, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    with pytest.raises(ConfigError, match=r"pip install 'var_exp\[coco\]'"):
        COCO(coco, spec)


def test_pictures_and_the_file_of_instances_are_known_for_provenance(coco, spec):
    names = sorted(file.name for file in COCO(coco, spec).files())
    assert names == ["000000000139.jpg", "000000000285.jpg", "instances_val2017.json"]
