"""The table of class members is what the documentation says, entry by entry."""

import csv
from importlib.resources import files
from pathlib import Path

import pytest
from timm.data import ImageNetInfo

from var_exp.data.imagenet_classes import imagenet_members, imagenet_names, wordnet_numbers
from var_exp.data.voc import NAMES

INFO = ImageNetInfo("imagenet-1k")


@pytest.fixture(scope="module")
def rows():
    with (files("var_exp.data") / "imagenet_members.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_line_is_one_class_of_imagenet_with_its_own_name(rows):
    ids = [row["wordnet_id"] for row in rows]
    assert len(set(ids)) == len(ids)
    assert set(ids) <= set(INFO.label_names())
    for row in rows:
        number = INFO.label_names().index(row["wordnet_id"])
        assert INFO.index_to_description(number).split(",")[0] == row["imagenet_name"]
        assert row["voc"] or row["coco"]


def test_voc_asks_for_all_but_person(rows):
    assert {row["voc"] for row in rows if row["voc"]} == set(NAMES) - {"person"}


def test_words_that_mean_something_else_are_not_taken(rows):
    """The kite of ImageNet is a bird, its crane and cock are birds, its Dutch oven is a pot."""
    of = {(row["imagenet_name"], row["wordnet_id"]): row["coco"] for row in rows}
    assert of["kite", "n01608432"] == "bird"
    assert of["crane", "n02012849"] == "bird"  # the other crane lifts loads
    assert not {"crane", "Dutch oven", "cup", "street sign", "bagel"} & {
        name for (name, identity) in of if identity not in ("n01608432", "n02012849")
    }


def test_members_are_the_lines_of_the_table(rows):
    members = imagenet_members(NAMES, "voc")
    assert members.shape == (20, 1000)
    assert int(members.sum()) == sum(bool(row["voc"]) for row in rows)
    for row in rows:
        if row["voc"]:
            assert members[NAMES.index(row["voc"]), wordnet_numbers()[row["wordnet_id"]]]
    # in WordNet's order of ImageNet all 118 dogs follow each other, and no wild dog is among them
    dogs = members[NAMES.index("dog")].nonzero()[:, 0].tolist()
    assert dogs == list(range(151, 269))
    assert imagenet_names()[269] == "timber wolf"
    assert int(members[NAMES.index("bird")].sum()) == 59


def test_the_table_of_the_documentation_is_that_of_the_file(rows):
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    for group, column in (("coco", 0), ("voc", 1)):
        of = {}
        for row in rows:
            if row[group]:
                of.setdefault(row[group], []).append(row["imagenet_name"])
        for name, members in of.items():
            (line,) = [
                cells
                for cells in (line.strip("| ").split(" | ") for line in page.splitlines())
                if len(cells) == 3 and cells[column] == name
            ]
            if len(members) < 20:
                said = line[2].replace("; in Pascal VOC also", ",")
                assert set(said.split(", ")) >= set(members)
                if group == "coco":
                    assert line[2].split("; ")[0] == ", ".join(members)
            else:
                assert f"all {len(members)} of them, {members[0]} … {members[-1]}" == line[2]
