"""Figures of finished runs: maps made again score as in the run, cut-outs as done by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from PIL import Image

from var_exp.conf_files import conf_dir
from var_exp.figures import _runs, cut_out, main
from var_exp.metrics.grid_pointing_game import grid_pointing_game
from var_exp.refine.var import VAR
from var_exp.report.line_figures import cutout_table
from var_exp.report.map_figures import distinct, grid_blocks, legend_of, sheet
from var_exp.report.overlays import greyed
from var_exp.report.tables import markdown
from var_exp.runs.evaluation import evaluate


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two small runs, one on each critters model, in folders as Hydra makes them."""
    sweep = tmp_path_factory.mktemp("sweep")
    for number, model in enumerate(("critters_cnn", "critters_vit")):
        (hydra := sweep / f"{number}_gbp_{model}" / ".hydra").mkdir(parents=True)
        overrides = [f"model={model}", "logger=none", "data.count=8", "trainer=cpu", "pictures=0"]
        overrides += ["refine=[var,cgi]", "metric=[grid_pointing_game,insertion_auc]"]
        overrides += ["controls=false", "++metric.insertion_auc.steps=4"]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose("evaluate", overrides=["title=test", *overrides])
        evaluate(cfg, hydra.parent)
        (hydra / "overrides.yaml").write_text(yaml.safe_dump(overrides))
        choices = {"method": "gbp", "model": model, "data": "critters"}
        own = {"hydra": {"runtime": {"choices": choices}}}
        (hydra / "hydra.yaml").write_text(yaml.safe_dump(own))
        (hydra / "config.yaml").write_text((hydra.parent / "config.yaml").read_text())
    return sweep


@pytest.fixture(scope="module")
def run(sweep):
    return _runs([sweep])[0]


def test_runs_are_named_by_what_sets_them_apart(sweep):
    assert [run.name for run in _runs([sweep])] == ["critters_cnn", "critters_vit"]
    (single,) = _runs([sweep / "0_gbp_critters_cnn"])
    assert single.name == "gbp critters_cnn"


def test_methods_are_columns_and_networks_stand_beside_the_picture(run, tmp_path):
    def at(**labels):
        return replace(run, labels=labels).place

    assert at(method="gbp", model="a") == ("a", "gbp")
    assert at(model="a", method="gbp", seed="1") == ("a 1", "gbp")
    assert at(model="a") == ("", "a")
    (shown,) = run.panels(run.picks(1))
    panels = {("cnn", "gbp"): [shown], ("cnn", "ig"): [shown], ("vit", "gbp"): [shown]}
    blocks = grid_blocks(panels, ["base", "var"], classes=2)
    assert [block.heads for block in blocks] == [["gbp", "ig"], ["gbp"]] * 2
    assert [block.picture.caption.split("\n")[-1] for block in blocks] == ["cnn", "vit"] * 2
    assert all(len(row) == len(b.heads) for b in blocks for row in b.rows.values())
    assert len(sheet(tmp_path / "sheet", blocks)) == 3
    start = "a very long and common beginning of what was chosen for this network and"
    panels = {(f"{start} {end}", "gbp"): [shown] for end in ("one", "two")}
    ends = [block.picture.caption.split()[-1] for block in grid_blocks(panels, ["base"])]
    assert ends == ["one", "two"]


def test_heads_differ_however_long_they_are():
    start = "a very long and common beginning of what was chosen for this run and"
    heads = [f"{start} {end}" for end in ("one", "two")]
    assert len(set(distinct(heads, 0.8))) == 2
    assert distinct(["gbp", "gradcam"], 1.0) == ["gbp", "gradcam"]


def test_a_sheet_draws_the_numbers_of_the_maps_and_says_when_there_is_no_evidence(run):
    (shown,) = run.panels(run.picks(1))
    base = shown.maps["base"]
    signed = VAR(magnitude="signed")
    given = replace(
        shown,
        maps={"base": base, "half": base / 2, "none": -base.abs()},
        competitions={"none": signed},
        scores={"half": [0.25] * 4},
    )
    (block,) = grid_blocks({("", "gbp"): [given]}, ["base", "half", "none"])
    drawn, half, none = (block.rows[name][0] for name in ("base", "half", "none"))
    grey = np.asarray(greyed(given.image))[..., None].astype(int)
    assert np.abs(half.pixels - grey).sum() < 0.9 * np.abs(drawn.pixels - grey).sum()
    assert (none.pixels == grey).all()
    assert (half.caption, none.caption) == ("0.25", "no evidence for it")


def test_the_legend_explains_the_colours_that_are_there(run):
    (shown,) = run.panels(run.picks(1))
    signed = replace(shown, competitions={"var": VAR(magnitude="signed")})
    assert "Below a map its grid pointing game." in legend_of([shown], ["base"])
    for panel, variants, blue, least in (
        (shown, ["base", "var"], True, False),  # the paper's mode
        (signed, ["base", "var"], False, True),
        (shown, ["base", "cgi"], False, False),
    ):
        text = legend_of([panel], variants)
        assert ("Blue in var: sizes |a| compete" in text) is blue
        assert ("In var, where every class has evidence against it" in text) is least


def test_maps_made_again_score_as_in_the_run(run):
    (panel,) = run.panels(run.picks(1))
    for variant in ("base", "var", "cgi"):
        again = grid_pointing_game(panel.maps[variant][: panel.asked], panel.regions)
        assert again.tolist() == pytest.approx(panel.scores[variant], abs=1e-5)


def test_cutouts_against_a_plain_loop(run):
    (id,) = run.picks(1)
    found = cut_out(run, id, ["base", "var"], share=0.02, classes=3)
    (panel,) = run.panels([id])
    spec, model = run.experiment.spec, run.experiment.model
    dataset = run.experiment.dataset
    (image,) = [dataset[i].image for i in range(len(dataset)) if dataset[i].id == id]
    image = (image - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)
    names = list(run.experiment.dataset.class_names)
    labels = [names.index(name) for name in found.class_names]
    assert model(image[None]).softmax(1)[0, labels].tolist() == pytest.approx(found.before)
    for variant in ("base", "var"):
        for column in range(3):
            values = panel.maps[variant][column].sum(0).flatten().tolist()
            most = round(0.02 * len(values))
            order = sorted(range(len(values)), key=lambda pixel: -values[pixel])[:most]
            gone = [pixel for pixel in order if values[pixel] > 0]
            cut = image.clone().flatten(1)
            cut[:, gone] = 0
            after = model(cut.view_as(image)[None]).softmax(1)[0, labels].tolist()
            assert after == pytest.approx(found.after[variant][column], abs=1e-5)
            caption = f"{100 * len(gone) / len(values):.1f} % cut out"
            assert found.masked[variant][column].caption == caption


@pytest.mark.parametrize(
    "arguments",
    [
        ["grid", "--count", "1"],
        ["classes", "--variants", "base", "var", "--classes", "3"],
        ["cutout", "--variants", "base", "var", "--classes", "2"],
        ["curves"],
    ],
)
def test_each_figure_is_one_command(sweep, tmp_path, capsys, arguments):
    kind, *options = arguments
    runs = sweep / "0_gbp_critters_cnn" if kind == "cutout" else sweep
    assert main([kind, str(runs), "--out", str(tmp_path / "new" / kind), *options]) == 0
    written = capsys.readouterr().out.removeprefix("written: ").split()
    kinds = {path.rpartition(".")[2] for path in written}
    assert kinds == {"pdf", "svg", "png", "md", "tex"}
    for path in written:
        if path.endswith(".png"):
            pixels = np.asarray(Image.open(path).convert("L"))
            assert pixels.shape[1] > 800
            assert pixels.std() > 10
        if path.endswith(".pdf"):
            assert b"/FontFile2" in Path(path).read_bytes()


def test_the_table_holds_the_probabilities(run):
    (id,) = run.picks(1)
    found = cut_out(run, id, ["base"], share=0.02, classes=2)
    lines = markdown(cutout_table(found)).splitlines()
    assert lines[2].endswith(f"| {found.before[0]:.3f} | {found.before[1]:.3f} |")
    assert lines[4].endswith(
        f"| {found.after['base'][1][0]:.3f} | {found.after['base'][1][1]:.3f} |"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["grid", "--samples", "nobody"], "no sample 'nobody'"),
        (["grid", "--variants", "vra"], "no variant 'vra'"),
        (["curves"], "no curves"),
    ],
)
def test_mistakes_end_in_one_sentence(sweep, tmp_path, capsys, arguments, words):
    kind, *options = arguments
    runs = sweep
    if kind == "curves":
        runs = tmp_path / "run"
        (sweep_copy := runs / ".hydra").mkdir(parents=True)
        for name in ("overrides.yaml", "hydra.yaml", "config.yaml"):
            text = (sweep / "0_gbp_critters_cnn" / ".hydra" / name).read_text()
            (sweep_copy / name).write_text(text)
        (runs / "summary.csv").write_text("")
    assert main([kind, str(runs), "--out", str(tmp_path / "figure"), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_folder_without_a_finished_run_is_refused(sweep, tmp_path, capsys):
    (tmp_path / ".hydra").mkdir()
    assert main(["grid", str(tmp_path)]) == 2
    assert "is finished" in capsys.readouterr().err
