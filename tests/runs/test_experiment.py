"""What does not fit together is refused before any work, in one sentence with the fix."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from var_exp.metrics import Perturber
from var_exp.metrics.base import SampleMetric
from var_exp.models import declare
from var_exp.runs.config import check
from var_exp.runs.evaluation import attribution_module
from var_exp.runs.experiment import prepare
from var_exp.runs.schema import GIVEN, EvaluateConfig
from var_exp.types import PREDICTED, ConfigError, MissingWeights, UnsupportedModel

TWO_CLASSES = ("model.num_classes=2", "model.pretrained=false")
OWN = ("data=folder", "layout=single", "classes=top_k", "classes.k=2")
TINY_VIT = (
    "model=vit_b16",
    "model.name=vit_tiny_patch16_224",
    "model.num_classes=16",
    "model.pretrained=false",
    "data=critters",
)


@pytest.fixture
def folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(2):
            picture = np.full((80, 80, 3), 60 * i, np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"{i}.png")
    return str(tmp_path)


def experiment(composed, *overrides):
    return prepare(check(composed(*overrides), EvaluateConfig, GIVEN))


def test_the_default_is_two_by_two_grids_of_critters(composed):
    parts = experiment(composed, "model.pretrained=false")
    assert parts.dataset[0].image.shape == (3, 128, 128)
    assert list(parts.refiners) == ["var"]
    assert list(parts.make_metrics()) == ["grid_pointing_game"]
    assert (
        parts.make_metrics()["grid_pointing_game"] is not parts.make_metrics()["grid_pointing_game"]
    )


def norms(model):
    return sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def test_the_method_gets_a_network_made_ready_and_the_other_one_stays(composed):
    parts = experiment(composed, "model.pretrained=false")
    assert norms(parts.ready) == 0 < norms(parts.model)
    images = parts.dataset[0].image[None]
    torch.testing.assert_close(parts.ready(images), parts.model(images), rtol=1e-4, atol=1e-4)
    module = attribution_module(check(composed(), EvaluateConfig, GIVEN), parts)
    assert module.model is parts.ready
    assert module.as_given is parts.model


@pytest.mark.parametrize("option", ["prepare=false", "method=fullgrad"])
def test_the_network_is_as_given_where_asked_for_or_where_maps_depend_on_it(composed, option):
    parts = experiment(composed, "model.pretrained=false", option)
    assert parts.ready is parts.model


def test_a_method_whose_maps_suit_another_refiner_is_named(composed):
    def notes(*options):
        return experiment(composed, "model.pretrained=false", *options).notes

    said = "larger everywhere for a probable class, so that it wins everywhere; take refine="
    for method, called in (("rise", "RISE"), ("scorecam", "ScoreCAM")):
        of = notes(f"method={method}", "refine=[var,var_scaled]")
        assert of[f"maps of {called}"].startswith(f"{said}[var,var_scaled,var_by_class]")
    for options in (
        ("method=gbp", "refine=[var,var_scaled]"),
        ("method=rise", "refine=none"),
        ("method=rise", "refine=[var,var_by_class]"),
        ("method=rise", "refine=[var_scaled]", "refine.var_scaled.scale=class_rms"),
    ):
        assert not notes(*options), options


def test_a_method_that_knows_no_classes_is_scored_without_competition(composed):
    parts = experiment(
        composed,
        *("model=critters_vit", "model.pretrained=false"),
        *("method=attention_rollout", "refine=none"),
    )
    assert not parts.refiners
    assert not parts.method.class_specific


def test_metrics_of_all_variants_share_the_work_of_one_perturber(composed):
    metrics = "metric=[insertion_auc,deletion_auc,road]"
    parts = experiment(composed, "model.pretrained=false", metrics)
    sets = [parts.make_metrics() for _ in range(2)]
    (shared,) = {metric.model for metrics in sets for metric in metrics.values()}
    assert shared.predict is parts.ready
    assert shared.std == parts.spec.std


def test_own_pictures_with_a_model_of_their_classes(composed, folder):
    parts = experiment(
        composed,
        *TWO_CLASSES,
        *OWN,
        f"data.root={folder}",
        "metric=[insertion_auc]",
    )
    assert len(parts.dataset) == 4


@pytest.mark.parametrize(
    ("overrides", "error", "sentence"),
    [
        (
            ("model.num_classes=10", "model.pretrained=false"),
            ConfigError,
            "the model has 10 classes and the data 16; choose data= and model= that belong",
        ),
        (
            (*TINY_VIT, "data.size=224", "method.activations=relu"),
            UnsupportedModel,
            "has no activation that activations=relu acts on",
        ),
        (
            ("model=critters_vit", "method=attention_rollout"),
            ConfigError,
            r"AttentionRollout gives all classes the same map, so they cannot compete; "
            "use refine=none",
        ),
        (("method=eigen_cam",), ConfigError, "EigenCAM gives all classes the same map"),
        (("layout=single",), ConfigError, "classes=given needs two or more asked classes"),
        (("classes=siblings",), ConfigError, "needs one asked class per image, got 4"),
        (("layout.n=5",), ConfigError, "needs pictures of 25 different classes"),
        (("model.checkpoint=/no/file",), MissingWeights, "'/no/file' does not hold"),
        (("method.activations=gelu",), ConfigError, "activations"),
        (("refine.var.temperature=-1",), ConfigError, "refine.var: temperature"),
        (("data.count=0",), ConfigError, "count"),
    ],
)
def test_what_does_not_fit_is_one_sentence(composed, overrides, error, sentence):
    random = () if any("model." in text for text in overrides) else ("model.pretrained=false",)
    with pytest.raises(error, match=sentence) as refused:
        experiment(composed, *overrides, *random)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("metric=[energy_share]",), "energy_share needs to know the object that is asked about"),
        (
            ("metric=[grid_confusion]", "layout=single", "classes=top_k"),
            "grid_confusion needs several classes in one picture, each in a place of its own",
        ),
    ],
)
def test_measures_that_these_data_cannot_feed(composed, overrides, sentence):
    with pytest.raises(ConfigError, match=sentence) as refused:
        experiment(composed, "model.pretrained=false", *overrides)
    assert "\n" not in str(refused.value)


class Misspelt(SampleMetric):
    """A metric of the user's own."""

    higher_is_better = True

    def update(self, *, maps, region, ids=None):
        """Never called."""


class WithoutPlaces(Misspelt):
    """One that can do without regions."""

    def update(self, *, maps, regions=None, ids=None):
        """Never called."""


class Thresholded:
    """A refiner of the user's own that needs a word more than any run has."""

    def __call__(self, maps, logits, threshold):
        """Never called."""


def test_what_no_run_can_give_is_one_sentence(composed):
    node = {"_target_": f"{__name__}.Misspelt"}
    cfg = check(composed("model.pretrained=false"), EvaluateConfig, GIVEN)
    sentence = (
        "metric mine asks for 'region' in its update, which no run can give "
        r"\(did you mean 'regions'\?\); it may ask for maps, classes, ids, images, base_maps"
    )
    with pytest.raises(ConfigError, match=sentence) as refused:
        prepare(cfg | {"metric": {"mine": node}})
    assert "\n" not in str(refused.value)


def test_what_a_metric_can_do_without_is_not_asked_of_the_data(composed, folder):
    overrides = (*TWO_CLASSES, *OWN, f"data.root={folder}", "metric=[]")
    cfg = check(composed(*overrides), EvaluateConfig, GIVEN)
    parts = prepare(cfg | {"metric": {"mine": {"_target_": f"{__name__}.WithoutPlaces"}}})
    assert list(parts.make_metrics()) == ["mine"]


def test_a_refiner_that_needs_more_than_maps_and_logits_is_refused(composed):
    cfg = check(composed("model.pretrained=false"), EvaluateConfig, GIVEN)
    sentence = r"Thresholded must be called with maps, or .* takes \(maps, logits, threshold\)"
    with pytest.raises(ConfigError, match=sentence):
        prepare(cfg | {"refine": {"mine": {"_target_": f"{__name__}.Thresholded"}}})


@pytest.mark.parametrize("layout", ["grid", "pair"])
def test_places_that_can_be_confused(composed, layout):
    parts = experiment(
        composed, "model.pretrained=false", "metric=[grid_confusion]", f"layout={layout}"
    )
    assert list(parts.make_metrics()) == ["grid_confusion"]


def test_measures_of_places_need_places(composed, folder):
    with pytest.raises(ConfigError, match="metric grid_pointing_game needs to know where"):
        experiment(
            composed,
            *TWO_CLASSES,
            *OWN,
            f"data.root={folder}",
            "metric=[grid_pointing_game]",
        )


def test_own_pictures_come_alone_and_without_measures(composed, folder):
    parts = experiment(composed, *TWO_CLASSES, "data=folder", f"data.root={folder}", "classes.k=2")
    assert parts.make_metrics() == {}
    assert parts.own_pictures  # although they have labels: nothing else would come of the run
    assert parts.dataset[0].image.shape == (3, 64, 64)


def test_pictures_without_labels_need_a_layout_that_asks_for_none(composed, folder):
    own = [*TWO_CLASSES, "data=folder", f"data.root={folder}", "data.labels=none", "classes.k=2"]
    parts = experiment(composed, *own)
    assert parts.dataset[0].classes.tolist() == [PREDICTED]
    assert parts.dataset.class_names == ["class 0", "class 1"]
    with pytest.raises(ConfigError, match="layout=grid needs pictures of known classes"):
        experiment(composed, *own, "layout=grid")


def test_siblings_are_asked_of_data_that_know_them(composed, folder):
    with pytest.raises(ConfigError, match=r"knows the siblings of 0 classes.*data=critters"):
        experiment(
            composed,
            *TWO_CLASSES,
            "data=folder",
            f"data.root={folder}",
            "layout=single",
            "classes=siblings",
            "metric=[insertion_auc]",
        )


def test_pictures_that_the_model_cannot_take_are_refused(composed):
    with pytest.raises(ConfigError, match=r"cannot take pictures of 128 x 128 px .* layout.cell"):
        experiment(
            composed,
            *TINY_VIT,
            "layout.cell=full",
        )


def test_grids_of_pictures_that_the_model_is_sure_of(composed, tmp_path, monkeypatch):
    monkeypatch.setenv("VAR_EXP_CACHE", str(tmp_path))
    parts = experiment(composed, "data.count=32", "layout.confidence=0.6", "layout.related=true")
    (said,) = parts.notes.values()
    assert said.endswith(" of 32")
    assert len(parts.dataset) <= int(said.split()[0]) // 4
    assert len(list(tmp_path.iterdir())) == 1


OTHER_INPUTS = (
    (["model.options.in_chans=4"], "takes pictures of 4 channels, got 3; use data of 4 channels"),
    (
        ["model.options.pretrained_cfg_overlay.mean=[0.5]"],
        "names 1 means and 3 standard deviations",
    ),
)


@pytest.mark.parametrize(("overrides", "sentence"), OTHER_INPUTS)
def test_what_data_cannot_give_is_refused_by_its_real_cause(composed, overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        experiment(composed, "model.pretrained=false", *overrides)


def factory():
    """A network of one's own: it returns an object, and says what it takes."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.AvgPool2d(4))
            self.head = nn.LazyLinear(16)
            self.head(torch.zeros(1, 8))

        def forward(self, x):
            return {"logits": self.head(self.body(x).mean((2, 3)))}

    size = {"size": 64, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    return declare(Own(), head="sigmoid", **size)


def test_a_factory_of_one_s_own(composed):
    cfg = check(composed(), EvaluateConfig, GIVEN)
    parts = prepare(cfg | {"model": {"_target_": f"{__name__}.factory"}})
    assert parts.head == "sigmoid"
    assert parts.model(torch.zeros(1, 3, 64, 64)).shape == (1, 16)
    perturber = Perturber(parts.model)
    assert perturber.head == "sigmoid"
