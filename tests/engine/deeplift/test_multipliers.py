"""Each rule against its formula in plain numbers: every Jacobian is small enough to write down."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from var_exp.engine.deeplift.differences import contributions
from var_exp.types import UnsupportedModel


class Call(nn.Module):
    """Logits that are one function of the pixels; one logit stands twice, to be two classes."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        logits = self.function(images.flatten(1))
        return torch.cat([logits, logits], 1) if logits.shape[1] == 1 else logits


def jacobian(function, x, x0, dtype=torch.float64):
    """[N, pixels], contribution of each pixel to each logit of one image."""
    images, baselines = (torch.tensor(v, dtype=dtype).view(1, -1, 1, 1) for v in (x, x0))
    n_logits = function(images.flatten(1)).shape[1]
    maps = contributions(Call(function), images, baselines, torch.arange(n_logits)[None])
    return maps[0].flatten(1)


def assert_is(found, expected, tolerance=1e-12):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


def test_saturated_unit_of_the_paper():
    """y = 1 - relu(1 - a - b) at a = b = 1: no gradient, but each input contributes one half."""

    def unit(x):
        return 1 - (1 - x.sum(1, keepdim=True)).relu()

    assert_is(jacobian(unit, [1.0, 1.0], [0.0, 0.0]), [[0.5, 0.5]])


@pytest.mark.parametrize(
    ("function", "plain"),
    [
        (F.relu, lambda x: max(x, 0)),
        (torch.sigmoid, lambda x: 1 / (1 + math.exp(-x))),
        (F.silu, lambda x: x / (1 + math.exp(-x))),
        (F.gelu, lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
        (torch.square, lambda x: x * x),
        (lambda x: (x * x + 2).sqrt(), lambda x: math.sqrt(x * x + 2)),
        (lambda x: 2**x, lambda x: 2**x),
        (lambda x: 1 / (x + 9), lambda x: 1 / (x + 9)),
        (lambda x: x.clamp(-0.5, 1), lambda x: min(max(x, -0.5), 1)),
    ],
)
def test_one_input_carries_the_whole_change(function, plain):
    x, x0 = [1.3, -0.4, 2.0, -1.0], [0.2, 0.5, -1.5, -2.0]
    expected = [plain(a) - plain(b) for a, b in zip(x, x0, strict=True)]
    assert_is(jacobian(function, x, x0), torch.tensor(expected, dtype=torch.float64).diag())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-7, 1e-5, 1e-3, 0.1])
def test_slope_between_close_points_is_the_derivative(dtype, gap):
    """The unit's input hardly changes while the pixels do, in opposite directions."""

    def unit(x):
        return torch.sigmoid(x[:, :1] - x[:, 1:])

    found = jacobian(unit, [1.0 + gap, 1.0], [0.0, 0.0], dtype)
    slope = 0.25 if gap < 1e-6 else (1 / (1 + math.exp(-gap)) - 0.5) / gap
    tolerance = 2 * torch.finfo(dtype).eps ** 0.5
    assert_is(found, [[slope * (1 + gap), -slope]], tolerance)


def test_a_small_change_over_a_large_step_is_no_derivative():
    found = jacobian(lambda x: x.clamp(min=1000), [1000.125], [900.0], torch.float32)
    assert_is(found, [[0.125]])


def test_relu_is_exact_next_to_its_kink():
    found = jacobian(lambda x: (x[:, :1] - x[:, 1:]).relu(), [1.0 + 1e-9, 1.0], [0.0, 1e-9])
    assert_is(found[0].sum(), 1e-9, 1e-15)
    assert_is(found, [[0.5 * (1 + 1e-9), -0.5 * (1 - 1e-9)]], 1e-6)


def test_product_is_shared_as_by_shapley():
    """a b from (2, 5) at the baseline (-1, 3): a gets 3 · (5 + 3) / 2, b gets 2 · (2 - 1) / 2."""
    product = [[12.0, 1.0]]
    for function in [
        lambda x: x[:, :1] * x[:, 1:],
        lambda x: (x[:, :1].unsqueeze(1) @ x[:, 1:].unsqueeze(1)).flatten(1),
        lambda x: torch.einsum("bi,bi->b", x[:, :1], x[:, 1:])[:, None],
        lambda x: x[:, :1].clone().mul_(x[:, 1:]),
    ]:
        assert_is(jacobian(function, [2.0, 5.0], [-1.0, 3.0]), product)


def test_product_with_a_constant_and_with_itself():
    assert_is(jacobian(lambda x: 3 * x, [2.0], [-1.0]), [[9.0]])
    assert_is(jacobian(lambda x: x * x, [2.0], [-1.0]), [[3.0]])
    assert_is(jacobian(lambda x: torch.ones(1, 1).double() @ x, [2.0], [-1.0]), [[3.0]])


def test_quotient():
    """6 / 2 at the baseline 1 / 4: q̄ = 1.625, b̄ = 3."""
    expected = [[5 / 3, 1.625 * 2 / 3]]
    assert_is(jacobian(lambda x: x[:, :1] / x[:, 1:], [6.0, 2.0], [1.0, 4.0]), expected)
    assert_is(jacobian(lambda x: 6 / x, [2.0], [4.0]), [[6 / 2 - 6 / 4]])
    assert_is(jacobian(lambda x: x / 4, [6.0], [1.0]), [[1.25]])


def test_softmax():
    x, x0 = [1.5, -0.5, 0.0], [0.2, -0.5, 1.0]
    e, e0 = [math.exp(v) for v in x], [math.exp(v) for v in x0]
    mean_sum = (sum(e) + sum(e0)) / 2
    share = [(a / sum(e) + b / sum(e0)) / 2 for a, b in zip(e, e0, strict=True)]
    expected = [
        [((i == j) - share[i]) * (e[j] - e0[j]) / mean_sum for j in range(3)] for i in range(3)
    ]
    assert_is(jacobian(lambda x: x.softmax(1), x, x0), expected)
    assert_is(jacobian(lambda x: F.softmax(x, dim=-1), x, x0), expected)


@pytest.mark.parametrize("shift", [0.0, 300.0, -300.0])
def test_softmax_of_extreme_scores_stays_finite_in_single_precision(shift):
    x, x0 = [80.0 + shift, -90.0 + shift, shift], [0.0, 50.0, -3.0]
    found = jacobian(lambda x: x.softmax(1), x, x0, torch.float32)
    assert found.isfinite().all()
    change = torch.tensor(x).softmax(0) - torch.tensor(x0).softmax(0)
    assert_is(found.sum(1), change, 1e-6)
    assert found.abs().max() < 4


def test_softmax_with_masked_places():
    mask = torch.tensor([0.0, -torch.inf, 0.0], dtype=torch.float64)
    found = jacobian(lambda x: (x + mask).softmax(1), [1.0, 5.0, 0.0], [0.0, 0.0, 0.0])
    reference = jacobian(lambda x: x[:, ::2].softmax(1), [1.0, 5.0, 0.0], [0.0, 0.0, 0.0])
    assert_is(found[::2], reference)
    assert_is(found[1], [0.0, 0.0, 0.0])


def normalised(x, centre, eps):
    mean = sum(x) / len(x) if centre else 0.0
    centred = [v - mean for v in x]
    spread = math.sqrt(sum(v * v for v in centred) / len(x) + eps)
    return centred, spread


def norm_by_hand(x, x0, centre, eps):
    """Contributions through y = c / s with c = x - mean and s = √(mean c² + eps)."""
    n = len(x)
    (c, s), (c0, s0) = normalised(x, centre, eps), normalised(x0, centre, eps)
    rows = []
    for i in range(n):
        mean_y = (c[i] / s + c0[i] / s0) / 2
        row = []
        for j in range(n):
            change = [(k == j) - centre / n for k in range(n)]  # of c by x_j
            of_spread = sum((c[k] + c0[k]) * change[k] for k in range(n)) / n / (s + s0)
            row.append((change[i] - mean_y * of_spread) / ((s + s0) / 2) * (x[j] - x0[j]))
        rows.append(row)
    return rows


def test_norms():
    x, x0, eps = [1.0, -2.0, 0.5, 4.0], [0.3, 0.1, -0.2, 0.0], 1e-3
    weight, bias = torch.tensor([[2.0, 1.0, -1.0, 0.5], [1.0, 2.0, 3.0, 4.0]]).double()
    layer, root = norm_by_hand(x, x0, 1, eps), norm_by_hand(x, x0, 0, eps)
    scaled = torch.tensor(layer, dtype=torch.float64) * weight[:, None]
    for function, expected in [
        (lambda x: F.layer_norm(x, (4,), eps=eps), layer),
        (lambda x: F.layer_norm(x, (4,), weight, bias, eps), scaled),
        (lambda x: F.group_norm(x, 1, weight, bias, eps), scaled),
        (lambda x: F.rms_norm(x, (4,), eps=eps), root),
        (lambda x: x / (x.pow(2).mean(1, keepdim=True) + eps).sqrt(), root),
    ]:
        assert_is(jacobian(function, x, x0), expected)
    halves = jacobian(lambda x: F.group_norm(x.view(-1, 4, 1, 1), 2, eps=eps).flatten(1), x, x0)
    assert_is(halves[:2, :2], norm_by_hand(x[:2], x0[:2], 1, eps))
    assert_is(halves[:2, 2:], torch.zeros(2, 2))


def test_normalised_vectors():
    x, x0 = [3.0, -4.0, 1.0], [1.0, 2.0, -2.0]
    expected = torch.tensor(norm_by_hand(x, x0, 0, 0.0), dtype=torch.float64) / math.sqrt(3)
    assert_is(jacobian(lambda x: F.normalize(x, dim=1), x, x0), expected)
    for function in [
        lambda x: x / x.norm(dim=1, keepdim=True),
        lambda x: x / torch.linalg.vector_norm(x, dim=1, keepdim=True),
    ]:
        assert_is(jacobian(function, x, x0), expected)
    zero = jacobian(lambda x: F.normalize(x, dim=1), [0.0, 0.0], [0.0, 0.0])
    assert_is(zero, torch.zeros(2, 2))
    with pytest.raises(UnsupportedModel, match="norms of order 1"):
        jacobian(lambda x: x.norm(1, dim=1, keepdim=True), x, x0)


def test_a_rectifier_between_equal_points_has_its_derivative():
    """Its input, a - b, does not change; what it hands on does not depend on rounding."""

    def unit(x):
        return (x[:, :1] - x[:, 1:]).relu()

    assert_is(jacobian(unit, [1.0, 0.5], [2.0, 1.5]), [[-1.0, 1.0]])
    assert_is(jacobian(unit, [0.5, 1.0], [1.5, 2.0]), [[0.0, 0.0]])
    near = jacobian(unit, [1.0, 0.5], [2.0, 1.5 + 1e-7], torch.float32)
    assert_is(near, [[-1.0, 1.0]], 1e-6)


def test_max_pooling():
    def pool(x):
        return F.max_pool1d(x[:, None], 2).flatten(1)

    # the larger output is the image's: its winner carries the change of 5 - 2
    assert_is(jacobian(pool, [1.0, 5.0], [2.0, 0.0]), [[0.0, 3.0]])
    # it is the baseline's: the baseline's winner carries 1 - 2
    assert_is(jacobian(pool, [1.0, 0.5], [0.0, 2.0]), [[0.0, -1.0]])
    # the baseline is level: each half, in either precision
    assert_is(jacobian(pool, [1.0, 0.5], [2.0, 2.0]), [[-0.5, -0.5]])
    assert_is(jacobian(pool, [1.0, 0.5], [2.0, 2.0 - 1e-6], torch.float32), [[-0.5, -0.5]], 1e-5)
    assert_is(jacobian(pool, [2.0, 2.0], [2.0, 2.0]), [[0.0, 0.0]])
    # what is level to rounding is not level to a change as small
    close = jacobian(pool, [1 + 1e-6, 1 + 2e-6], [1 + 1e-6, 1.0])
    assert_is(close, [[0.0, 1e-6]], 1e-9)
    assert_is(close.sum(), 1e-6, 1e-15)


def test_what_is_undefined_stays_visible():
    """Also in what a defined pixel contributes to an undefined value."""
    for unit in (F.relu, lambda x: F.max_pool1d(x[:, None], 2).flatten(1)):

        def mixed(x, unit=unit):
            return unit(torch.cat([x.sum(1, keepdim=True), x[:, 1:]], 1))

        assert jacobian(mixed, [math.nan, 1.0], [0.0, 0.0])[0].isnan().all()
        assert jacobian(mixed, [2.0, 1.0], [0.0, 0.0]).isfinite().all()


def test_overlapping_windows_add_up():
    """Windows (1, 5, 2) and (2, 7, 0) with steps of two, at zero."""

    def pool(x):
        return F.max_pool1d(x[:, None], 3, 2).flatten(1)

    found = jacobian(pool, [1.0, 5.0, 6.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0])
    assert_is(found, [[0, 0, 6.0, 0, 0], [0, 0, 6.0, 0, 0]])


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.max_pool2d(x, (2, 3), stride=(1, 2), dilation=2),
        lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
        lambda x: torch.max_pool2d(x, 2),
        lambda x: F.max_pool2d(x, 2, 3),
        lambda x: F.max_pool2d(x, 3, (3, 2), dilation=(2, 1)),
        lambda x: F.adaptive_max_pool2d(x, (4, 2)),
        lambda x: F.max_pool3d(x.unsqueeze(2), (1, 2, 2)),
        lambda x: x.amax((2, 3)),
        lambda x: x.amax(-1, keepdim=True),
    ],
)
@pytest.mark.parametrize("stored", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rows", [1, 2])
def test_pooling_of_any_shape_is_complete_and_the_gradient_on_the_winners(pool, stored, rows):
    x, x0 = torch.randn(2, 2, 3, 8, 8, dtype=torch.float64).unbind(0)
    x0 = x0[:rows].expand(2, -1, -1, -1)
    classes = torch.arange(3).repeat(2, 1)

    def logits(images):
        return pool(images.contiguous(memory_format=stored)).flatten(1)

    maps = contributions(Call(lambda x: logits(x.view(2, 3, 8, 8))), x, x0, classes)
    torch.testing.assert_close(maps.sum((2, 3, 4)), (logits(x) - logits(x0))[:, :3])
    # above a baseline that is low everywhere, the image's winners carry all, as the gradient says
    low = torch.full_like(x, -9.0)
    maps = contributions(Call(lambda x: logits(x.view(2, 3, 8, 8))), x, low, classes)
    x.requires_grad_()
    for k in range(3):
        (gradient,) = torch.autograd.grad(logits(x)[:, k].sum(), x)
        torch.testing.assert_close(maps[:, k], ((x - low) * gradient).detach())


def test_unequal_adaptive_windows_are_refused():
    with pytest.raises(UnsupportedModel, match="windows of several sizes"):
        jacobian(lambda x: F.adaptive_max_pool1d(x[:, None], 2).flatten(1), [1.0] * 3, [0.0] * 3)
