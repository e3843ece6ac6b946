"""The pointing games of VOC and COCO end to end, with a tiny network of random weights."""

import math

import pytest
import torch

from var_exp.data.geometry import Geometry
from var_exp.data.imagenet_classes import imagenet_members, wordnet_numbers
from var_exp.data.voc import NAMES, VOC
from var_exp.methods import get_method
from var_exp.metrics.pointing_game import pointing_game
from var_exp.results.rows import read_rows
from var_exp.runs.config import check
from var_exp.runs.evaluation import evaluate
from var_exp.runs.experiment import prepare
from var_exp.runs.schema import GIVEN, EvaluateConfig
from var_exp.types import ConfigError

TINY = (
    "model=resnet50",
    "model.name=test_resnet",
    "model.pretrained=false",
    "experiment=photographs",
    "logger=none",
    "trainer=cpu",
    "pictures=2",
    "seed=0",
)


def rows_of(folder):
    return {
        (row.sample_id, row.class_index, row.metric, row.variant.name): row
        for row in read_rows(folder / "scores.csv")
    }


def test_voc_with_imagenets_classes(composed, voc2007, tmp_path):
    torch.manual_seed(0)
    overrides = (*TINY, "data=voc2007", f"data.root={voc2007.root}", "method=gradcam")
    summary = evaluate(composed(*overrides), tmp_path)
    rows = rows_of(tmp_path)
    asked = {(sample, label) for sample, label, _, _ in rows}
    assert asked == {
        ("voc2007/000001", NAMES.index("cat")),
        ("voc2007/000001", NAMES.index("dog")),
        ("voc2007/000004", NAMES.index("train")),
    }
    value = {(row.metric, row.variant.name): row.value for row in summary}
    by_class = {}  # of the data's classes, not of those that answer
    for (_, label, metric, variant), row in rows.items():
        if (metric, variant) == ("pointing_game", "base") and not math.isnan(row.score):
            by_class.setdefault(label, []).append(row.score)
    mean = sum(sum(scores) / len(scores) for scores in by_class.values()) / len(by_class)
    assert value["pointing_game_class_mean", "base"] == pytest.approx(mean)
    assert ("energy_pointing_game", "base") in value
    oracle = [row for row in rows.values() if row.variant.name == "oracle_map"]
    cut_away = ("voc2007/000001", NAMES.index("cat"))  # at the edge, outside of the crop
    for row in oracle:
        if (row.sample_id, row.class_index) == cut_away:
            assert math.isnan(row.score)
            assert "empty_region" in row.flags
        else:
            assert row.score == 1
    page = (tmp_path / "report.html").read_text()
    assert "2 with difficult objects only, 2 without a class of the model" in page
    assert "cat (" in page  # and the class of the model that answers for it


def test_scores_are_those_of_the_member_with_the_highest_logit(composed, voc2007, tmp_path):
    overrides = (*TINY, "data=voc2007", f"data.root={voc2007.root}", "method=gradcam")
    torch.manual_seed(0)
    experiment = prepare(check(composed(*overrides), EvaluateConfig, GIVEN))
    torch.manual_seed(0)
    evaluate(composed(*overrides, "batch_size=2"), tmp_path)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (experiment.spec.mean, experiment.spec.std))
    for index in range(2):
        sample = experiment.dataset[index]
        image = ((sample.image - mean) / std)[None]
        logits = experiment.model(image)[0]
        for label, region in zip(sample.classes.tolist(), sample.regions, strict=True):
            members = imagenet_members(NAMES, "voc")[label].nonzero()[:, 0].tolist()
            best = max(members, key=lambda number: logits[number])
            maps = get_method("gradcam").attribute(experiment.model, image, torch.tensor([[best]]))
            expected = pointing_game(maps[:, 0], region[None])
            found = rows_of(tmp_path)[sample.id, label, "pointing_game", "base"].score
            assert found == pytest.approx(expected.item(), nan_ok=True)


def test_coco_with_a_model_of_its_own_classes_and_whole_pictures(composed, coco, tmp_path):
    overrides = (*TINY, "data=coco", f"data.root={coco}", "model.num_classes=80")
    evaluate(composed(*overrides, "data.view=whole", "batch_size=8"), tmp_path)
    asked = {(sample[-3:], label) for sample, label, _, _ in rows_of(tmp_path)}
    assert asked == {("139", 0), ("139", 16), ("285", 15), ("285", 21)}
    assert "1 without outlines" in (tmp_path / "report.html").read_text()


def test_objects_compete_among_themselves(composed, voc2007, tmp_path):
    few = (*TINY, "data=voc2007", f"data.root={voc2007.root}", "classes=given")
    evaluate(composed(*few, "data.min_classes=2"), tmp_path)
    assert {key[0] for key in rows_of(tmp_path)} == {"voc2007/000001"}
    # the first picture has two classes and a later one has not: said before the work
    with pytest.raises(ConfigError, match="classes=given needs two or more asked classes"):
        prepare(check(composed(*few), EvaluateConfig, GIVEN))


def test_a_model_of_other_classes_is_refused_before_the_work(composed, voc2007, tmp_path):
    overrides = (*TINY, "data=voc2007", f"data.root={voc2007.root}", "model.num_classes=80")
    with pytest.raises(ConfigError, match="the model has 80 classes; these data can ask"):
        evaluate(composed(*overrides), tmp_path)


def test_whole_pictures_keep_their_proportions(voc2007, spec):
    for index, size in enumerate([(32, 48), (48, 32), (32, 64)]):
        sample = VOC(voc2007.root, spec, view="whole")[index]
        assert sample.image.shape[1:] == sample.regions.shape[1:] == size
    assert Geometry(32, mode="whole").boxes([], of=(60, 40)).shape == (0, 32, 48)
    assert wordnet_numbers()["n02123045"] == 281
