"""A call of one row, expanded, is the call of all rows; what mixes rows is not made of one."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils._pytree import tree_leaves

from var_exp.engine.calls import Call, Calls
from var_exp.engine.equal_rows import are_equal_rows, copied, of_copies, of_one_row, run_once

W = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0)).double()
FILTER = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(1)).double()


def row(*shape):
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(2)).double()


def recorded(function, *args, **kwargs):
    """The torch call that a function makes."""
    calls = []

    class Record(Calls):
        def answer(self, call):
            calls.append(call)
            return call.run()

    with Record():
        function(*args, **kwargs)
    return calls[-1]


BY_ROW = {
    "conv2d": lambda x: F.conv2d(x, W, torch.ones(6).double(), padding=1),
    "expanded filter": lambda x: F.conv2d(x, FILTER.expand(4, 1, 3, 3), groups=4),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, W.transpose(0, 1)),
    "linear": lambda x: F.linear(x, torch.eye(5).double()),
    "batch_norm": lambda x: F.batch_norm(x, torch.ones(4).double(), torch.ones(4).double()),
    "add": lambda x: x + x.roll(1, 1)[:1].expand_as(x),
    "add constant": lambda x: x + torch.arange(5.0),
    "add row": lambda x: x + torch.ones(1, 4, 1, 1),
    "mul": lambda x: 2 * x,
    "matmul": lambda x: x @ x.transpose(2, 3),
    "matmul constant": lambda x: x @ torch.ones(5, 2).double(),
    "softmax": lambda x: x.softmax(-1),
    "mean": lambda x: x.mean((2, 3)),
    "sum": lambda x: x.sum(-1, keepdim=True),
    "cat": lambda x: torch.cat([torch.ones(1, 4, 1, 5).double().expand(3, 4, 1, 5), x], dim=2),
    "relu": F.relu,
    "pool": lambda x: F.max_pool2d(x, 2),
    "pad": lambda x: F.pad(x, (1, 0, 2, 1)),
    "layer_norm": lambda x: F.layer_norm(x, (5, 5)),
    "rms_norm": lambda x: F.rms_norm(x, (5,)),
    "group_norm": lambda x: F.group_norm(x, 2),
    "attention": lambda x: F.scaled_dot_product_attention(x, x.transpose(2, 3), x),
}
WHOLE = {
    "unbatched": lambda x: F.conv2d(x, torch.ones(3, 3, 1, 1).double()),
    "other rows": lambda x: x + torch.arange(3.0).view(3, 1, 1, 1),
    "more axes": lambda x: x + torch.ones(2, 1, 1, 1, 1),
    "softmax": lambda x: x.softmax(0),
    "sum": lambda x: x.sum(0),
    "mean": lambda x: x.mean(),
    "mean over all": lambda x: x.mean((-4, 1)),
    "cat": lambda x: torch.cat([x, x]),
    "pad": lambda x: F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0)),
    "contiguous": lambda x: x.contiguous(),
    "layer_norm": lambda x: F.layer_norm(x, x.shape),
    "matmul of two axes": lambda x: x[:, 0, 0] @ x[0, 0, 0].expand(5, 5),
    "flip": lambda x: x.cumsum(0),
}


@pytest.mark.parametrize("name", BY_ROW)
def test_calls_by_row_are_made_of_one_row(name):
    alike = row(4, 5, 5).expand(3, -1, -1, -1)
    call = recorded(BY_ROW[name], alike)
    assert of_one_row(call) is not None
    found = run_once(call)
    assert are_equal_rows(found)
    expected = BY_ROW[name](alike.clone(memory_format=torch.contiguous_format))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", WHOLE)
def test_calls_that_mix_rows_or_have_other_tensors_are_made_of_all(name):
    alike = row(*((5, 5) if name == "unbatched" else (4, 5, 5)))
    alike = alike.expand(3, *alike.shape[1:])
    call = recorded(WHOLE[name], alike)
    assert of_one_row(call) is None
    assert torch.equal(run_once(call), WHOLE[name](alike))


def test_a_reshape_that_copies_keeps_rows_alike_if_it_keeps_their_number():
    alike = row(4, 5, 6).expand(3, -1, -1, -1).transpose(1, 2)
    found = run_once(recorded(lambda x: x.reshape(3, 5, -1), alike))
    assert are_equal_rows(found)
    assert torch.equal(found, alike.reshape(3, 5, -1))
    merged = run_once(recorded(lambda x: x.reshape(5, -1), alike))
    assert not are_equal_rows(merged)
    assert torch.equal(merged, alike.reshape(5, -1))


def test_rows_of_their_own_are_left_alone():
    x = torch.randn(3, 4)
    assert not are_equal_rows(x)
    assert not are_equal_rows(x[:1])  # a single row needs no saving
    assert not are_equal_rows(torch.tensor(1.0))
    assert of_one_row(Call("relu", torch.relu, (x,), {})) is None


def test_a_call_in_place_alters_every_view():
    x = row(4).expand(3, -1)
    view = x[:, 1:]
    run_once(Call("mul", torch.Tensor.mul_, (x, 2), {}))
    assert torch.equal(x, 2 * row(4).expand(3, -1))
    assert torch.equal(view, x[:, 1:])


class Two(nn.Module):
    """Two convolutions, between which a hook can tell copies apart."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.double().requires_grad_(False)

    def forward(self, x):
        return self.second(self.first(x).relu_()).mean((2, 3))


def scaled(model, factors):
    """Logits of copies, the first layer's output of each multiplied by a factor of its own.

    Also those of all copies run one by one, and how many images lie in memory before each layer.
    """
    sizes = []

    def count(_module, inputs):
        sizes.append(inputs[0].untyped_storage().nbytes() // inputs[0][0].nbytes)

    def logits(images):
        def scale(_module, _inputs, output):
            return output * factors.view(-1, 1, 1, 1)

        handles = [model.first.register_forward_hook(scale)]
        handles += [each.register_forward_pre_hook(count) for each in (model.first, model.second)]
        try:
            return model(images)
        finally:
            for handle in handles:
                handle.remove()

    image = row(3, 9, 9)
    found = of_copies(logits, image, len(factors))
    assert torch.equal(image, row(3, 9, 9))
    return found, logits(image.repeat(len(factors), 1, 1, 1)), sizes[:-2]


def test_copies_are_one_until_they_are_told_apart():
    factors = torch.tensor([1.0, 0.0, -2.0]).double()
    found, expected, sizes = scaled(Two(), factors)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert sizes == [1, 3]


def test_what_copies_cannot_do_as_one_is_done_with_all():
    """Such as to be written into."""

    def blacken(_module, inputs):
        inputs[0][:, 0] = 0

    model = Two()
    model.first.register_forward_pre_hook(blacken)
    found, expected, sizes = scaled(model, torch.tensor([1.0, 3.0]).double())
    assert torch.equal(found, expected)
    assert sizes == [2, 2]


def test_a_copy_keeps_rows_alike_and_shares_nothing():
    x = row(4).expand(3, -1)
    copy = copied(x)
    assert are_equal_rows(copy)
    copy[:1].zero_()
    assert torch.equal(x, row(4).expand(3, -1))
    assert tree_leaves(copied(torch.ones(2)))[0].tolist() == [1, 1]
