"""Upright pictures for a network of upright pictures: data, grids, scores, pages, `explain`."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

import var_exp
from var_exp.data.batches import collate
from var_exp.methods import get_method
from var_exp.metrics.functional import grid_pointing_game
from var_exp.models import declare, load_model
from var_exp.runs.config import check
from var_exp.runs.evaluation import evaluate
from var_exp.runs.experiment import prepare
from var_exp.runs.schema import GIVEN, EvaluateConfig

SHAPE = (48, 32)
NETWORK = (
    *("model=timm", "model.name=test_resnet", "model.pretrained=false", "model.num_classes=4"),
    "model.options.pretrained_cfg_overlay.input_size=[3,48,32]",
)
OWN = ("data=folder", "logger=none", "trainer=cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two pictures of each of four classes: wide, tall and square ones."""
    root = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0)
    for label, size in zip("abcd", [(60, 90), (90, 60), (70, 70), (40, 100)], strict=True):
        (root / label).mkdir()
        for number in range(2):
            pixels = noise.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("cell", "cells", "whole"), [("full", SHAPE, (96, 64)), ("rescaled", (24, 16), SHAPE)]
)
def test_grids_of_upright_pictures(composed, root, cell, cells, whole):
    layout = ("layout=grid", f"layout.cell={cell}", "classes=given", "metric=[grid_pointing_game]")
    overrides = (*NETWORK, *OWN, f"data.root={root}", *layout)
    parts = prepare(check(composed(*overrides), EvaluateConfig, GIVEN))
    (batch,) = collate([parts.dataset[0]], parts.spec)
    assert batch.images.shape[2:] == whole
    maps = get_method("gradient").attribute(parts.model, batch.images, batch.classes)[0]
    for place, (region, one) in enumerate(zip(batch.regions[0], maps, strict=True)):
        row, column = divmod(place, 2)
        down, across = (slice(i * n, i * n + n) for i, n in zip((row, column), cells, strict=True))
        assert int(region.sum()) == cells[0] * cells[1]
        assert region[down, across].all()
        values = one.sum(0).clamp(min=0)
        share = values[down, across].sum() / values.sum()
        score = grid_pointing_game(one[None], region[None])[0]
        torch.testing.assert_close(score, share, check_dtype=False)


def test_a_run_and_its_page(composed, root, tmp_path):
    metrics = "metric=[insertion_auc_coarse,road,sparseness,infidelity]"
    overrides = (*NETWORK, *OWN, f"data.root={root}", metrics, "pictures=1", "batch_size=3")
    evaluate(composed(*overrides), tmp_path)
    with (tmp_path / "scores.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert len({row["sample_id"] for row in rows if row["variant"] == "base"}) == 8
    assert all(np.isfinite(float(row["score"])) for row in rows if row["variant"] == "base")
    page = (tmp_path / "report.html").read_text()
    assert "--shape: 32 / 48" in page


def test_explain_shows_the_network_its_own_shape(root, tmp_path):
    model = declare(
        load_model("test_resnet", pretrained=False, num_classes=4),
        size=SHAPE,
        mean=[0.5] * 3,
        std=[0.25] * 3,
    )
    why = var_exp.explain(model, root / "a/0.png")
    assert why.image.shape == (3, *SHAPE)
    assert why.base.shape == (4, 1, *SHAPE)
    assert why.shares.shape == (4, *SHAPE)
    assert why.shared.shape == SHAPE
    right = get_method("gradcam").attribute(
        model, (why.image[None] - 0.5) / 0.25, torch.tensor([why.classes])
    )
    torch.testing.assert_close(why.base, right[0])
    why.save(tmp_path / "why.png")
    assert (tmp_path / "why.png").stat().st_size > 1000
