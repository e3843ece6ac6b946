"""Occlusion against Captum and a linear model."""

import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from torch import nn

from var_exp.methods import get_method

CLASSES = torch.tensor([[0, 3], [2, 2]])


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [((12, 12), 4, 4), ((12, 12), 5, 2), ((11, 14), 4, 3), ((6, 9), 7, 7), ((5, 5), 3, 1)],
)
def test_equals_captum(size, window, stride):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)).double()
    images = torch.randn(2, 3, *size).double()
    model(images)
    maps = get_method("occlusion", window=window, stride=stride, max_batch=7).attribute(
        model, images, CLASSES
    )
    window = tuple(min(window, side) for side in size)  # Captum wants it to fit
    for k, chosen in enumerate(CLASSES.T):
        expected = CaptumOcclusion(model).attribute(
            images, sliding_window_shapes=(3, *window), strides=(3, stride, stride), target=chosen
        )
        torch.testing.assert_close(maps[:, k], expected[:, :1].float(), rtol=1e-4, atol=1e-6)


def test_linear_model_drops_by_what_the_window_held():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
    images = torch.randn(2, 3, 8, 8)
    maps = get_method("occlusion", window=4, stride=4).attribute(model, images, CLASSES)
    weights = model[1].weight.detach()[CLASSES].view(2, 2, 3, 8, 8)
    held = (images[:, None] * weights).sum(2).unflatten(3, (2, 4)).unflatten(2, (2, 4)).sum((3, 5))
    expected = held.repeat_interleave(4, 2).repeat_interleave(4, 3)[:, :, None]
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


def test_options_out_of_range():
    with pytest.raises(Exception, match="stride must be at most window, got 9 > 8"):
        get_method("occlusion", window=8, stride=9)
    with pytest.raises(Exception, match="window must be at least 1"):
        get_method("occlusion", window=0)
