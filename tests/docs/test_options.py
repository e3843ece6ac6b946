"""The table of all defaults says what the configuration says."""

import re

import yaml

from var_exp.conf_files import conf_dir

PAGE = (conf_dir().parent / "docs" / "options.md").read_text(encoding="utf-8")
ROOT = yaml.safe_load((conf_dir() / "evaluate.yaml").read_text())
GROUPS = {
    name.removeprefix("optional "): choice
    for entry in ROOT["defaults"]
    if isinstance(entry, dict)
    for name, choice in entry.items()
}


def table(names):
    """Default by name, of the rows whose first cell names one of them."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE, re.M)
    return {name: value.strip("`") for name, value in rows if name in names}


def test_every_group_with_its_default():
    said = table(GROUPS)
    assert said.pop("experiment") == "none"
    assert said == {
        name: f"[{', '.join(choice)}]" if isinstance(choice, list) else choice
        for name, choice in GROUPS.items()
        if name != "experiment"
    }


def test_every_option_of_the_root_with_its_default():
    options = {k: v for k, v in ROOT.items() if k not in ("defaults", "hydra")}
    said = table(options)
    assert set(said) == set(options)
    for name, value in options.items():
        if name != "title":  # an interpolation
            assert yaml.safe_load(said[name]) == value
