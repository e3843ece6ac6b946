"""What strangers write into names goes into tables and pages as harmless text."""

import csv

import pytest

from var_exp.files import whole_file
from var_exp.text import TableWriter, plain_cell, printable, safe_cell, without_folders

FORMULAS = ["=1+1", "+cmd|' /C calc'!A1", "-2+3", "@SUM(A1)", "\t=1", "'=1", "''@x"]


@pytest.mark.parametrize("text", [*FORMULAS, "plain", "a=b", "'quoted'", "", "ü"])
def test_a_cell_is_no_formula_and_comes_back(text):
    cell = safe_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert plain_cell(cell) == text


def test_numbers_stay_numbers(tmp_path):
    with whole_file(tmp_path / "t.csv") as file:
        TableWriter(file).writerows([["=x", -1.5, 3], ["a,b", float("-inf"), None]])
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["'=x", "-1.5", "3"], ["a,b", "-inf", ""]]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("new\nline", "new\\nline"),
        ("bell\x07", "bell\\x07"),
        ("sep\u2028", "sep\\u2028"),
        ("猫 ünï \U0001f600", "猫 ünï \U0001f600"),
        ("lone\udce9", "lone\\udce9"),
    ],
)
def test_names_are_drawn_in_one_line(name, shown):
    assert printable(name) == shown
    assert len(printable(name).splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("/home/ann/data/val", "…/val"),
        ("~/photos/cats", "…/cats"),
        (r"C:\Users\ann\x.png", "…/x.png"),
        ("runs/mine", "runs/mine"),
        ("var_exp.data.critters.Critters", "var_exp.data.critters.Critters"),
        ("top-1 and/or 3/4", "top-1 and/or 3/4"),
        ("https://api.wandb.ai/x/y", "https://api.wandb.ai/x/y"),
        ("failed in /scratch/ann/run: no room", "failed in …/run: no room"),
        ("'/home/ann/my photos/a b.jpg' is cut", "'…/a b.jpg' is cut"),
        (["/a/b", 3, None, {"x": "/c/d/e"}], ["…/b", 3, None, {"x": "…/e"}]),
    ],
)
def test_folders_of_somebodys_disk_are_left_out(given, told):
    assert without_folders(given) == told
