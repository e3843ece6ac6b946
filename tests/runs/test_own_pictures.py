"""Own pictures without labels: explained, drawn, kept as arrays, and nothing lost silently."""

import csv
import re
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from var_exp.data.critters import Critters
from var_exp.methods import get_method
from var_exp.methods.map_files import SavedMaps
from var_exp.models import load_model
from var_exp.refine.var import VAR
from var_exp.results.rows import read_rows
from var_exp.runs.evaluation import evaluate
from var_exp.types import BadData, ConfigError

GOOD = ["a b.png", "häuser/c.png", "häuser/d.png", "写真.png"]


def normalised(image):
    return (image[None] - 0.5) / 0.25


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Critters as files, beside one that its head gives away and one that is cut off."""
    root = tmp_path_factory.mktemp("photos")
    (root / "häuser").mkdir()
    images = {}
    for sample, name in zip(Critters(4, seed=5), GOOD, strict=False):
        pixels = (sample.image * 255).round().byte()
        Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(root / name)
        images[name] = pixels.float() / 255
    content = (root / GOOD[0]).read_bytes()
    (root / "cut.png").write_bytes(content[: len(content) // 2])
    (root / "empty.jpg").write_bytes(b"")
    return root, images


def explain(composed, root, folder, *overrides):
    folder.mkdir()
    own = ("data=folder", f"data.root={root}", "logger=none", "trainer=cpu", "pictures=1")
    return evaluate(composed(*own, *overrides), folder)


def test_own_pictures_are_explained_without_further_options(composed, images, tmp_path, capsys):
    root, pictures = images
    explain(composed, root, tmp_path / "run")
    assert list(read_rows(tmp_path / "run" / "scores.csv")) == []  # nothing was asked for
    model = load_model("critters_cnn")
    predicted = {name: int(model(normalised(image)).argmax()) for name, image in pictures.items()}

    saved = SavedMaps(tmp_path / "run" / "maps")
    assert {variant for _, _, variant in saved} == {"base", "var_scaled"}
    for name, label in predicted.items():
        image = normalised(pictures[name])
        classes = model(image).argsort(1, descending=True)[:, :4]
        assert classes[0, 0] == label
        maps = get_method("gradcam").attribute(model, image, classes)
        torch.testing.assert_close(torch.tensor(saved[name, label, "base"]), maps[0, 0])
        refined = VAR.scaled()(maps)[0, 0]
        torch.testing.assert_close(
            torch.tensor(saved[name, label, "var_scaled"]), refined, rtol=1e-4, atol=1e-5
        )
        assert np.asarray(Image.open(tmp_path / "run" / "maps" / "pictures" / name)).any()
        for number, own in zip(
            classes[0].tolist(), maps[0], strict=True
        ):  # so another run can refine
            torch.testing.assert_close(torch.tensor(saved[name, number, "base"]), own)
    assert len(saved) == 4 * (4 + 1)

    with (tmp_path / "run" / "skipped.csv").open(newline="", encoding="utf-8") as file:
        reasons = {line["id"]: line["reason"] for line in csv.DictReader(file)}
    assert set(reasons) == {"cut.png", "empty.jpg"}
    assert "truncated" in reasons["cut.png"]
    assert "the file is empty" in reasons["empty.jpg"]
    said = capsys.readouterr().out
    assert "unreadable, left out: 2 of 6: empty.jpg, cut.png; reasons in skipped.csv" in said
    assert "maps/index.csv, maps/pictures" in said
    page = (tmp_path / "run" / "report.html").read_text()
    assert "2 of 6: empty.jpg, cut.png" in page
    assert said.splitlines()[-1] == f"now open {tmp_path / 'run' / 'report.html'}"
    assert "top-1 class" not in said + page  # it was asked about, so it is one of those asked
    # one of them is shown in full, and the page leads to the files of all
    assert "All 4 pictures" in page
    addresses = re.findall(r'<li><a href="(maps/pictures/[^"]*)"', page)
    assert [unquote(one) for one in addresses] == [f"maps/pictures/{name}" for name in GOOD]


def test_a_strict_run_ends_with_the_name_of_the_file(composed, images, tmp_path):
    with pytest.raises(BadData, match=r"1 of 6 pictures are unreadable.*empty\.jpg"):
        explain(composed, images[0], tmp_path / "run", "data.on_error=fail")


@pytest.mark.parametrize(("choice", "files"), [("true", 1), ("false", 0)])
def test_the_maps_of_a_labelled_run_are_kept_when_asked_for(composed, tmp_path, choice, files):
    cheap = ("data.count=8", "refine=none", "controls=false", "pictures=0", "logger=none")
    (tmp_path / "run").mkdir()
    evaluate(composed(*cheap, f"maps={choice}", "trainer=cpu"), tmp_path / "run")
    assert len(list(tmp_path.glob("run/maps/*.safetensors"))) == files
    assert not list(tmp_path.glob("run/maps/pictures"))


def test_an_unknown_choice_is_refused(composed, tmp_path):
    with pytest.raises(ConfigError, match="maps must be true, false, overlays or auto, got 'yes'"):
        evaluate(composed("maps=yes", "logger=none", "trainer=cpu", "data.count=8"), tmp_path)


def test_named_classes_are_the_columns(composed, images, tmp_path):
    """What was asked is what is shown, whatever the model predicts."""
    root, pictures = images
    asked = ("classes=named", "classes.names=[class 3,'7']", "metric=[sparseness]")
    explain(composed, root, tmp_path / "run", *asked, "controls=false")
    rows = list(read_rows(tmp_path / "run" / "scores.csv"))
    assert {(row.sample_id, row.class_index) for row in rows} == {
        (name, number) for name in pictures for number in (3, 7)
    }
    page = (tmp_path / "run" / "report.html").read_text()
    assert "class 3" in page
    assert "class 7" in page
    assert "class 3 (" not in page
