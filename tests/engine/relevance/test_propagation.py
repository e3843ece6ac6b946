"""Rules against loops over their formulas in float64, products, merging, and what is refused."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from var_exp.engine.relevance.calls import Composite
from var_exp.engine.relevance.propagation import relevance
from var_exp.engine.relevance.rules import epsilon, flat, gamma, z_box, z_plus
from var_exp.types import UnsupportedModel

EXACT = epsilon(1e-30)


def composite(first=EXACT, rest=EXACT, attention=False) -> Composite:
    return Composite(first, rest, rest, rest, attention)


def propagated(forward, images, rules=None):
    """Relevance [C, H, W] of the first logit of one image; one logit stands twice."""

    class Model(nn.Module):
        def forward(self, x):
            logits = forward(x)
            return torch.cat([logits, logits], 1) if logits.shape[1] == 1 else logits

    return relevance(Model(), images, torch.tensor([[0]]), rules or composite())[0, 0]


@pytest.fixture
def image():
    return torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(2)
    return lambda *shape: torch.randn(*shape, generator=generator).double()


def positive(v):
    return max(v, 0.0)


def negative(v):
    return min(v, 0.0)


def looped_epsilon(x, w, b, z, stabiliser):
    return [x[i] * w[i] for i in range(len(x))], z + math.copysign(stabiliser, z)


def looped_z_plus(x, w, b, z, _):
    parts = [positive(x[i] * w[i]) for i in range(len(x))]
    return parts, sum(parts) + positive(b) + 1e-6


def looped_gamma(x, w, b, z, weight):
    agreeing = positive if z > 0 else negative
    parts = [x[i] * w[i] + weight * agreeing(x[i] * w[i]) for i in range(len(x))]
    total = sum(parts) + b + weight * agreeing(b)
    return parts, total + math.copysign(1e-6, total)


def looped_flat(x, w, b, z, _):
    return [1.0] * len(x), len(x) + 1e-6


def looped_z_box(x, w, b, z, bounds):
    parts = [
        x[i] * w[i] - bounds[0] * positive(w[i]) - bounds[1] * negative(w[i]) for i in range(len(x))
    ]
    return parts, sum(parts) + 1e-6


def looped_layer(x, weight, bias, relevances, contributions, option):
    """R_i = Σ_j c_ij / D_j R_j, one number after the other."""
    received = [0.0] * len(x)
    for w, b, r in zip(weight.tolist(), bias.tolist(), relevances, strict=True):
        z = sum(x[i] * w[i] for i in range(len(x))) + b
        parts, total = contributions(x, w, b, z, option)
        for i, part in enumerate(parts):
            received[i] += part / total * r
    return received


@pytest.mark.parametrize(
    ("rule", "contributions", "option"),
    [
        (epsilon(0.3), looped_epsilon, 0.3),
        (z_plus(), looped_z_plus, None),
        (gamma(0.25), looped_gamma, 0.25),
        (gamma(0), looped_epsilon, 1e-6),
        (flat(), looped_flat, None),
    ],
)
@pytest.mark.parametrize("rectified", [True, False])
def test_rules_equal_loops_on_a_dense_network(rule, contributions, option, rectified, image, draw):
    (w1, b1), (w2, b2) = (draw(7, 18), draw(7)), (draw(1, 7), draw(1))
    activation = torch.relu if rectified else nn.Identity()  # negative inputs of the second layer

    def forward(x):
        return F.linear(activation(F.linear(x.flatten(1), w1, b1)), w2, b2)

    x = image.flatten().tolist()
    hidden = [float(h) for h in activation(image.flatten() @ w1.T + b1)]
    y = [float(forward(image))]
    upper = EXACT if contributions is looped_flat else rule
    known = looped_epsilon if upper is EXACT else contributions
    stabiliser = 1e-30 if upper is EXACT else option
    middle = looped_layer(hidden, w2, b2, y, known, stabiliser)
    expected = looped_layer(x, w1, b1, middle, contributions, option)
    found = propagated(forward, image, composite(rule, upper))
    torch.testing.assert_close(
        found.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )


def test_z_box_equals_loops_on_a_convolution(image, draw):
    weight, bias = draw(4, 2, 3, 3), draw(4)
    bounds = torch.tensor([-3.0, -2.5]), torch.tensor([2.0, 3.0])
    head = draw(1, 4)

    def forward(x):
        return F.conv2d(x, weight, bias).flatten(1).relu() @ head.T

    z = F.conv2d(image, weight, bias).flatten().relu()
    relevances = (z * head[0]).tolist()
    expected = [0.0] * 18
    for c in range(2):  # bounds of the channel
        only = torch.zeros(2, 3, 3).double()
        only[c] = 1
        mask = only.flatten().tolist()
        for j, w in enumerate(weight.flatten(1).tolist()):
            parts = [0.0] * 18
            for d in range(2):
                low, high = float(bounds[0][d]), float(bounds[1][d])
                found, _ = looped_z_box(image.flatten().tolist(), w, 0, 0, (low, high))
                parts[9 * d : 9 * d + 9] = found[9 * d : 9 * d + 9]
            for i in range(18):
                expected[i] += mask[i] * parts[i] / (sum(parts) + 1e-6) * relevances[j]
    found = propagated(forward, image, composite(z_box(*bounds)))
    torch.testing.assert_close(found.flatten(), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("rule", "contributions", "option"),
    [
        (epsilon(0.3), looped_epsilon, 0.3),
        (z_plus(), looped_z_plus, None),
        (gamma(0.25), looped_gamma, 0.25),
        (flat(), looped_flat, None),
    ],
)
def test_an_output_of_a_grouped_convolution_gives_to_its_own_channels(
    rule, contributions, option, image, draw
):
    weight, bias, head = draw(4, 1, 3, 3), draw(4), draw(1, 4)

    def hidden(x):
        return F.conv2d(x, weight, bias, groups=2).flatten(1)

    held = (hidden(image) * head)[0].tolist()
    found = propagated(lambda x: F.linear(hidden(x), head), image, composite(first=rule))
    for channel in range(2):
        own = slice(2 * channel, 2 * channel + 2)
        given = (image[0, channel].flatten().tolist(), weight[own].flatten(1), bias[own])
        expected = looped_layer(*given, held[own], contributions, option)
        torch.testing.assert_close(
            found[channel].flatten(), torch.tensor(expected, dtype=torch.float64)
        )


def test_attention_block_equals_loops(image, draw):
    """Norm, attention and residual sum of AttnLRP in relevances, one matrix entry at a time."""
    width, tokens = 6, 3
    scale, shift = draw(width), draw(width)
    w_query, w_key, w_value, head = *draw(3, width, width), draw(1, width)

    def forward(x):
        x = x.view(1, tokens, width)
        h = F.layer_norm(x, (width,), scale, shift)
        a = F.scaled_dot_product_attention(
            *((h @ w.T)[:, None] for w in (w_query, w_key, w_value)), scale=0.7
        )
        return F.linear((x + a[:, 0]).mean(1), head)

    # relevance of the sum x + a, then of a = s v
    x = image.view(tokens, width)
    mean, variance = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
    h = (x - mean) / (variance + 1e-5).sqrt() * scale + shift
    q, k, v = (h @ w.T for w in (w_query, w_key, w_value))
    logits = 0.7 * q @ k.T
    s = logits.softmax(-1)
    a = s @ v
    share = head[0] / tokens  # R of an entry of x + a, per unit of it
    r_x = x * share
    r_a = a * share
    r_s, r_v = torch.zeros_like(s), torch.zeros_like(v)
    for i in range(tokens):
        for j in range(tokens):
            for d in range(width):
                part = s[i, j] * v[j, d] / (2 * a[i, d]) * r_a[i, d]
                r_s[i, j] += part
                r_v[j, d] += part
    r_logits = torch.zeros_like(s)
    for i in range(tokens):
        for j in range(tokens):
            r_logits[i, j] = logits[i, j] * (r_s[i, j] - s[i, j] * r_s[i].sum())
    r_q, r_k = torch.zeros_like(q), torch.zeros_like(k)
    for i in range(tokens):
        for j in range(tokens):
            for d in range(width):
                part = 0.7 * q[i, d] * k[j, d] / (2 * logits[i, j]) * r_logits[i, j]
                r_q[i, d] += part
                r_k[j, d] += part
    r_h = torch.zeros_like(h)
    for t in range(tokens):
        for w, z, r in ((w_query, q, r_q), (w_key, k, r_k), (w_value, v, r_v)):
            for j in range(width):
                for i in range(width):
                    r_h[t, i] += h[t, i] * w[j, i] / z[t, j] * r[t, j]
    for t in range(tokens):  # h_i = Σ_j (δ_ij - 1/width) x_j scale_i / deviation + shift_i
        for i in range(width):
            for j in range(width):
                slope = ((i == j) - 1 / width) * scale[i] / (variance[t, 0] + 1e-5).sqrt()
                r_x[t, j] += x[t, j] * slope / h[t, i] * r_h[t, i]
    # a first layer, since relevance begins below one
    found = propagated(
        lambda x: forward(F.linear(x.flatten(1), torch.eye(18).double())),
        image,
        composite(attention=True),
    )
    torch.testing.assert_close(found.flatten(), r_x.flatten(), rtol=1e-9, atol=1e-12)


STEM, HEAD = (6, 2, 2, 2), (1, 24)


@pytest.fixture
def net(draw):
    """From a function of feature maps to a network around it, with weights of its own."""
    stem, head = draw(*STEM), draw(*HEAD)
    return lambda middle: lambda x: F.linear(middle(F.conv2d(x, stem)).flatten(1), head)


@pytest.mark.parametrize(
    ("plain", "in_place"),
    [
        (lambda x: F.silu(x), lambda x: F.silu(x, inplace=True)),
        (lambda x: F.relu(x), lambda x: x.relu_()),
        (lambda x: F.hardswish(x) + 0, lambda x: F.hardswish(x, inplace=True).add_(0)),
        (
            lambda x: x * x.mean((2, 3), True).sigmoid(),
            lambda x: x.mul_(x.mean((2, 3), True).sigmoid()),
        ),
        (lambda x: x * (x + 2), lambda x: x.mul_(x + 2)),
        (lambda x: x / x.std((2, 3), keepdim=True), lambda x: x.div_(x.std((2, 3), keepdim=True))),
        (lambda x: x.clamp(-0.5, 2), lambda x: x.clamp_(-0.5, 2)),
    ],
)
@pytest.mark.parametrize("rule", [EXACT, z_plus(), gamma(0.3)])
def test_in_place_calls_are_the_plain_ones(plain, in_place, rule, net, image):
    def statement(x):
        in_place(x)  # the result is not taken
        return x

    expected = propagated(net(plain), image, composite(rule, rule))
    for form in (in_place, statement):
        found = propagated(net(form), image, composite(rule, rule))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "activation",
    [F.gelu, F.silu, F.elu, F.relu6, F.hardswish, torch.tanh, F.softplus, F.mish, F.leaky_relu],
)
def test_activations_keep_relevance(activation, net, image, draw):
    """With epsilon rules the result is that of the constant factor f(x) / x."""
    features = None

    def middle(x):
        nonlocal features
        features = x.detach().clone()
        return activation(x)

    found = propagated(net(middle), image)
    factor = activation(features) / features
    torch.testing.assert_close(found, propagated(net(lambda x: x * factor), image))


def test_products_share_and_gates_take_nothing(net, image):
    def along(middle):
        return propagated(net(middle), image)

    def constant(x):
        return x.detach().clone()

    signal = along(lambda x: x * constant(x + 2))
    other = along(lambda x: constant(x) * (x + 2))
    torch.testing.assert_close(along(lambda x: x * (x + 2)), (signal + other) / 2)
    torch.testing.assert_close(along(lambda x: x**2), along(lambda x: x * constant(x)))
    for gate in (
        lambda x: x.sigmoid(),
        lambda x: F.hardsigmoid(x),
        lambda x: x.mean((2, 3)).sigmoid()[:, :, None, None].expand_as(x),
        lambda x: 2 * x.softmax(1) + 0.1,
        lambda x: x.detach(),
    ):
        expected = along(lambda x, gate=gate: x * constant(gate(x)))
        torch.testing.assert_close(along(lambda x, gate=gate: x * gate(x)), expected)
        torch.testing.assert_close(along(lambda x, gate=gate: gate(x) * x), expected)
    torch.testing.assert_close(
        along(lambda x: x.sigmoid() * (2 * x).sigmoid()),  # two gates are two signals
        (
            along(lambda x: x.sigmoid() * constant((2 * x).sigmoid()))
            + along(lambda x: constant(x.sigmoid()) * (2 * x).sigmoid())
        )
        / 2,
    )


@pytest.mark.parametrize(
    ("norm", "written"),
    [
        (lambda x: F.normalize(x, dim=1), lambda x, c: x / c(x.norm(dim=1, keepdim=True))),
        (
            lambda x: x * torch.rsqrt(x.var((1, 2, 3), keepdim=True) + 1e-3),
            lambda x, c: x * c((x.var((1, 2, 3), keepdim=True) + 1e-3) ** -0.5),
        ),
        (
            lambda x: F.group_norm(x, 2, torch.arange(1.0, 7).double(), torch.ones(6).double()),
            lambda x, c: (
                (
                    (x.view(1, 2, 12) - x.view(1, 2, 12).mean(2, keepdim=True))
                    / c(x.view(1, 2, 12).var(2, correction=0, keepdim=True) + 1e-5) ** 0.5
                ).view_as(x)
                * torch.arange(1.0, 7).double().view(-1, 1, 1)
                + 1
            ),
        ),
        (
            lambda x: F.rms_norm(x, (2, 2), torch.ones(2, 2).double() * 3, 1e-4),
            lambda x, c: 3 * x / c((x * x).mean((2, 3), keepdim=True) + 1e-4) ** 0.5,
        ),
    ],
)
def test_scales_are_constants(norm, written, net, image):
    found = propagated(net(norm), image)
    with_constants = net(lambda x: written(x, lambda scale: scale.detach()))
    torch.testing.assert_close(found, propagated(with_constants, image))


@pytest.mark.parametrize("rule", [epsilon(0.1), z_plus(), gamma(0.25), flat()])
def test_batch_norm_is_merged_into_the_layer_before_it(rule, image, draw):
    weight, head = draw(5, 2, 2, 2), draw(1, 20)
    norm = {"weight": draw(5), "bias": draw(5)}
    mean, variance = draw(5), draw(5).square() + 0.1

    def outer(layer):
        return lambda x: F.linear(layer(x).relu().flatten(1), head)

    scale = norm["weight"] / (variance + 1e-5).sqrt()
    fused = weight * scale.view(-1, 1, 1, 1), norm["bias"] - mean * scale
    expected = propagated(outer(lambda x: F.conv2d(x, *fused)), image, composite(rule))
    found = propagated(
        outer(lambda x: F.batch_norm(F.conv2d(x, weight), mean, variance, **norm)),
        image,
        composite(rule),
    )
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)

    def used_twice(x):  # the convolution's own output keeps its own rule
        z = F.conv2d(x, weight)
        return torch.cat([F.batch_norm(z, mean, variance, **norm), z]).relu().flatten(1)

    both = propagated(lambda x: (used_twice(x) * head).sum().view(1, 1), image, composite(rule))
    alone = propagated(outer(lambda x: F.conv2d(x, weight)), image, composite(rule))
    torch.testing.assert_close(both, expected + alone, rtol=1e-8, atol=1e-12)


def test_batch_norm_elsewhere(net, image):
    """Behind an activation it keeps relevance, as a constant factor; behind a sum it is linear."""
    mean, variance, weight, bias = torch.rand(4, 6).double()

    def norm(x):
        return F.batch_norm(x, mean, variance, weight, bias)

    scale = (weight / (variance + 1e-5).sqrt()).view(-1, 1, 1)
    shift = bias.view(-1, 1, 1) - mean.view(-1, 1, 1) * scale
    for before in (F.elu, lambda x: F.elu(x, inplace=True)):
        kept = propagated(net(lambda x, f=before: norm(f(x))), image)
        factored = propagated(
            net(lambda x: (lambda h: h * (norm(h) / h).detach())(F.elu(x))), image
        )
        torch.testing.assert_close(kept, factored)
    summed = propagated(net(lambda x: norm(F.elu(x) + x)), image)
    linear = propagated(net(lambda x: (F.elu(x) + x) * scale + shift), image)
    torch.testing.assert_close(summed, linear)


@pytest.mark.parametrize(
    "rule", [epsilon(), z_plus(), flat(), z_box(*torch.tensor([[-9.0] * 2, [9.0] * 2]))]
)
def test_a_model_that_normalises_its_input(rule, net, image):
    """Relevance of the image is that of the normalised image."""
    mean, std = torch.tensor([[0.3], [-0.2]])[:, :, None], torch.tensor([[2.0], [0.5]])[:, :, None]
    expected = propagated(net(F.relu), (image - mean) / std, composite(rule))
    for normalise in (
        lambda x: (x - mean) / std,
        lambda x: (x - mean) * (1 / std),
        lambda x: x.sub_(mean).div_(std),
    ):
        found = propagated(lambda x, n=normalise: net(F.relu)(n(x)), image, composite(rule))
        torch.testing.assert_close(found, expected)


def test_two_first_layers_and_rearranged_images(draw, image):
    w1, w2, head = draw(3, 2, 2, 2), draw(3, 2, 2, 2), draw(1, 12)

    def one(w):
        return lambda x: F.linear(F.conv2d(x, w).relu().flatten(1), head)

    def both(x):
        z = F.conv2d(x, w1).relu() + F.conv2d(x, w2).relu()
        return F.linear(z.flatten(1), head)

    for rule in (EXACT, flat()):
        parts = [propagated(one(w), image, composite(rule)) for w in (w1, w2)]
        torch.testing.assert_close(propagated(both, image, composite(rule)), sum(parts))
        flipped = propagated(lambda x: one(w1)(x.flip(3)), image.flip(3), composite(rule))
        torch.testing.assert_close(flipped.flip(2), parts[0])


class Custom(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.exp()

    @staticmethod
    def backward(ctx, g):
        return g


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("middle", "name"),
    [
        (lambda x: x.exp(), "'Exp'"),
        (lambda x: 1 / (x + 9), "'Reciprocal'"),
        (lambda x: Custom.apply(x), "'CustomBackward'"),
        (lambda x: F.batch_norm(x, None, None, training=True), "'NativeBatchNorm'"),
        (lambda x: x ** (x * 0 + 2), "'Pow'"),
        (lambda x: torch.addcmul(x, x, x), "'Addcmul'"),
        (lambda x: F.conv_transpose2d(x, torch.ones(6, 6, 1, 1).double()), "'Convolution'"),
        (lambda x: F.conv2d(x, x.expand(6, -1, -1, -1)[:, :, :1, :1]), "weights of conv2d"),
        (lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2), "attention; use method=attnlrp"),
        (lambda x: torch.einsum("bcij,bdij->bcd", x, x), "attention; use method=attnlrp"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(middle, name, draw, image):
    stem = draw(6, 2, 2, 2)
    with pytest.raises(UnsupportedModel, match=name):
        propagated(lambda x: middle(F.conv2d(x, stem)).flatten(1)[:, :4], image)


@pytest.mark.parametrize("weight", [(4, 18), (4, 2, 3, 3)])
def test_a_z_box_of_what_is_no_convolution_of_these_channels_is_refused(weight, image, draw):
    """A linear layer with as many bounds as inputs; a convolution of two channels with three."""
    layer, first = draw(*weight), z_box(draw(18 if len(weight) == 2 else 3), draw(1))

    def forward(x):
        call = F.linear(x.flatten(1), layer) if layer.ndim == 2 else F.conv2d(x, layer)
        return call.flatten(1)

    with pytest.raises(UnsupportedModel, match="the z-box rule needs a first layer"):
        propagated(forward, image, composite(first))


def test_scripted_functions_are_refused(net, image):
    scripted = torch.jit.CompilationUnit("def f(x):\n    return x * torch.sigmoid(x)\n")
    with pytest.raises(UnsupportedModel, match="no relevance rule"):
        propagated(net(scripted.f), image)


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: x.flatten(1),
        lambda x: F.max_pool2d(x, 2).flatten(1),
        lambda x: F.linear(
            torch.cat([x, F.conv2d(x, torch.eye(2).double()[:, :, None, None]).relu()]).view(1, -1),
            torch.ones(2, 36).double(),
        ),
        lambda x: F.conv2d(x * x.mean().sigmoid(), torch.ones(1, 2, 3, 3).double()).flatten(1),
    ],
)
def test_paths_around_the_first_layer_are_refused(forward, image):
    with pytest.raises(UnsupportedModel, match="other than by a first layer"):
        propagated(forward, image)


def test_an_overwritten_input_is_refused(draw, image):
    weight = draw(2, 2, 1, 1)

    def forward(x):
        x = F.conv2d(x, weight).relu()
        z = F.conv2d(x, weight)
        x.add_(1)
        return (x + z).flatten(1)

    with pytest.raises(UnsupportedModel, match="overwrites the input of a layer"):
        propagated(forward, image)


def test_no_attention_is_refused_where_it_is_asked_for(net, image):
    with pytest.raises(UnsupportedModel, match="Model has no attention; use method=lrp"):
        propagated(net(F.relu), image, composite(attention=True))


def test_einsum_shares_among_its_signals(draw, image):
    stem, table, head = draw(6, 2, 2, 2), draw(6, 3), draw(1, 12)

    def around(product):
        def forward(x):
            z = F.conv2d(x, stem).flatten(2)
            return F.linear(product(z, z + 1).flatten(1), head)

        return propagated(forward, image, composite(attention=True))

    def einsum(a, b):
        return torch.einsum("bci,bcj,ck->bik", a, b, table)

    whole = around(einsum)
    parts = [
        around(lambda a, b: einsum(a, b.detach()) + 0 * (a @ b.mT).mean()),
        around(lambda a, b: einsum(a.detach(), b) + 0 * (a @ b.mT).mean()),
    ]
    torch.testing.assert_close(whole, sum(parts) / 2)
