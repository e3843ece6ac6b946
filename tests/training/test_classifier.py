import pytest
import torch
from lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from var_exp.training.classifier import Classifier
from var_exp.types import InputSpec

SPEC = InputSpec(size=4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))


def tiny(**options):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))
    return Classifier(network, SPEC, learning_rate=0.1, **options)


def test_images_are_normalised_before_the_network():
    module = Classifier(nn.Identity(), SPEC, learning_rate=0.1)
    images = torch.rand(2, 3, 4, 4)
    for channel in range(3):
        expected = (images[:, channel] - SPEC.mean[channel]) / SPEC.std[channel]
        torch.testing.assert_close(module(images)[:, channel], expected)


def test_loss_is_the_cross_entropy_with_the_shares():
    module = tiny().eval()
    images, targets = torch.rand(6, 3, 4, 4), torch.rand(6, 5).softmax(dim=1)
    module.log = lambda *_, **__: None
    logits = module(images).double()
    by_hand = -sum(
        (targets[row].double() * (logits[row] - logits[row].exp().sum().log())).sum()
        for row in range(6)
    )
    torch.testing.assert_close(module.training_step((images, targets), 0).double(), by_hand / 6)


def test_one_cycle_and_no_decay_of_biases_and_scales():
    module = tiny(weight_decay=0.3, warmup=0.25)
    rates = []

    class Watched(Classifier):
        def on_train_batch_end(self, *_):
            rates.append(self.optimizers().param_groups[0]["lr"])

    module.__class__ = Watched
    data = TensorDataset(torch.rand(80, 3, 4, 4), torch.rand(80, 5).softmax(dim=1))
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(data, batch_size=2))
    assert len(rates) == 40
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) == pytest.approx(0.25 * 40, abs=2)
    assert rates[-1] < 0.001
    decays = {
        id(parameter): group["weight_decay"]
        for group in trainer.optimizers[0].param_groups
        for parameter in group["params"]
    }
    for name, parameter in module.model.named_parameters():
        weights = name in ("0.weight", "3.weight")
        assert decays.pop(id(parameter)) == (0.3 if weights else 0.0)
    assert not decays
