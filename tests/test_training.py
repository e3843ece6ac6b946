import json

import pytest
import torch
from torch import nn

from var_exp.data.critters import Critters
from var_exp.models import input_spec, load_model
from var_exp.training import Recipe, measure, train
from var_exp.types import ConfigError

SMALL = (
    "recipe.pictures=96",
    "recipe.pool=64",
    "recipe.batch_size=32",
    "workers=0",
    "checked=32",
    "trainer.enable_progress_bar=false",
)


@pytest.mark.parametrize("model", ["critters_cnn", "critters_vit"])
def test_a_training_writes_weights_that_load(composed, tmp_path, model):
    cfg = composed(f"model={model}", *SMALL, root="train")
    results = train(cfg, tmp_path)
    assert json.loads((tmp_path / "accuracy.json").read_text()) == results
    file = tmp_path / "checkpoint.safetensors"
    trained = load_model(model, checkpoint=file)
    assert {t.dtype for t in trained.state_dict().values()} <= {torch.float32, torch.int64}
    assert measure(trained, 32)["singles"] == results["singles"]
    again = tmp_path / "again"
    again.mkdir()
    train(cfg, again)
    assert (again / "checkpoint.safetensors").read_bytes() == file.read_bytes()


class Oracle(nn.Module):
    """Knows the pictures by heart, but denies the last class of every fourth that it sees."""

    def __init__(self, answers):
        super().__init__()
        self.pretrained_cfg = load_model("critters_cnn", pretrained=False).pretrained_cfg
        self.answers, self.seen = answers, 0

    def forward(self, images):
        logits = torch.zeros(len(images), 16)
        for row, image in enumerate(images):
            known = self.answers.get(fingerprint(image), [0])  # [0]: a grid, not asked here
            logits[row, known] = 1.0
            if self.seen % 4 == 0:
                logits[row, known[-1]] = -1.0
            self.seen += 1
        return logits


def fingerprint(image):
    return tuple(image.flatten()[:9].tolist())


def test_measure_counts_first_choices():
    """Three quarters of the scenes have both classes found, the others one of two."""
    singles = Critters(40, "check")
    samples = [dataset[i] for dataset in (singles, singles.scenes()) for i in range(40)]
    answers = {fingerprint((s.image - 0.5) / 0.25): s.classes.tolist() for s in samples}
    results = measure(Oracle(answers), 40)
    assert results["singles"] == pytest.approx(0.75)
    assert results["pairs"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"pool": 300}, "batch_size <= pool <= pictures must hold, got 128, 300, 200"),
        ({"batch_size": 150}, "got 150, 130, 200"),
        ({"pairs": 1.5}, "recipe.pairs must be between 0 and 1, got 1.5"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        Recipe(**{"pictures": 200, "pool": 130, "learning_rate": 1e-3, **options})


@pytest.mark.parametrize("model", ["critters_cnn", "critters_vit"])
def test_shipped_models_know_their_critters(model):
    network = load_model(model)
    spec = input_spec(network)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
    critters = Critters(1000, seed=20_000)
    right = 0
    with torch.no_grad():
        for start in range(0, 1000, 100):
            samples = [critters[index] for index in range(start, start + 100)]
            logits = network((torch.stack([s.image for s in samples]) - mean) / std)
            right += sum(
                int(row.argmax()) == int(sample.classes[0])
                for row, sample in zip(logits, samples, strict=True)
            )
    assert right >= 950
