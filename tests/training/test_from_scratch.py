import json

import pytest
import torch
from lightning import seed_everything
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from var_exp.data.critter_pool import CritterPool
from var_exp.data.critters import Critters
from var_exp.models import input_spec, load_model
from var_exp.training.from_scratch import Recipe, fit, measure, train
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


def test_the_recipe_of_the_shipped_models_is_this_plain_loop():
    """Equal to the bit: nothing around it may change the order of the pictures, or the sums."""
    recipe = Recipe(pictures=96, pool=64, batch_size=32, learning_rate=3e-3)
    seed_everything(0, verbose=False)
    model = load_model("critters_cnn", pretrained=False)
    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    fit(model, recipe, {"_target_": "lightning.Trainer", **quiet})

    seed_everything(0, verbose=False)
    plain = load_model("critters_cnn", pretrained=False).requires_grad_(True).train()
    plain.to(memory_format=torch.channels_last)
    pool = CritterPool(64, 0.5, 64)
    batches = BatchSampler(RandomSampler(pool, num_samples=96), 32, drop_last=True)
    decayed = [p for p in plain.parameters() if p.ndim > 1]
    others = [p for p in plain.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": 0.05},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=3, pct_start=0.15)
    for images, shares in DataLoader(pool, sampler=batches, batch_size=None):
        normalised = ((images - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(normalised), shares).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        cycle.step()
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in plain.state_dict().items())
    assert not torch.equal(state["fc.weight"], load_model("critters_cnn").state_dict()["fc.weight"])


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


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("checked=3",), "checked=3 pictures are too few to measure on"),
        (("checked=-1",), "checked=-1 pictures are too few"),
        (("trainer.devices=-3",), "trainer.devices must be a number of at least 1"),
    ],
)
def test_what_would_fail_after_the_training_is_refused_before(composed, tmp_path, options, text):
    cfg = composed("model=critters_cnn", *SMALL, *options, root="train")
    with pytest.raises(ConfigError, match=text):
        train(cfg, tmp_path)
    assert not list(tmp_path.iterdir())


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
