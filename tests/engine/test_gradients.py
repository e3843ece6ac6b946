"""The gradient primitive against plain loops of `backward`."""

import weakref
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import nn

from var_exp.engine.gradients import class_gradients, layer_output, reduced_gradients
from var_exp.types import UnsupportedModel

CLASSES = torch.tensor([[0, 4, 4], [3, 1, 0]])


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 2, 3),
        nn.Flatten(),
        nn.Linear(32, 5),
    ).double()


def test_equals_one_backward_pass_per_image_and_class(net, images):
    found = class_gradients(net, images, CLASSES)
    torch.testing.assert_close(found.logits, net(images).detach())
    assert torch.equal(found.point, images)
    for b in range(2):
        for k in range(3):
            image = images[b : b + 1].clone().requires_grad_()
            net(image)[0, CLASSES[b, k]].backward()
            torch.testing.assert_close(found.gradients[b, k], image.grad[0], rtol=1e-12, atol=0)


def test_linear_model_has_its_weights_as_gradient(images):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).double()
    gradients = class_gradients(net, images, CLASSES).gradients
    assert torch.equal(gradients, net[1].weight.detach()[CLASSES].view(2, 3, 3, 8, 8))


def test_at_a_layer_before_an_in_place_activation(net, images):
    found = class_gradients(net, images, CLASSES, layer=net[0])
    features = net[0](images).detach()
    assert torch.equal(found.point, features)  # not overwritten by the ReLU behind it
    for k, chosen in enumerate(CLASSES.T):
        leaf = features.clone().requires_grad_()
        net[2:](leaf.relu())[range(2), chosen].sum().backward()
        torch.testing.assert_close(found.gradients[:, k], leaf.grad, rtol=1e-12, atol=0)
    assert not net[0]._forward_hooks


def test_one_forward_pass_serves_all_classes(net, images):
    calls = []
    net[0].register_forward_hook(lambda *_: calls.append(1))
    class_gradients(net, images, CLASSES)
    assert len(calls) == 1


def test_parameters_collect_no_gradient_and_ask_again_afterwards(net, images):
    class_gradients(net, images, CLASSES)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    with pytest.raises(ValueError, match="got 5"):
        class_gradients(net, images, CLASSES + 1)
    assert all(p.requires_grad for p in net.parameters())


def test_the_graph_is_freed(net, images):
    kept = []
    net[2].register_forward_hook(lambda _, inputs, output: kept.append(weakref.ref(output)))
    found = class_gradients(net, images, CLASSES)
    assert kept[0]() is None
    assert found.gradients.grad_fn is None


def test_the_model_may_work_in_place_on_its_input(images):
    class InPlace(nn.Module):
        def forward(self, images):
            return images.mul_(2.0).flatten(1)[:, :5]

    before = images.clone()
    gradients = class_gradients(InPlace(), images, CLASSES).gradients
    assert torch.equal(images, before)
    assert gradients.flatten(2).sum(2).eq(2).all()


def test_a_model_that_detaches_is_refused(net, images):
    class Detached(nn.Module):
        def forward(self, images):
            return net(images).detach()

    with pytest.raises(UnsupportedModel, match="the logits do not depend"):
        class_gradients(Detached(), images, CLASSES)


@pytest.mark.parametrize("run", [0, 1])
def test_each_run_of_a_layer_that_is_used_again(net, images, run):
    shared, apart = net[1], [nn.ReLU(), nn.ReLU()]
    twice, expected = (
        nn.Sequential(net[0], first, net[2], second, net[3], net[4])
        for first, second in ((shared, shared), apart)
    )
    found = class_gradients(twice, images, CLASSES, layer=shared, run=run)
    expected_gradients = class_gradients(expected, images, CLASSES, layer=apart[run])
    for each, other in zip(found, expected_gradients, strict=True):
        assert torch.equal(each, other)
    logits, output = layer_output(twice, images, shared, run)
    assert torch.equal(logits, twice(images))
    assert torch.equal(output, layer_output(expected, images, apart[run])[1])
    with pytest.raises(UnsupportedModel, match="the layer runs 2 times"):
        layer_output(twice, images, shared, 2)


def test_a_layer_must_run_and_return_a_tensor(net, images):
    with pytest.raises(UnsupportedModel, match="the layer runs 0 times"):
        class_gradients(net, images, CLASSES, layer=nn.ReLU())

    class Named(nn.Module):
        def forward(self, images):
            return {"images": images}

    named = Named()
    with pytest.raises(UnsupportedModel, match="returns dict"):
        class_gradients(nn.Sequential(named), images, CLASSES, layer=named)


def test_of_a_layer_that_returns_several_things_the_first_counts(net, images):
    class WithSize(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            x = self.inner(x)
            return x, x.shape

    class Unpacked(nn.Module):
        def __init__(self, first, *rest):
            super().__init__()
            self.first, self.rest = WithSize(first), nn.Sequential(*rest)

        def forward(self, images):
            values, size = self.first(images)
            assert values.shape == size
            return self.rest(values)

    packed = Unpacked(*net)
    found = class_gradients(packed, images, CLASSES, layer=packed.first)
    expected = class_gradients(net, images, CLASSES, layer=net[0])
    assert torch.equal(found.gradients, expected.gradients)
    assert torch.equal(found.point, expected.point)
    assert torch.equal(found.logits, expected.logits)


@contextmanager
def outputs_of(*layers):
    """Collect the outputs of layers, in their order of execution."""
    found = []
    handles = [
        layer.register_forward_hook(lambda _m, _i, out: found.append(out)) for layer in layers
    ]
    yield found
    for handle in handles:
        handle.remove()


def weighed(points, gradients):
    """A reduction in which each point, each gradient and their order count: [B, 2]."""
    sums = [(p * g).flatten(1).sum(1) for p, g in zip(points, gradients, strict=True)]
    squares = [g.square().flatten(1).sum(1) for g in gradients]
    return torch.stack([sums[0] - 2 * sums[1], squares[0] + 3 * squares[1]], 1)


def assert_equals_loops(net, images, found, score):
    """One `autograd.grad` per image and class at the outputs of both convolutions."""
    assert found.shape == (2, 3, 2)
    for b in range(2):
        for k in range(3):
            first = net[0](images[b : b + 1])
            second = net[2](first.relu())
            logits = net[3:](second)
            points = first, second
            gradients = torch.autograd.grad(score(logits)[0, CLASSES[b, k]], points)
            expected = weighed([point.detach() for point in points], gradients)[0]
            torch.testing.assert_close(found[b, k], expected, rtol=1e-10, atol=1e-14)


@pytest.fixture
def plain(net):
    """The network without its in-place activation, which would overwrite the first point."""
    net[1] = nn.ReLU()
    return net


def test_reduced_gradients_equal_loops_over_images_and_classes(plain, images):
    found = reduced_gradients(
        plain, images, CLASSES, lambda _: outputs_of(plain[0], plain[2]), weighed
    )
    assert_equals_loops(plain, images, found, lambda logits: logits)
    assert found.grad_fn is None


def test_reduced_gradients_of_another_score(plain, images):
    found = reduced_gradients(
        plain,
        images,
        CLASSES,
        lambda _: outputs_of(plain[0], plain[2]),
        weighed,
        score=lambda logits, classes: logits.log_softmax(1).gather(1, classes),
    )
    assert_equals_loops(plain, images, found, lambda logits: logits.log_softmax(1))


def test_the_images_themselves_can_be_the_point(net, images):
    found = reduced_gradients(
        net, images, CLASSES, lambda leaf: nullcontext([leaf]), lambda _, gradients: gradients[0]
    )
    assert torch.equal(found, class_gradients(net, images, CLASSES).gradients)
    assert not images.requires_grad


def test_reduced_gradients_of_a_model_that_works_in_place_on_its_input(images):
    class InPlace(nn.Module):
        def forward(self, images):
            return images.mul_(2.0).flatten(1)[:, :5]

    before = images.clone()
    found = reduced_gradients(
        InPlace(), images, CLASSES, lambda leaf: nullcontext([leaf]), lambda _, given: given[0]
    )
    assert torch.equal(images, before)
    assert found.flatten(2).sum(2).eq(2).all()


def test_a_point_that_the_score_does_not_depend_on_has_zeros(plain, images):
    class SideBranch(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.unused = plain, nn.Conv2d(3, 2, 3).double()

        def forward(self, images):
            self.unused(images)
            return self.net(images)

    model = SideBranch()
    seen = []

    def reduce(points, gradients):
        seen.append([gradient.abs().sum() for gradient in gradients])
        assert [p.shape for p in points] == [g.shape for g in gradients]
        return gradients[1]

    found = reduced_gradients(
        model, images, CLASSES, lambda _: outputs_of(model.unused, plain[2]), reduce
    )
    assert all(unused == 0 and used > 0 for unused, used in seen)
    assert len(seen) == 3
    assert torch.equal(found, class_gradients(plain, images, CLASSES, layer=plain[2]).gradients)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_reduced_gradients_where_gradients_are_off(plain, images, mode):
    def reduced(images, classes):
        return reduced_gradients(
            plain, images, classes, lambda _: outputs_of(plain[0], plain[2]), weighed
        )

    expected = reduced(images, CLASSES)
    with mode():
        assert torch.equal(reduced(images.clone(), CLASSES.clone()), expected)


def test_one_forward_pass_and_the_gradients_of_one_class_at_a_time(plain, images):
    kept, alive, activations, graph = [], [], [], []
    plain[1].register_forward_hook(lambda _m, _i, out: activations.append(weakref.ref(out)))

    @contextmanager
    def collect(_):
        with outputs_of(plain[0], plain[2]) as points:
            yield points
        # while the gradients of a class are computed, those of the class before are gone
        points[0].register_hook(lambda _: alive.append([g() is not None for g in kept]))

    def reduce(points, gradients):
        graph.append(activations[0]() is not None)
        assert not torch.is_grad_enabled()
        assert not any(tensor.requires_grad for tensor in (*points, *gradients))
        kept.extend(weakref.ref(gradient) for gradient in gradients)
        return weighed(points, gradients)

    reduced_gradients(plain, images, CLASSES, collect, reduce)
    assert len(activations) == 1
    assert alive == [[], [False] * 2, [False] * 4]
    assert graph == [True, True, False]  # it goes with the last class


def test_parameters_ask_again_after_reduced_gradients(plain, images):
    reduced_gradients(plain, images, CLASSES, lambda _: outputs_of(plain[0], plain[2]), weighed)
    assert all(p.grad is None and p.requires_grad for p in plain.parameters())


def test_reduced_gradients_refuse_what_they_cannot_do(plain, images):
    def reduced(model, classes=CLASSES, collect=lambda _: outputs_of(plain[0], plain[2])):
        return reduced_gradients(model, images, classes, collect, weighed)

    with pytest.raises(ValueError, match=r"0 … 4, the model's classes, got 5"):
        reduced(plain, CLASSES + 1)
    with pytest.raises(UnsupportedModel, match=r"must return logits \[B, N\], got \[2, 2, 4, 4\]"):
        reduced(plain[:3])
    with pytest.raises(UnsupportedModel, match="the logits do not depend"):
        reduced(plain, collect=lambda _: nullcontext([]))
    with pytest.raises(UnsupportedModel, match="the logits do not depend"):
        reduced(plain, collect=lambda leaf: nullcontext([leaf * 2]))

    class Detached(nn.Module):
        def forward(self, images):
            return plain(images).detach()

    with pytest.raises(UnsupportedModel, match="the logits do not depend"):
        reduced(Detached())
    assert all(p.requires_grad for p in plain.parameters())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_one_image_has_the_gradient_that_it_has_in_a_batch(images, memory_format):
    """Torch alone gets this wrong on the CPU: batch normalisation, then tokens, one image."""

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.weights = nn.Parameter(torch.randn(5, 64, 3))

        def forward(self, images):
            tokens = self.norm(images.contiguous(memory_format=memory_format))
            tokens = tokens.flatten(2).transpose(1, 2)
            return (tokens[:, None] * self.weights).sum((2, 3))

    torch.manual_seed(0)
    net = Tokens().double()
    nn.init.normal_(net.norm.weight)
    expected = (
        net.weights.mT.detach()[CLASSES] * (net.norm.weight.detach() / (1 + 1e-5) ** 0.5)[:, None]
    )
    expected = expected.view(2, 3, 3, 8, 8)
    leaf = [lambda images: nullcontext([images]), lambda _, gradients: gradients[0]]
    for rows in (slice(0, 2), slice(0, 1), slice(1, 2)):
        found = class_gradients(net, images[rows], CLASSES[rows]).gradients
        torch.testing.assert_close(found, expected[rows])
        found = reduced_gradients(net, images[rows], CLASSES[rows], *leaf)
        torch.testing.assert_close(found, expected[rows])
