"""Every snippet of ours on the page for those who come from another library runs, in order."""

import re

import torch

from var_exp.conf_files import aliases, conf_dir
from var_exp.methods import list_methods

TEXT = (conf_dir().parent / "docs" / "moving.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)


def test_our_snippets_run_and_agree_with_captum(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    ours = blocks("python")
    theirs = next(block for block in blocks("py") if "captum" in block)
    assert len(ours) == 7
    for block in ours:
        exec(block, names)
        if "shown" in block:
            shown = names["shown"]
            assert shown.shape == (4, 64, 64)
            assert torch.equal(shown.amax((1, 2)), torch.ones(4))
        if "n_steps" not in block and '"ig"' in block:
            maps = names["maps"]
            exec(theirs, names)
            torch.testing.assert_close(maps[:, 0], names["maps"].float(), rtol=1e-3, atol=1e-5)
    printed = capsys.readouterr().out.splitlines()
    assert 0 <= float(re.findall(r"\d\.\d+", printed[0])[0]) <= 1
    assert names["refined"].shape == (4, 3, 1, 64, 64)
    assert torch.equal(names["again"][:, 0], names["maps"][:, 0])


def test_every_name_of_ours_exists():
    rows = [line.split("|")[2] for line in TEXT.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert len(named) > 30
    assert named <= {*list_methods(), *aliases("metric")}
