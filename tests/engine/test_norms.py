"""Normalising calls in parts: torch's own results, and one division for all of them."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from var_exp.engine.norms import scale_and_shift, written_out
from var_exp.types import UnsupportedModel


def plainly(x, dims, eps, centred):
    """Division by the root mean square, from its definition."""
    x = x - x.mean(dims, keepdim=True) if centred else x
    return x / (x.pow(2).mean(dims, keepdim=True) + eps).sqrt()


NORMS = written_out(plainly)


def x():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 6, 4, 4, generator=generator, dtype=torch.float64)


def per_channel(count=6):
    return torch.linspace(0.5, 2, count, dtype=torch.float64)


CALLS = {
    "layer_norm": lambda f: f(x(), (4,), per_channel(4), -per_channel(4), 1e-3),
    "layer_norm over two axes": lambda f: f(x(), [4, 4]),
    "group_norm": lambda f: f(x(), 3, per_channel(), bias=-per_channel(), eps=1e-3),
    "rms_norm": lambda f: f(x(), (4,), per_channel(4), 1e-3),
    "rms_norm with torch's own epsilon": lambda f: f(x(), (4,)),
    "batch_norm": lambda f: f(
        x(), per_channel(), per_channel() + 1, per_channel(), -per_channel(), eps=1e-3
    ),
    "normalize": lambda f: f(x(), dim=1),
    "normalize along torch's own axis": lambda f: f(x()),
    "norm of all": lambda f: f(x()),
    "norm along one axis": lambda f: f(x(), 2, 1),
    "norm along several, kept": lambda f: f(x(), "fro", (2, 3), True),
    "norm in another type": lambda f: f(x().float(), 2, 1, dtype=torch.float64),
    "addcmul": lambda f: f(x(), x() + 1, x() - 2),
    "addcmul of a multiple": lambda f: f(x(), x() + 1, x() - 2, value=3),
}


@pytest.mark.parametrize("case", CALLS)
def test_the_parts_make_up_the_call(case):
    name = case.split()[0]
    of_torch = {"norm": torch.norm, "addcmul": torch.addcmul}.get(name) or getattr(F, name)
    torch.testing.assert_close(CALLS[case](NORMS[name]), CALLS[case](of_torch))


@pytest.mark.parametrize("name", ["layer_norm", "group_norm", "rms_norm"])
def test_all_divide_as_they_are_told(name):
    seen = []

    def divide(x, dims, eps, centred):
        seen.append((dims, eps, centred))
        return torch.zeros_like(x)

    CALLS[name](written_out(divide)[name])
    assert seen == [((-1,), 1e-3, name != "rms_norm")]


def test_batch_norm_is_one_product_and_one_sum():
    mean, variance, weight, bias = (per_channel() + i for i in range(4))
    scale, shift = scale_and_shift(mean, variance, weight, bias, 1e-3)
    expected = F.batch_norm(x(), mean, variance, weight, bias, eps=1e-3)
    torch.testing.assert_close(x() * scale.view(-1, 1, 1) + shift.view(-1, 1, 1), expected)


def test_batch_norm_may_have_neither_weight_nor_bias():
    mean, variance = per_channel(), per_channel() + 1
    for weight, bias in ((None, None), (None, per_channel()), (per_channel(), None)):
        scale, shift = scale_and_shift(mean, variance, weight, bias, 1e-3)
        expected = F.batch_norm(x(), mean, variance, weight, bias, eps=1e-3)
        torch.testing.assert_close(x() * scale.view(-1, 1, 1) + shift.view(-1, 1, 1), expected)


def test_what_has_no_rule_is_refused():
    with pytest.raises(UnsupportedModel, match="statistics of the batch"):
        NORMS["batch_norm"](x(), None, None)
    with pytest.raises(UnsupportedModel, match="norms of order 1"):
        NORMS["norm"](x(), 1)
