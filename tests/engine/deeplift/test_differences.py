"""What pairs of images and baselines survive: forms of calls, overwriting, layouts; refusals."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from var_exp.engine.calls import Calls
from var_exp.engine.deeplift.differences import contributions
from var_exp.types import UnsupportedModel

CLASSES = torch.tensor([[0, 3], [2, 2]])


def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 2, 2, 3, 5, 5, generator=generator, dtype=torch.float64).unbind(1)[0]


class Net(nn.Module):
    """Convolution, activation, convolution, activation, mean, linear; calls can be replaced."""

    def __init__(self, first=nn.ReLU(), second=nn.ReLU(), between=nn.Identity()):  # noqa: B008
        super().__init__()
        torch.manual_seed(0)
        self.convolutions = nn.ModuleList([nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 2)])
        self.head = nn.Linear(5, 4)
        self.first, self.second, self.between = first, second, between
        self.double()

    def forward(self, images):
        hidden = self.between(self.first(self.convolutions[0](images)))
        return self.head(self.second(self.convolutions[1](hidden)).mean((2, 3)))


def maps(model, x=None, x0=None, classes=CLASSES):
    """Contributions; also, one baseline for all images gives what its copies give."""
    x, x0 = images() if x is None else (x, x0)
    one, copies = x0[:1].expand_as(x), x0[:1].repeat(len(x), 1, 1, 1)
    one, copies = (contributions(model, x, each, classes) for each in (one, copies))
    torch.testing.assert_close(one, copies, rtol=1e-12, atol=1e-14)
    return contributions(model, x, x0, classes)


def assert_complete(model, x=None, x0=None):
    x, x0 = images() if x is None else (x, x0)
    found = maps(model, x, x0).sum((2, 3, 4))
    change = (model(x.clone()) - model(x0.clone())).gather(1, CLASSES).detach()
    torch.testing.assert_close(found, change, rtol=1e-10, atol=1e-12)
    assert change.abs().min() > 1e-3


def in_place(name, *args):
    return lambda x: getattr(x, name)(*args)


def statement(x):
    x.relu_()
    return x


def on_a_view(x):
    x[:, :3].relu_()
    rest = x[:, 3:]
    rest.clamp_(min=0)
    return x


def on_a_canvas(x):
    canvas = x.new_zeros(x.shape)
    canvas[:, :4] = x[:, :4]
    canvas[:, 4:].copy_(x[:, 4:])
    return canvas.relu()


def below_a_view(x):
    lines = x.flatten(2)
    x.relu_()
    return lines.view_as(x)


def by_a_copy(x):
    return x.copy_(x.relu())


def through_a_list(x):
    parts = list(x.relu().split(2, 1))
    return torch.cat([part * 1 for part in parts], dim=1)


@pytest.mark.parametrize(
    "relu",
    [
        F.relu,
        torch.relu,
        lambda x: F.relu(input=x),
        lambda x: F.relu(x, inplace=True),
        nn.ReLU(inplace=True),
        in_place("relu_"),
        in_place("clamp_", 0),
        lambda x: x.clamp(min=0),
        statement,
        on_a_view,
        on_a_canvas,
        below_a_view,
        by_a_copy,
        through_a_list,
        lambda x: x.relu().add_(1).sub_(1),
        lambda x: x.mul_(2).relu_().div_(2),
    ],
)
def test_every_form_of_an_activation_is_the_module(relu):
    expected = maps(Net())
    torch.testing.assert_close(maps(Net(relu, relu)), expected, rtol=1e-12, atol=1e-14)
    assert_complete(Net(relu, relu))


def test_a_reused_module_is_two_modules():
    shared = nn.ReLU(inplace=True)
    torch.testing.assert_close(maps(Net(shared, shared)), maps(Net()), rtol=0, atol=0)


def test_another_activation_gives_another_map():
    assert (maps(Net(torch.tanh)) - maps(Net())).norm() > 0.1 * maps(Net()).norm()


def overwritten_products(x):
    gate = x.sigmoid()
    x *= gate
    x /= gate + 1
    x += gate
    x -= x.mean((2, 3), keepdim=True)
    x **= 2
    return x.addcmul_(gate, gate, value=0.5)


def overwritten_after_use(x):
    gate, largest = x.sigmoid(), F.max_pool2d(x, 2, 1)
    x.mul_(0).add_(gate)
    return x[..., 1:, 1:] * largest


def masked_products(x):
    mask = torch.ones_like(x, dtype=torch.bool).tril()
    return torch.where(mask, x * x.flip(-1), -x).masked_fill(~mask, 0.5)


@pytest.mark.parametrize(
    "between",
    [
        overwritten_products,
        overwritten_after_use,
        masked_products,
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: F.pad(x, (1, 1), value=2.0) + x.amax((2, 3), keepdim=True),
        lambda x: torch.stack([x, x.roll(1, 1)]).mean(0),
        lambda x: x.to(torch.float64).view(len(x), -1).unflatten(1, x.shape[1:]),
        nn.Sequential(nn.BatchNorm2d(6), nn.GELU(), nn.Dropout(), nn.GroupNorm(2, 6)),
    ],
)
def test_complete_whatever_lies_between(between):
    assert_complete(Net(between=between).eval())


class TokensFirst(nn.Module):
    """Tokens, batch, width: no half of any tensor holds the baselines."""

    def __init__(self, permuted):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm, self.head = nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 4)
        self.permuted = permuted
        self.double()

    def forward(self, images):
        tokens = images.flatten(2)
        tokens = tokens.permute(2, 0, 1) if self.permuted else tokens.transpose(1, 2)
        hidden = F.gelu(self.norm(self.embed(tokens)))
        mixed = hidden * hidden.mean(0 if self.permuted else 1, keepdim=True)
        return self.head(mixed.mean(0 if self.permuted else 1))


def test_the_batch_may_have_any_place():
    torch.testing.assert_close(maps(TokensFirst(True)), maps(TokensFirst(False)))
    assert_complete(TokensFirst(True))


def test_images_and_baselines_do_not_see_each_other():
    x, x0 = images()
    model = Net(between=overwritten_products)
    together = maps(model, x, x0)
    alone = maps(model, x[1:], x0[1:], CLASSES[1:])
    torch.testing.assert_close(together[1:], alone, rtol=1e-12, atol=1e-14)
    assert (together[1] - maps(model, x, x0.flip(0))[1]).norm() > 0.1 * alone.norm()


def add_to_one_image(x):
    x[0].add_(1)
    return x


def add_per_image(x):
    x += torch.arange(len(x)).view(-1, 1, 1, 1)
    return x


def alter_under_a_view(x):
    x.view(-1)[::2].mul_(0.5)
    return x


def alter_under_a_reshape(x):
    x.reshape(-1, 3)[:, :2].relu_()
    return x


@pytest.mark.parametrize(
    "between",
    [
        add_to_one_image,
        add_per_image,
        alter_under_a_view,
        alter_under_a_reshape,
        lambda x: x.view(-1, 2, *x.shape[1:]).flatten(0, 1).contiguous().view_as(x),
        lambda x: x.transpose(0, 1).contiguous().view(12, -1).view(6, 2, 3, 3).transpose(0, 1),
        lambda x: torch.cat([x, x.flip(1)]).unflatten(0, (2, -1)).mean(0),
        lambda x: x * torch.rand(len(x), 1, 1, 1, generator=torch.Generator().manual_seed(0)),
        lambda x: F.conv2d(x, torch.eye(6).double().view(6, 6, 1, 1)[:1].expand(6, 6, 1, 1)),
        lambda x: torch.stack([F.conv2d(row, x.new_ones(6, 6, 1, 1)) for row in x.unbind()]),
    ],
)
def test_one_baseline_is_run_for_each_image_where_images_are_told_apart(between):
    def kept(x):
        return between(x).reshape(x.shape)

    x, x0 = images()
    one, copies = x0[:1].expand_as(x), x0[:1].repeat(2, 1, 1, 1)
    model = Net(between=kept)
    found, expected = (contributions(model, x, each, CLASSES) for each in (one, copies))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    change = (model(x.clone()) - model(copies)).gather(1, CLASSES).detach()
    torch.testing.assert_close(found.sum((2, 3, 4)), change, rtol=1e-10, atol=1e-12)


def test_one_baseline_is_run_once():
    """Through a residual network all of it; the images run beside it."""
    rows = []

    class Rows(Calls):
        def answer(self, call):
            layer = call.name in ("conv2d", "relu", "max_pool2d", "linear")
            if layer and call.input.ndim > 1:  # not single values close to the baseline
                rows.append(len(call.input))
            return call.run()

    torch.manual_seed(0)
    block = [nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)]

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
            self.block, self.head = nn.Sequential(*block), nn.Linear(4, 4)

        def forward(self, images):
            hidden = self.stem(images)
            branch = self.block(hidden)
            branch += hidden
            return self.head(branch.mean((2, 3)))

    x = torch.randn(5, 3, 8, 8)
    with Rows():
        contributions(Residual(), x, torch.zeros_like(x[:1]).expand_as(x), torch.zeros(5, 1).long())
    assert sorted(rows) == [1] * 6 + [5] * 6


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, *gradients):
        return 2 * gradients[0]


def scripted(x):
    return torch.jit.trace(torch.square, torch.ones(1))(x)


@pytest.mark.parametrize(
    ("between", "message"),
    [
        (lambda x: x.cummax(1)[0], "calls 'cummax'"),
        (lambda x: x * (x > 0), "calls 'gt'"),
        (lambda x: x.max(), "calls 'max'"),
        (lambda x: torch.maximum(x, x.flip(0)), "calls 'maximum'"),
        (lambda x: x.pow(x.sigmoid()), "calls 'pow'"),
        (lambda x: x * float(x.sum()), "calls '__float__'"),
        (lambda x: x * x.detach(), "calls 'detach'"),
        (lambda x: x * x.data, "calls 'data'"),
        (lambda x: F.conv2d(x[:1], x[:1, :, :2, :2]), "calls 'conv2d'"),
        (lambda x: x.div(x + 3, rounding_mode="floor"), "calls 'div'"),
        (lambda x: torch.einsum("bchw,bchw,bchw->bchw", x, x, x), "calls 'einsum'"),
        (lambda x: F.batch_norm(x, None, None, training=True), "statistics of the batch"),
        (lambda x: F.batch_norm(x, *torch.ones(2, 6), training=True), "statistics of the batch"),
        (Doubled.apply, "in an autograd function"),
        (scripted, "outside of torch's functions"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*requires_grad=True to a scalar", "ignore:`torch.jit")
def test_what_has_no_rule_is_refused_by_name(between, message):
    with pytest.raises(UnsupportedModel, match=message):
        maps(Net(between=between))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_logits_from_an_unseen_call_are_refused():
    class Last(Net):
        def forward(self, images):
            return scripted(super().forward(images))

    with pytest.raises(UnsupportedModel, match="outside of torch's functions"):
        maps(Last())


def test_a_gradient_that_is_switched_off_is_refused():
    class Off(Net):
        def forward(self, images):
            with torch.no_grad():
                hidden = self.convolutions[0](images)
            return super().forward(images) + hidden.mean((1, 2, 3))[:, None]

    with pytest.raises(UnsupportedModel, match="computes without a gradient"):
        maps(Off())
