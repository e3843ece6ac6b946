"""One run ends with the files of the contract, and the numbers in them agree."""

import csv
import hashlib
import math
from collections import defaultdict

import pytest

from var_exp.data import measured_loader
from var_exp.data.datamodule import SampleModule
from var_exp.results.rows import read_rows
from var_exp.results.summary import read_summary
from var_exp.runs.evaluation import evaluate
from var_exp.types import AlreadyFinished, ConfigError

SMALL = ("logger=none", "data.count=64", "trainer=cpu")
FINISHED = ("title=a test", "pictures=2", *SMALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run of the default, made once."""
    from hydra import compose, initialize_config_dir

    from var_exp.registry import conf_dir

    folder = tmp_path_factory.mktemp("run")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("evaluate", overrides=[*FINISHED])
    return folder, evaluate(cfg, folder)


def test_a_run_writes_the_files_of_the_contract(finished):
    folder, summary = finished
    written = {file.name for file in folder.iterdir()}
    assert {"summary.csv", "scores.csv", "report.html", "config.yaml"} <= written
    assert not [name for name in written if name.startswith("scores.rank")]
    with (folder / "summary.csv").open() as file:
        header = next(csv.reader(file))
    assert header[:6] == ["metric", "variant", "value", "ci_low", "ci_high", "n"]
    assert repr(read_summary(folder / "summary.csv")) == repr(summary)
    assert [row.variant.name for row in summary] == [
        "base",
        "var",
        "var-base",
        "var-var_same_sparsity",
        "var-var_random_classes",
        "var_same_sparsity",
        "var_random_classes",
        "uniform_map",
        "random_map",
        "gaussian_map",
        "edge_map",
        "oracle_map",
    ]
    page = (folder / "report.html").read_text()
    assert "a test" in page
    assert "<img" in page


def test_the_summary_is_the_mean_of_the_scores(finished):
    folder, summary = finished
    scores = defaultdict(dict)
    for row in read_rows(folder / "scores.csv"):
        scores[row.variant.name][row.sample_id, row.class_index] = row.score
    for row in summary:
        if row.variant.role == "difference":
            left, right = scores[row.variant.of], scores[row.variant.subtracted]
            values = [left[key] - right[key] for key in left]
        else:
            values = list(scores[row.variant.name].values())
        assert len(values) == row.n == 64
        assert row.value == pytest.approx(math.fsum(values) / 64)
        assert row.ci_low <= row.value <= row.ci_high


def test_random_competitors_meet_the_samples_whose_ids_choose_them(finished, composed, tmp_path):
    """Whatever the batches; all else is scored on every sample, and as it was without a choice."""
    every = {
        (row.sample_id, row.class_index, row.variant.name): row.score
        for row in read_rows(finished[0] / "scores.csv")
    }
    ids = {key[0] for key in every}
    chosen = set(
        sorted(ids, key=lambda id: hashlib.blake2b(id.encode(), digest_size=8).hexdigest())[:5]
    )
    options = (*SMALL, "random_competitors=5", "pictures=0", "batch_size=3")
    summary = {row.variant.name: row for row in evaluate(composed(*options), tmp_path)}
    found = {
        (row.sample_id, row.class_index, row.variant.name): row.score
        for row in read_rows(tmp_path / "scores.csv")
    }
    wanted = {key for key in every if key[2] != "var_random_classes" or key[0] in chosen}
    assert found.keys() == wanted
    assert found == pytest.approx({key: every[key] for key in wanted}, abs=1e-3)
    pairs = [
        found[id, label, "var"] - score
        for (id, label, variant), score in found.items()
        if variant == "var_random_classes"
    ]
    difference = summary["var-var_random_classes"]
    assert (difference.n, difference.pictures) == (20, 5)
    assert difference.value == pytest.approx(math.fsum(pairs) / 20)
    assert (summary["var_random_classes"].n, summary["var"].n) == (20, 64)


@pytest.mark.parametrize("option", ["random_competitors", "pictures"])
def test_a_negative_number_of_samples_is_refused(composed, tmp_path, option):
    with pytest.raises(ConfigError, match=f"{option} must be at least 0, got -1"):
        evaluate(composed(*SMALL, f"{option}=-1"), tmp_path)


def test_competition_improves_guided_backpropagation_beyond_sparsity(finished):
    figures = {row.variant.name: row for row in finished[1]}
    assert figures["base"].value == pytest.approx(0.3, abs=0.1)
    assert figures["var"].value >= 0.8
    assert figures["var-base"].ci_low > 0.3
    assert figures["var_same_sparsity"].value < 0.5
    assert figures["random_map"].value == pytest.approx(0.25, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gbp", "smoothgrad", "gradcam"])
def test_scores_are_the_same_for_batches_of_1_7_and_32(composed, tmp_path, method):
    found = {}
    for batch_size in (1, 7, 32):
        (folder := tmp_path / str(batch_size)).mkdir()
        cheap = ["method.samples=3"] if method == "smoothgrad" else []
        given = [*cheap, "pictures=0", f"method={method}", f"batch_size={batch_size}"]
        evaluate(composed(*SMALL, *given), folder)
        found[batch_size] = {
            (row.sample_id, row.class_index, row.metric, row.variant.name): row.score
            for row in read_rows(folder / "scores.csv")
        }
    assert found[1].keys() == found[7].keys() == found[32].keys()
    for batch_size in (7, 32):
        away = {key: abs(found[batch_size][key] - found[1][key]) for key in found[1]}
        assert max(value for key, value in away.items() if key[3] == "base") < 1e-6
        assert sum(value < 1e-6 for value in away.values()) / len(away) > 0.99
        # rounding may put a pixel that lies exactly on VAR's gate on its other side
        assert max(away.values()) < 1e-3


@pytest.mark.slow
def test_a_run_for_which_processes_come_to_load_scores_the_same(composed, tmp_path, monkeypatch):
    """As with a GPU, where the first batches decide how many."""
    monkeypatch.setattr(SampleModule, "_cores_are_taken", lambda _: False)
    monkeypatch.setattr(measured_loader, "_WORTH_A_START", 0.0)
    found = []
    for workers in ("0", "null"):
        (folder := tmp_path / workers).mkdir()
        evaluate(composed(*SMALL, "data.count=24", "batch_size=1", f"workers={workers}"), folder)
        found.append((folder / "scores.csv").read_bytes())
    assert found[0] == found[1]


@pytest.mark.slow
def test_integrated_gradients_report_their_completeness_error(composed, tmp_path):
    evaluate(composed(*SMALL, "data.count=16", "method=ig", "method.steps=8"), tmp_path)
    assert "completeness error" in (tmp_path / "report.html").read_text()


def test_results_are_never_overwritten(composed, finished, capsys):
    folder, _ = finished
    before = {file: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    with pytest.raises(AlreadyFinished, match="holds this run already"):
        evaluate(composed(*FINISHED), folder)
    assert "grid_pointing_game" in capsys.readouterr().out  # the table again
    with pytest.raises(ConfigError, match="holds a run that differs: seed was 0, is 5"):
        evaluate(composed(*FINISHED, "seed=5"), folder)
    assert {file: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before


def test_a_class_mean_is_computed_from_the_scores(composed, tmp_path):
    """In the table as from the rows, and not the mean over all of them."""
    metrics = "metric=[pointing_game,pointing_game_class_mean]"
    cfg = composed("controls=false", "pictures=0", *SMALL, metrics, "data.count=16")
    cfg.metric.pointing_game.tolerance = cfg.metric.pointing_game_class_mean.tolerance = 4
    summary = {(row.metric, row.variant.name): row.value for row in evaluate(cfg, tmp_path)}
    hits = defaultdict(list)
    for row in read_rows(tmp_path / "scores.csv"):
        if row.metric == "pointing_game_class_mean" and row.variant.name == "base":
            hits[row.class_index].append(row.score)
    expected = sum(sum(own) / len(own) for own in hits.values()) / len(hits)
    assert summary["pointing_game_class_mean", "base"] == pytest.approx(expected)
    assert summary["pointing_game_class_mean", "base"] != summary["pointing_game", "base"]


def test_a_precision_that_scores_do_not_stand_is_refused(composed, tmp_path):
    with pytest.raises(ConfigError, match="must be 32-true or bf16-mixed, got 64-true"):
        evaluate(composed(*SMALL, "trainer.precision=64-true"), tmp_path)


def test_a_run_without_a_measure_draws_and_keeps_maps(composed, tmp_path):
    cfg = composed("metric=[]", "data.count=12", "pictures=2", "maps=true", *SMALL[::2])
    assert evaluate(cfg, tmp_path) == []
    assert read_rows(tmp_path / "scores.csv") == read_summary(tmp_path / "summary.csv") == []
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="sample') >= 1
    assert (tmp_path / "maps" / "index.csv").exists()
    with pytest.raises(AlreadyFinished):
        evaluate(cfg, tmp_path)
