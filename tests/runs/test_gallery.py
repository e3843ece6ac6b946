"""The maps of the gallery are those that the run has scored, whatever the samples look like."""

from dataclasses import replace

import pytest
import torch
from lightning import Trainer
from torch import nn

from var_exp.classes import TopK
from var_exp.data.datamodule import SampleModule
from var_exp.methods import get_method
from var_exp.metrics import GridPointingGame
from var_exp.metrics.grid_pointing_game import grid_pointing_game
from var_exp.modules.attribution import AttributionModule
from var_exp.refine.cgi import CGI
from var_exp.refine.var import VAR
from var_exp.results.selection import pick_samples
from var_exp.runs.experiment import Experiment
from var_exp.runs.gallery import competition, gallery
from var_exp.types import InputSpec, Sample, SampleDataset

SPEC = InputSpec(size=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


class Photos(SampleDataset):
    """Noise of two sizes with one to three asked classes, some without regions."""

    class_names = tuple(f"class {i}" for i in range(9))

    def __len__(self):
        return 12

    def sample_id(self, index):
        return f"photo {index}"

    def label(self, index):
        return int(self[index].classes[0])

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        size, asked = (16, 20) if index % 2 else (18, 16), 1 + index % 3
        classes = torch.randperm(9, generator=generator)[:asked]
        image = torch.rand(3, *size, generator=generator)
        regions = torch.rand(asked, *size, generator=generator) > 0.5
        return Sample(image, classes, regions, self.sample_id(index))


@pytest.fixture(scope="module")
def experiment():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 9)
    )
    net.eval().requires_grad_(False)
    return Experiment(
        model=net,
        ready=net,
        spec=SPEC,
        dataset=Photos(),
        method=get_method("gbp"),
        rule=TopK(4),
        refiners={"var": VAR(temperature=300.0, channels="sum"), "cgi": CGI()},
        make_metrics=lambda: {"grid": GridPointingGame()},
    )


@pytest.fixture(scope="module")
def run(experiment):
    """The module after the run, and its rows."""
    module = AttributionModule(
        experiment.model,
        experiment.method,
        experiment.rule,
        experiment.refiners,
        experiment.make_metrics,
    )
    rows = []
    module.keep = lambda scored: rows.extend(scored.rows)
    trainer = Trainer(
        accelerator="cpu",
        inference_mode=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.test(module, SampleModule(Photos(), SPEC, batch_size=5), verbose=False)
    return module, rows


@pytest.fixture(scope="module")
def panels(experiment, run):
    module, rows = run
    picks = pick_samples(rows, metric="grid", higher_is_better=True, count=12, seed=0)
    return gallery(experiment, module, picks, batch_size=5)


def test_the_maps_shown_have_the_scores_of_the_run(run, panels):
    _, rows = run
    scores = {(row.sample_id, row.class_index, row.variant.name): row.score for row in rows}
    assert sorted(panel.sample_id for panel in panels) == sorted(f"photo {i}" for i in range(12))
    compared = 0
    for panel in panels:
        sample = Photos()[int(panel.sample_id.split()[1])]
        for variant, maps in panel.maps.items():
            again = grid_pointing_game(maps[: panel.asked], panel.regions)
            for label, score, shown in zip(
                sample.classes.tolist(), again, panel.scores[variant], strict=True
            ):
                expected = scores[panel.sample_id, label, variant]
                assert score.item() == pytest.approx(expected, abs=1e-5, nan_ok=True)
                assert shown == pytest.approx(expected, nan_ok=True)
                compared += 1
    assert compared == 3 * sum(1 + i % 3 for i in range(12))


def test_a_panel_holds_every_competing_class(experiment, panels):
    for panel in panels:
        sample = Photos()[int(panel.sample_id.split()[1])]
        assert panel.class_names[: panel.asked] == [f"class {i}" for i in sample.classes.tolist()]
        assert len(set(panel.class_names)) == 4
        assert list(panel.maps) == ["base", "var", "cgi"]
        assert {len(maps) for maps in panel.maps.values()} == {4}
        assert torch.equal(panel.regions, sample.regions)
        shown = (sample.image.clamp(0, 1) * 255).round().int()
        assert (panel.image.int() - shown).abs().max() <= 1  # normalised and back
        # the stored base maps give the refined ones
        assert torch.allclose(
            experiment.refiners["var"](panel.maps["base"][None])[0], panel.maps["var"]
        )
        assert panel.competition == experiment.refiners["var"]


def test_nothing_wanted_draws_nothing(experiment, run):
    assert gallery(experiment, run[0], [], batch_size=8) == []


def test_competition_is_that_of_the_run_or_the_papers(experiment):
    assert competition(replace(experiment, refiners={})) == VAR()
    rollout = replace(experiment, method=get_method("attention_rollout"), refiners={})
    assert competition(rollout) is None
