"""Every YAML composes, passes the check of its arguments, and repeats no default wrongly."""

import inspect
from typing import get_args

import pytest
import yaml

from var_exp.conf_files import aliases, conf_dir
from var_exp.metrics.overlap import Measure, Threshold
from var_exp.refine.var import VAR
from var_exp.registry import locate
from var_exp.runs.config import check
from var_exp.runs.schema import GIVEN, EvaluateConfig, TrainConfig
from var_exp.variants import check_refiner_names

SINGLE = ("data", "layout", "model", "method", "classes", "trainer", "logger")
SEVERAL = ("refine", "metric")
FILES = [(group, alias) for group in (*SINGLE, *SEVERAL) for alias in aliases(group)]

OPEN = {  # aliases for any network, which must be named
    **{alias: ["model.name=resnet18"] for alias in ("hf", "timm", "torchvision")},
    "zero_shot": ["model.prompts=[a cat,a dog]"],
}


@pytest.mark.parametrize(("group", "alias"), FILES)
def test_each_choice_composes_and_has_only_known_options(composed, group, alias):
    choice = f"{group}=[{alias}]" if group in SEVERAL else f"{group}={alias}"
    given = ["data.root=somewhere"] if group in ("data", "model") else []
    given += OPEN.get(alias, []) if group == "model" else []
    given += ["method.root=somewhere"] if alias == "saved" else []
    cfg = composed(choice, *(given if "critter" not in alias else []))
    root = check(cfg, EvaluateConfig, GIVEN)
    node = root[group][alias] if group in SEVERAL else root[group]
    assert node == {} or "_target_" in node


@pytest.mark.parametrize("recipe", aliases("recipe"))
def test_each_recipe_composes(composed, recipe):
    model = recipe if recipe in aliases("model") else "resnet50"
    check(composed(f"model={model}", f"recipe={recipe}", root="train"), TrainConfig, GIVEN)


@pytest.mark.parametrize("experiment", aliases("experiment"))
def test_each_experiment_composes(composed, experiment):
    cfg = composed(f"experiment={experiment}")
    check(cfg, EvaluateConfig, GIVEN)
    check_refiner_names(list(cfg.refine))


@pytest.mark.parametrize(
    ("experiment", "method"),
    [
        ("paper_grid", {"_target_": "var_exp.methods.guided_backprop.GuidedBackprop"}),
        ("paper_guided_gradcam", {"upsampling": "nearest"}),
        ("paper_ig", {"steps": 128, "quadrature": "even"}),
        ("paper_lrp", {"composite": "epsilon", "epsilon": 1e-9}),
        (
            "paper_attention_gradcam",
            {"_target_": "var_exp.methods.attention_gradcam.AttentionGradCAM"},
        ),
    ],
)
def test_the_papers_own_settings(composed, experiment, method):
    """Both taus of its code, cells of half the side, and its way to the maps."""
    cfg = composed(f"experiment={experiment}")
    assert method.items() <= dict(cfg.method).items()
    assert {name: VAR(**options(node)) for name, node in cfg.refine.items()} == {
        "var": VAR(temperature=10, tau=0.01, magnitude="abs", scale="none", channels="separate"),
        "var_wrapper": VAR(
            temperature=10, tau=0.1, magnitude="abs", scale="none", channels="separate"
        ),
    }
    assert cfg.layout.cell == "rescaled"
    assert cfg.classes._target_ == "var_exp.classes.Given"


def test_the_papers_classes_for_single_pictures(composed):
    cfg = composed("experiment=paper_top_k")
    assert cfg.classes == {"_target_": "var_exp.classes.PublishedTopK", "k": 2}


def test_the_job_on_photographs_is_the_default_job(composed):
    """Another network and its data, smaller cells, pictures that the network is sure of."""
    here, there = composed(), composed("experiment=photographs_grid")
    for group in ("method", "classes", "metric"):
        assert here[group] == there[group]
    assert there.data._target_ == "var_exp.data.imagenet.ImageNet"
    assert {**here.layout, "cell": "rescaled", "count": 200, "confidence": 0.3} == there.layout


def options(node):
    """What a node of the configuration hands to its class."""
    return {name: value for name, value in node.items() if name != "_target_"}


@pytest.mark.parametrize(
    ("group", "alias"), [pair for pair in FILES if pair[0] not in ("trainer", "logger", "model")]
)
def test_an_alias_without_options_is_the_class_without_options(group, alias):
    """A YAML repeats a default only where a user is meant to turn it, and then the same."""
    node = yaml.safe_load((conf_dir() / group / f"{alias}.yaml").read_text())
    parameters = inspect.signature(locate(node["_target_"])).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    own = VARIANTS.get((group, alias), set())
    for name, value in node.items():
        if name not in {*own, "defaults"} and not name.startswith("_") and value != "???":
            assert value == defaults[name], f"{group}/{alias}.yaml: {name}"


VARIANTS = {
    # what makes an alias differ from its class
    ("refine", "var_scaled"): {"temperature", "magnitude", "scale", "channels"},
    ("refine", "var_by_class"): {"temperature", "magnitude", "scale", "channels"},
    ("refine", "contrast_mean"): {"against"},
    ("refine", "contrast_max"): {"against"},
    ("refine", "contrast_weighted"): {"against"},
    ("metric", "grid_pointing_game_abs"): {"magnitude"},
    ("metric", "grid_pointing_game_bcos"): {"smoothing"},
    ("metric", "energy_pointing_game_abs"): {"magnitude"},
    ("metric", "insertion_auc_coarse"): {"steps"},
    ("metric", "deletion_auc_coarse"): {"steps"},
    ("metric", "insertion_auc_base_ties"): {"ties"},
    ("metric", "deletion_auc_base_ties"): {"ties"},
    ("metric", "intervention_kept"): {"mode", "baseline"},
    ("metric", "part_deletion_contrast"): {"contrast"},
    ("metric", "pixel_auc"): {"measure"},
    ("metric", "segmentation_accuracy"): {"measure"},
    ("metric", "relative_output_stability"): {"against"},
    ("metric", "region_effect_contrast"): {"contrast"},
    ("metric", "randomization_abs"): {"similarity"},
    ("metric", "randomization_union"): {"similarity"},
    ("metric", "randomization_ssim"): {"similarity"},
    ("metric", "randomization_bottom_up"): {"order"},
    ("metric", "randomization_independent"): {"order"},
    ("metric", "randomization_full"): {"stages"},
    ("metric", "insertion_auc_zero_baseline"): {"baseline"},
    ("metric", "insertion_auc_mean_baseline"): {"baseline"},
    ("metric", "insertion_auc_logit"): {"score"},
    ("metric", "deletion_auc_mean_baseline"): {"baseline"},
    ("metric", "deletion_auc_blur_baseline"): {"baseline"},
    ("metric", "deletion_auc_logit"): {"score"},
    ("metric", "pointing_game_class_mean"): {"average"},
    **{
        ("metric", f"{measure}_{threshold}"): {"measure", "threshold"}
        for measure in get_args(Measure)
        for threshold in get_args(Threshold)
    },
    ("method", "softmax_gradient"): {"score"},
    ("method", "softmax_gbp"): {"score"},
    ("method", "captum"): {"factory", "max_batch", "arguments"},
    ("data", "imagenet"): {"root"},
    ("data", "imagenette"): {"root"},
    ("data", "voc2007"): {"root"},
    ("data", "voc2012"): {"root", "year", "split", "regions"},
    ("data", "coco"): {"root"},
}


@pytest.mark.parametrize("group", SEVERAL)
def test_members_of_a_group_with_several_choices_do_not_meet(group):
    for alias in aliases(group):
        first = (conf_dir() / group / f"{alias}.yaml").read_text().splitlines()[0]
        assert first == f"# @package {group}.{alias}"
