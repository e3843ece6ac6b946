"""What the tests of perturbation share: a tiny network in float64 and three pictures."""

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def _seeded():
    """Random tensors of a test do not depend on which tests ran before."""
    torch.manual_seed(0)


@pytest.fixture
def small_model():
    """From [n, 3, 8, 6] to five logits."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(5)).double()
    network(torch.zeros(1, 3, 8, 6).double())
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).double() * 0.3
    return network.eval()


@pytest.fixture
def small_scene():
    """Images, classes and maps without ties."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, 8, 6, generator=generator, dtype=torch.float64)
    maps = torch.randn(3, 3, 8, 6, generator=generator, dtype=torch.float64)
    return images, torch.tensor([4, 0, 2]), maps
