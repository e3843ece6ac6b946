"""A run on saved maps scores what another tool, or another run, has made, and says what lacks."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from var_exp.conf_files import conf_dir
from var_exp.results.rows import read_rows
from var_exp.runs.evaluation import evaluate
from var_exp.types import AlreadyFinished, BadData, ConfigError

CHEAP = ("logger=none", "trainer=cpu", "pictures=1")
PAGE = (conf_dir().parent / "docs" / "own.md").read_text(encoding="utf-8")


FIRST = ("method=gbp", "metric=[energy_pointing_game]", "maps=true")


def run(composed, folder, *overrides):
    folder.mkdir(exist_ok=True)
    evaluate(composed(*CHEAP, *overrides), folder)
    return {
        (row.sample_id, row.class_index, row.metric, row.variant.name): row.score
        for row in read_rows(folder / "scores.csv")
    }


@pytest.mark.filterwarnings("ignore:Setting backward", "ignore:Input Tensor")  # from Captum
def test_maps_that_captum_wrote_score_as_our_own(composed, tmp_path, monkeypatch):
    """By the script of docs/own.md."""
    (script,) = re.findall(r"^```python\n(# captum_maps\.py\n.*?)^```", PAGE, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    assert "count=64" in script  # an eighth of it will do
    exec(compile(script.replace("count=64", "count=8"), "captum_maps.py", "exec"), {})
    measures = ("metric=[grid_pointing_game,deletion_auc_coarse,sparseness]", "data.count=8")
    # Captum explains the network as given
    chosen = ("refine=[var,cgi]", "prepare=false", *measures)
    ours = run(composed, tmp_path / "ours", "method=gbp", *chosen)
    theirs = run(composed, tmp_path / "theirs", "method=saved", "method.root=captum_maps", *chosen)
    of_random = {key for key in ours if key[3].endswith("random_classes")}
    assert of_random
    assert set(theirs) == set(ours) - of_random  # no other class has a map
    assert len(theirs) == 8 * 3 * 10
    for key, score in theirs.items():
        assert score == pytest.approx(ours[key], abs=1e-6), key


@pytest.fixture
def earlier(composed, tmp_path):
    """A run that kept its maps."""
    folder = tmp_path / "earlier"
    run(composed, folder, "layout=single", "classes=top_k", "data.count=12", *FIRST)
    return folder


def test_a_new_measure_over_the_maps_of_an_earlier_run(composed, earlier, tmp_path, monkeypatch):
    """Base and competitors come from its store, and nothing is attributed again."""
    asked = ("layout=single", "classes=top_k", "data.count=12")
    measure = ("metric=[relevance_rank_accuracy,sparseness]", "refine=[var,contrast_max]")
    anew = run(composed, tmp_path / "anew", *asked, *measure, "method=gbp")
    calls = []
    monkeypatch.setattr("var_exp.engine.gradients.class_gradients", calls.append)
    saved = ("method=saved", f"method.root={earlier / 'maps'}")
    again = run(composed, tmp_path / "again", *asked, *measure, *saved)
    assert not calls
    assert again
    assert {key: anew[key] for key in again} == again


def test_what_lacks_is_named_before_the_work(composed, earlier, tmp_path):
    saved = ("method=saved", f"method.root={earlier / 'maps'}", "layout=single", "data.count=12")
    scored = ("metric=[energy_pointing_game]", "controls=false")
    for wrong, message in [
        (("classes=top_k", "data.count=13"), "lacks the maps of class 1 of 'critters-0-000012';"),
        (("classes=top_k", "classes.k=5"), r"lacks the maps of class \d+ of .* and 9 others; add"),
        (("classes=top_k", "method.root=nowhere"), "'nowhere' holds neither index.csv nor .npz"),
    ]:
        with pytest.raises(BadData, match=message):
            run(composed, tmp_path / "run", *saved, *scored, *wrong)
    assert not list((tmp_path / "run").iterdir())
    with pytest.raises(ConfigError, match="metric max_sensitivity asks for the maps of another"):
        run(composed, tmp_path / "run", *saved, "classes=top_k", "metric=[max_sensitivity]")


def test_other_maps_are_another_run(composed, earlier, tmp_path):
    asked = ("layout=single", "classes=top_k", "data.count=12", "metric=[sparseness]")
    saved = ("method=saved", f"method.root={earlier / 'maps'}", "controls=false")
    run(composed, tmp_path / "run", *asked, *saved)
    with pytest.raises(AlreadyFinished):
        run(composed, tmp_path / "run", *asked, *saved)
    shard = sorted(earlier.glob("maps/*.safetensors"))[0]
    tensors = {name: torch.rand_like(tensor) for name, tensor in load_file(shard).items()}
    rows = {"rows": "[]"}
    save_file(tensors, shard, rows)  # as large as before
    with pytest.raises(ConfigError, match="maps was"):
        run(composed, tmp_path / "run", *asked, *saved)
