"""The notebook runs from top to bottom, beside its photograph."""

import json

from var_exp.conf_files import conf_dir

DOCS = conf_dir().parent / "docs"


def test_every_cell_runs(monkeypatch, capsys):
    monkeypatch.chdir(DOCS)
    cells = json.loads((DOCS / "explain.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # nothing is committed that a machine wrote
            exec("".join(cell["source"]), names)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Egyptian cat 0.54 rather than tabby 0.11 (tf_efficientnet_lite2, grad")
    assert second.startswith("Egyptian cat 0.54 rather than tiger cat")
    assert names["why"]._repr_png_()[:4] == b"\x89PNG"
