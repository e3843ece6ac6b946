"""A model learns the classes of a folder, and `evaluate.py` takes what it wrote."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from var_exp.models import class_names, load_model
from var_exp.runs.config import check
from var_exp.runs.experiment import prepare
from var_exp.runs.schema import GIVEN, EvaluateConfig
from var_exp.training.classifier import TunedClassifier
from var_exp.training.finetuning import FineTuning
from var_exp.training.from_scratch import train
from var_exp.types import BadData, ConfigError

COLOURS = {"blue": (20, 40, 200), "green": (30, 180, 40), "red": (200, 30, 40)}
QUICK = (
    "model.pretrained=false",
    "recipe.batch_size=8",
    "recipe.learning_rate=0.003",
    "workers=0",
    "trainer.enable_progress_bar=false",
)

NO_SQUARE = ("model.name=vit_tiny_patch16_224", "+model.options.depth=1", "recipe=finetune")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes of ten pictures, each of its colour with noise."""
    root = tmp_path_factory.mktemp("photos")
    generator = torch.Generator().manual_seed(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for i in range(10):
            noise = torch.randint(-20, 20, (70, 80, 3), generator=generator)
            pixels = (torch.tensor(colour) + noise).clamp(0, 255).byte()
            Image.fromarray(pixels.numpy()).save(root / name / f"{i}.png")
    return root


def tune(composed, folder, *overrides, model="critters_cnn"):
    folder.mkdir(exist_ok=True)
    recipe = ["recipe=finetune"] if model == "critters_cnn" else []  # it has one of its own
    return train(composed(*recipe, *QUICK, f"model={model}", *overrides, root="train"), folder)


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    from hydra import compose, initialize_config_dir

    from var_exp.registry import conf_dir
    from var_exp.runs.arguments import open_key

    folder = tmp_path_factory.mktemp("trained")
    options = [
        "recipe=finetune",
        "model=critters_cnn",
        "data=folder",
        f"data.root={photos}",
        "recipe.epochs=6",
    ]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[*map(open_key, QUICK), *map(open_key, options)])
    return folder, train(cfg, folder)


def test_the_colours_are_learnt_and_the_report_is_that_of_the_written_weights(trained, photos):
    folder, results = trained
    assert json.loads((folder / "accuracy.json").read_text()) == results
    assert (results["learnt_from"], results["held_out"]) == (24, 6)
    assert results["accuracy"] == 1.0
    model = load_model("critters_cnn", checkpoint=folder / "checkpoint.safetensors")
    assert class_names(model) == ("blue", "green", "red")
    with torch.no_grad():
        for label, colour in enumerate(COLOURS.values()):
            image = (torch.tensor(colour) / 255).view(3, 1, 1).expand(3, 64, 64)
            assert int(model((image[None] - 0.5) / 0.25).argmax()) == label


def test_evaluate_takes_the_file_and_finds_the_classes_by_name(trained, photos, tmp_path, composed):
    """Of a folder that lacks a class, so that its own order would number them otherwise."""
    folder, _ = trained
    for name in ("green", "red"):
        (tmp_path / name).symlink_to(photos / name)
    for file in ("checkpoint.safetensors", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        own = ("data=folder", f"data.root={tmp_path}", f"model.checkpoint={folder / file}")
        cfg = composed("model=critters_cnn", *own, "classes.k=2")
        parts = prepare(check(cfg, EvaluateConfig, GIVEN))
        assert parts.dataset.class_names == ["blue", "green", "red"]
        assert {parts.dataset.label(index) for index in range(20)} == {1, 2}
        assert parts.model.num_classes == 3


def test_an_interrupted_training_goes_on_and_ends_the_same(
    trained, photos, tmp_path, composed, monkeypatch
):
    """Killed in its fourth epoch, and started again by the same command."""
    own = ("data=folder", f"data.root={photos}", "recipe.epochs=6")

    def killed(self):
        if self.current_epoch == 3:
            raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(TunedClassifier, "on_train_epoch_start", killed)
        with pytest.raises(RuntimeError, match="killed"):
            tune(composed, tmp_path / "run", *own)
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
    resumed = tune(composed, tmp_path / "run", *own)
    folder, results = trained
    assert {**resumed, "seconds": 0} == {**results, "seconds": 0}
    ours, theirs = (load_file(f / "checkpoint.safetensors") for f in (tmp_path / "run", folder))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(ConfigError, match="already holds a trained model"):
        tune(composed, tmp_path / "run", *own)


def test_training_ends_when_it_no_longer_helps(photos, tmp_path, composed):
    own = ("data=folder", f"data.root={photos}", "recipe.epochs=9", "recipe.patience=1")
    results = tune(composed, tmp_path / "run", *own, "recipe.learning_rate=0.000000001")
    assert results["epochs"] < 9


def test_a_transformer_of_timm_and_mixed_precision(photos, tmp_path, composed):
    vit = ("model.name=test_vit.r160_in1k", "trainer.precision=bf16-mixed", "recipe.epochs=1")
    own = ("data=folder", f"data.root={photos}", *vit)
    tune(composed, tmp_path / "run", *own, model="vit_b16")
    file = tmp_path / "run" / "checkpoint.safetensors"
    model = load_model("test_vit.r160_in1k", checkpoint=file)
    assert class_names(model) == ("blue", "green", "red")
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float32}


def test_critters_can_be_tuned_on_too(tmp_path, composed):
    results = tune(composed, tmp_path / "run", "data.count=160", "recipe.epochs=1")
    assert results["learnt_from"] + results["held_out"] == 160


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (
            "[64,32]",
            "takes pictures of 64 x 32 px, got drawn ones of 64 x 64; they are drawn in sq",
        ),
        ("[96,96]", "takes pictures of 96 x 96 px, got drawn ones of 64 x 64; set data.size=96"),
    ],
)
def test_critters_of_a_size_that_the_model_does_not_take(tmp_path, composed, size, text):
    options = ("data=critters", "data.count=40", *NO_SQUARE, f"+model.options.img_size={size}")
    with pytest.raises(ConfigError, match=text):
        tune(composed, tmp_path / "run", *options, model="timm")


def test_photographs_are_cut_to_a_shape_that_is_no_square(photos, tmp_path, composed):
    options = ("data=folder", f"data.root={photos}", "recipe.epochs=1")
    shape = (*NO_SQUARE, "+model.options.img_size=[64,32]")
    results = tune(composed, tmp_path / "run", *options, *shape, model="timm")
    assert results["epochs"] == 1


@pytest.mark.parametrize("on_error", ["skip", "fail"])
def test_pictures_that_turn_out_broken(photos, tmp_path, composed, on_error, caplog):
    root = tmp_path / "photos"
    for name in COLOURS:
        (root / name).mkdir(parents=True)
        for i in range(4):
            content = (photos / name / f"{i}.png").read_bytes()
            (root / name / f"{i}.png").write_bytes(content[:300] if i == 3 else content)
    own = ("data=folder", f"data.root={root}", f"data.on_error={on_error}", "recipe.epochs=1")
    if on_error == "fail":
        with pytest.raises(BadData, match=r"cannot read picture '.*3\.png"):
            tune(composed, tmp_path / "run", *own)
    else:
        tune(composed, tmp_path / "run", *own)
        assert len([r for r in caplog.records if "skipped: cannot read" in r.getMessage()]) >= 3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"epochs": 0}, "recipe.epochs must be at least 1, got 0"),
        ({"patience": 0}, "recipe.patience must be at least 1"),
        ({"batch_size": 0}, "recipe.batch_size must be at least 1"),
        ({"held_out": 1.0}, "recipe.held_out must be between 0 and 1, got 1.0"),
        ({"zoom": 0.0}, "recipe.zoom must be above 0 and at most 1, got 0.0"),
    ],
)
def test_recipes_out_of_range_are_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        FineTuning(**options)


def test_the_critters_recipes_draw_their_own_pictures(tmp_path, composed):
    cfg = composed("data=folder", f"data.root={tmp_path}", root="train")
    with pytest.raises(ConfigError, match="draws its own critters; for other data use recipe=fine"):
        train(cfg, tmp_path)
