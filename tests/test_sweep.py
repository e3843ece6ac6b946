"""Runs side by side: which are found, what tells them apart, and the page as a browser shows it."""

import csv
import re
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
import yaml
from named_variants import variant as named
from omegaconf import OmegaConf

from var_exp.metrics.base import Traits
from var_exp.results.rows import Row, write_rows
from var_exp.results.summary import summarise, write_summary
from var_exp.runs.jobs import find_jobs, traits_of
from var_exp.runs.run_record import RunRecord
from var_exp.sweep import MergeRuns, main, merge
from var_exp.types import BadData

GAINS = {("gbp", "cnn"): 0.5, ("gbp", "vit"): 0.2, ("ig", "cnn"): 0.0, ("ig", "vit"): -0.1}


def make_run(folder, choices, gain, overrides=(), *, finished=True):
    """Files of a run over 24 pictures whose refined map scores `gain` more than the base map."""
    (hydra := folder / ".hydra").mkdir(parents=True)
    config = {"metric": {"game": {"_target_": "var_exp.metrics.GridPointingGame"}}, "seed": 0}
    (hydra / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    own = {"hydra": {"runtime": {"choices": {**choices, "logger": "none"}}}}
    (hydra / "hydra.yaml").write_text(yaml.safe_dump(own))
    (hydra / "config.yaml").write_text(yaml.safe_dump(config))
    if not finished:
        (folder / "failed.txt").write_text("the <weights> are missing.")
        return
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    noise = np.random.default_rng(0)
    rows = []
    for i in range(24):
        base = 0.4 + 0.05 * noise.standard_normal()
        scores = {
            "base": base,
            "var": base + gain + 0.05 * noise.standard_normal(),
            "var_same_sparsity": base + 0.01,
            "uniform_map": 0.25,
        }
        rows += [
            Row(f"s{i}", 0, "game", named(variant), score) for variant, score in scores.items()
        ]
    write_rows(folder / "scores.csv", rows)
    write_summary(
        folder / "summary.csv",
        summarise(rows),
        record="0123456789ab",
    )
    (folder / "report.html").write_text('<h2 id="gallery">Pictures</h2>')


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A merged sweep of four finished runs and a failed one, in a folder with a blank."""
    folder = tmp_path_factory.mktemp("a sweep")
    for number, ((method, model), gain) in enumerate(GAINS.items()):
        name = f"{number}_{method}_{model}"
        make_run(folder / name, {"method": method, "model": model}, gain, ["data.count=24"])
    broken = {"method": "lrp", "model": "cnn"}
    make_run(folder / "4_lrp_cnn", broken, 0, ["data.count=24"], finished=False)
    return folder, merge([folder], folder)


def test_files_and_what_failed(sweep, capsys):
    folder, failed = sweep
    assert failed == {"method=lrp model=cnn": "the <weights> are missing."}
    with (folder / "sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {(line["method"], line["model"]) for line in lines} == set(GAINS)
    for name in ("sweep.md", "sweep.png", "sweep_tests.csv", "report.html"):
        assert (folder / name).stat().st_size > 100


def test_the_page_escapes_what_it_is_given(sweep):
    page = (sweep[0] / "report.html").read_text()
    assert "the &lt;weights&gt; are missing." in page
    assert page.count("<script>") == 1


def test_the_table_of_ranks_begins_with_the_best(tmp_path):
    for number, (method, gain) in enumerate([("ig", 0.0), ("gbp", 0.5), ("lrp", 0.2)]):
        make_run(tmp_path / f"{number}_{method}", {"method": method}, gain, [f"method={method}"])
    merge([tmp_path], tmp_path)
    ranks = (tmp_path / "report.html").read_text().split('aria-label="Ranks by')[1]
    heads = re.findall('<th scope="row">([^<]+)', ranks.split("</table>")[0])
    assert heads == ["gbp", "lrp", "ig"]


def test_the_page_in_a_browser(sweep, browser):
    """No word in the console, nothing fetched, sorting by mouse and keyboard, links that lead."""
    folder, _ = sweep
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    said, fetched = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: fetched.append(request.url))
    tab.goto((folder / "report.html").as_uri())

    text = tab.locator("#verdicts + .cards .card").first.inner_text()
    assert "2 of 4" in text
    assert "hurts in 1, open in 1" in text
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390

    cells = tab.locator(".matrix").first.locator("tbody tr")
    gbp, ig = (
        cells.nth(i).locator("td").evaluate_all("l => l.map(c => c.className)") for i in (0, 1)
    )
    assert ["better" in name for name in gbp] == [True, True]
    assert ["open" in ig[0], "worse" in ig[1]] == [True, True]

    table = tab.locator("#figures table")
    head = table.get_by_role("button", name="difference", exact=True)
    names = lambda: table.locator("tbody th").all_inner_texts()  # noqa: E731
    assert names() == ["gbp", "gbp", "ig", "ig"]
    head.focus()
    tab.keyboard.press("Enter")
    assert head.locator("xpath=..").get_attribute("aria-sort") == "descending"
    sizes = table.locator("tbody td:nth-child(6)").evaluate_all("l => l.map(c => +c.dataset.sort)")
    assert sizes == sorted(sizes, reverse=True)
    head.click()
    assert names() == ["ig", "ig", "gbp", "gbp"]
    table.get_by_role("button", name="model").click()
    assert table.locator("tbody td:nth-child(2)").all_inner_texts() == ["cnn", "cnn", "vit", "vit"]

    links = tab.locator("a[href*=report]").evaluate_all("l => l.map(a => a.href)")
    assert len(links) >= 2 * len(GAINS)
    for link in links:
        target = urlparse(link)
        page = Path(unquote(target.path)).read_text()
        assert not target.fragment or f'id="{target.fragment}"' in page
    assert (said, [url for url in fetched if not url.startswith(("file:", "data:"))]) == ([], [])
    tab.close()


def test_runs_gathered_by_hand(tmp_path, capsys):
    """Told apart by what Hydra chose, though no override names it; alike ones by their folders."""
    for name, method in (("first", "gbp"), ("second", "ig"), ("third", "ig")):
        make_run(tmp_path / name, {"method": method, "model": "cnn"}, 0.3, [f"title={name}"])
    two = [str(tmp_path / name) for name in ("first", "second")]
    assert main([*two, "--out", str(tmp_path / "two")]) == 0
    with (tmp_path / "two" / "sweep.csv").open() as file:
        assert {line["method"] for line in csv.DictReader(file)} == {"gbp", "ig"}
    assert 'href="../first/report.html"' in (tmp_path / "two" / "report.html").read_text()
    merge([tmp_path], tmp_path)
    with (tmp_path / "sweep.csv").open() as file:
        labels = {(line["method"], line["run"]) for line in csv.DictReader(file)}
    assert labels == {("gbp", "first"), ("ig", "second"), ("ig", "third")}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: None, "no folder"),
        (lambda run: run.mkdir(), "holds no run"),
        (lambda run: (make_run(run, {}, 0), (run / "scores.csv").unlink()), "scores.csv"),
        (lambda run: (make_run(run, {}, 0), (run / "summary.csv").write_text("a,b")), "summary"),
    ],
)
def test_mistakes_end_in_one_sentence(tmp_path, capsys, spoil, words):
    spoil(tmp_path / "run")
    assert main([str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_run_that_cannot_be_read_costs_only_itself(tmp_path, capsys):
    for name in ("one", "two", "three"):
        make_run(tmp_path / name, {"method": name}, 0.3)
    (tmp_path / "two" / ".hydra" / "hydra.yaml").write_text("")
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "game: var helps in 2 of 2 runs, in 2 beyond sparsity; hurts in 0" in out
    assert "2 of 3 runs merged" in out
    assert "two/.hydra is not readable" in out


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(BadData, match="holds no run"):
        merge([tmp_path], tmp_path)


def test_a_sweep_whose_runs_were_all_lost_does_not_exit_with_0(tmp_path, capsys):
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    with pytest.raises(SystemExit) as left:
        MergeRuns().on_multirun_end(config)
    assert left.value.code == 1
    assert "holds no run" in capsys.readouterr().err


def test_merging_imports_and_resolves_nothing_that_a_run_names(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    for name in ("one", "two"):
        make_run(tmp_path / "runs" / name, {"method": name}, 0.3, ["data.root=/home/ann/photos"])
        hydra = tmp_path / "runs" / name / ".hydra" / "config.yaml"
        told = {
            "title": "${oc.env:SECRET}",
            "seed": "${oc.env:SECRET}",
            "x": {"_target_": "evil.X"},
        }
        hydra.write_text(yaml.safe_dump(told))
    merge([tmp_path / "runs"], tmp_path / "out")
    written = "".join(
        file.read_text(errors="ignore") for file in (tmp_path / "out").iterdir() if file.is_file()
    )
    assert "hunter2" not in written
    assert "/home/ann" not in written
    config = tmp_path / "runs" / "one" / "config.yaml"
    config.write_text(yaml.safe_dump({"metric": {"game": {"_target_": "evil.Metric"}}}))
    with pytest.raises(BadData, match="does not say whether more of game is better"):
        merge([tmp_path / "runs"], tmp_path / "out")


def test_a_run_that_says_which_way_its_metrics_point_is_believed(tmp_path):
    make_run(tmp_path / "one", {"method": "one"}, 0.3)
    config = {"metric": {"game": {"_target_": "mine.Metric"}}}
    (tmp_path / "one" / "config.yaml").write_text(yaml.safe_dump(config))
    record = RunRecord(tmp_path / "one")
    deciding = {"options": {"seed": 0}, "weights": "w", "data": "d", "code": "c", "versions": {}}
    record.begin(deciding, processes=1, device="cpu")
    record.finish(["summary.csv"], {"game": Traits(False, "classes", bounds=(0.0, None))})
    (job,) = find_jobs(tmp_path)
    assert traits_of(job) == {"game": Traits(False, "classes", bounds=(0.0, None))}
    assert record.changed_files() == []
    (tmp_path / "one" / "summary.csv").unlink()
    assert record.changed_files() == ["summary.csv was removed"]
