"""The networks of the matrix are in general position and the same in every run."""

import pytest
import torch
from architectures import ARCHITECTURES, build


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.name)
def test_the_network_is_reproducible_and_every_weight_counts(architecture):
    model, pixels = build(architecture, small=True)
    torch.rand(1)  # what is drawn meanwhile does not matter
    again, _ = build(architecture, small=True)
    for (name, value), other in zip(
        model.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name
    drawn = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, pixels, pixels, dtype=torch.float64, generator=drawn)
    logits = model(images)
    assert 0.1 < (logits[0] - logits[1]).abs().max() < 20  # it sees the image, and softmax lives
    assert not any(parameter.requires_grad for parameter in model.parameters())
    if architecture.shipped:
        return
    model.requires_grad_(True)
    (model(images).square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.abs().max() > 0, name


def test_at_least_nine_families_of_both_libraries():
    assert len({each.family for each in ARCHITECTURES}) >= 9
    assert {each.name.split("/")[0] for each in ARCHITECTURES} == {
        *("timm", "torchvision", "transformers", "var_exp")
    }
    assert len({each.name for each in ARCHITECTURES}) == len(ARCHITECTURES)
