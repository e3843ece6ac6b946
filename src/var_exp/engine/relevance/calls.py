"""The calls of a forward pass that relevance does not pass by their plain gradient.

`engine.relevance.propagation` says which rule each gets, and checks that no call was missed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import batch_norm

from var_exp.engine.calls import DIVISION_CALLS, Call, Calls
from var_exp.engine.norms import scale_and_shift, written_out
from var_exp.engine.relevance.graph import is_gate, is_sum, reads_image
from var_exp.engine.relevance.rules import Layer, RelevanceRule, made_by, propagate
from var_exp.engine.signals import signals_of
from var_exp.types import UnsupportedModel

_CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})
_GATES = frozenset({"sigmoid", "hardsigmoid"})
_ACTIVATIONS = _GATES | {
    *("relu6", "hardtanh", "clamp", "clip", "clamp_min", "clamp_max", "elu", "selu", "celu"),
    *("gelu", "silu", "mish", "hardswish", "softplus", "softsign", "tanh", "square", "abs"),
    "normalize",  # divides by a norm, which is a scale
}
_SCALES = frozenset({"rsqrt", "sqrt", "var", "std", "norm", "vector_norm", "linalg_vector_norm"})
_PRODUCTS = frozenset({"mul", "multiply"})
MATRIX_PRODUCTS = frozenset({"matmul", "mm", "bmm", "einsum"})


@dataclass(frozen=True)
class Composite:
    """Which layer gets which rule.

    Attributes:
        first: Of layers that read the image.
        convolution: Of other convolutions.
        tokens: Of linear layers on more than two axes: tokens, or maps with the channels last.
        dense: Of linear layers on vectors [B, D].
        attention: Whether the rules are meant for networks with attention, or for those without.
    """

    first: RelevanceRule
    convolution: RelevanceRule
    tokens: RelevanceRule
    dense: RelevanceRule
    attention: bool


class RelevanceCalls(Calls):
    """Gives the calls of a forward pass the backward of their relevance rule.

    Attributes:
        attended: Whether two signals were multiplied as matrices, as in attention.
    """

    opens_attention: ClassVar[bool] = True

    def __init__(self, composite: Composite) -> None:
        super().__init__()
        self.attended = False
        self._composite = composite
        self._answers: dict[str, Callable[[Call, list[Tensor]], Any]] = {
            **RULES_BETWEEN_LAYERS,
            **dict.fromkeys([*_CONVOLUTIONS, "linear"], self._layer),
            **dict.fromkeys(MATRIX_PRODUCTS, self._matrix_product),
            "batch_norm": _batch_norm,
        }

    def answer(self, call: Call) -> Any:
        """Result of a call, with the backward of its rule if it has one."""
        if call.name not in self._answers:
            return call.run()
        signals = signals_of(call)
        return self._answers[call.name](call, signals) if signals else call.run()

    def _layer(self, call: Call, signals: list[Tensor]) -> Any:
        x = call.input
        if len(signals) > 1 or signals[0] is not x:
            raise UnsupportedModel(
                f"the model computes the weights of {call.name} from the image, for which there is "
                "no relevance rule; use a gradient method such as input_x_gradient."
            )
        given = ("input", "weight", "bias")
        rest = {name: value for name, value in call.kwargs.items() if name not in given}

        def operation(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            output: Tensor = call.function(x, weight, bias, *call.args[3:], **rest)
            return output

        first = reads_image(x)
        if first:
            rule = self._composite.first
        elif call.name in _CONVOLUTIONS:
            rule = self._composite.convolution
        else:
            rule = self._composite.dense if x.ndim == 2 else self._composite.tokens
        weight, bias = call.argument(1, "weight"), call.argument(2, "bias")
        return propagate(Layer(x, weight, bias, operation, rule, first), call.run)

    def _matrix_product(self, call: Call, signals: list[Tensor]) -> Any:
        if len(signals) == 1:
            return call.run()
        if not self._composite.attention:
            raise UnsupportedModel("the model has attention; use method=attnlrp.")
        self.attended = True
        return share_product(call, signals)


def share_product(call: Call, signals: list[Tensor]) -> Any:
    """A product of signals, each of which gets the same share."""

    def product(*factors: Tensor) -> Any:
        others = iter(factors)
        tensors = [next(others) if t.requires_grad else t for t in call.tensors]
        return call.with_tensors(tensors).run()

    return _Share.apply(product, *signals)


def _keep(call: Call, signals: list[Tensor]) -> Any:
    """An elementwise function, which keeps the relevance: g · f(x) / x."""
    x = call.input
    if len(signals) > 1 or signals[0] is not x:
        return call.run()
    return _placed(call, _Keep.apply(x, call))


def _power(call: Call, signals: list[Tensor]) -> Any:
    exponent = call.argument(1, "exponent")
    return _keep(call, signals) if isinstance(exponent, int) and exponent > 0 else call.run()


def _product(call: Call, signals: list[Tensor]) -> Any:
    a, b = call.input, call.argument(1, "other")
    if len(signals) == 1:
        return _scaled(call, signals[0])
    gates = is_gate(a), is_gate(b)
    a = a.clone() if call.in_place else a  # the backward pass reads it
    if gates[0] != gates[1]:
        return _placed(call, a.detach() * b if gates[0] else a * b.detach())
    return _placed(call, _Share.apply(torch.mul, a, b))


def _quotient(call: Call, signals: list[Tensor]) -> Any:
    numerator, denominator = call.input, call.argument(1, "other")
    if signals[-1] is not denominator:
        return _scaled(call, numerator)
    return _placed(call, numerator / denominator.detach())  # a scale, which gets no relevance


def _scaled(call: Call, signal: Tensor) -> Any:
    """A signal times a constant. The image's relevance, which flows before layers, is kept."""
    if not reads_image(signal):
        return call.run()
    result = call.on(call.input.clone())
    return _placed(call, signal + (result - signal).detach())


def _batch_norm(call: Call, signals: list[Tensor]) -> Any:
    """Merged into the layer or sum before it, else an elementwise function."""
    x, mean, variance = (
        call.input,
        call.argument(1, "running_mean"),
        call.argument(2, "running_var"),
    )
    training = call.argument(5, "training", False)
    if call.function is not batch_norm or training or mean is None or len(signals) > 1:
        return call.run()  # which is refused in the end
    weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
    scale, shift = scale_and_shift(mean, variance, weight, bias, call.argument(7, "eps", 1e-5))
    layer = made_by(x)
    if layer is not None and (x.ndim == 2 or layer.weight.ndim > 2):  # else channels differ
        return propagate(layer.scaled(scale, shift), call.run)
    tokens = x._base  # behind a linear layer on tokens, which LeViT flattens to [B N, D]
    layer = None if tokens is None or x.ndim != 2 else made_by(tokens)
    if tokens is not None and layer is not None and tokens.shape[-1] == x.shape[1]:
        merged = propagate(layer.scaled(scale, shift), lambda: call.run().view(tokens.shape))
        return merged.view(x.shape)
    if is_sum(x):
        per_channel = (-1, *[1] * (x.ndim - 2))
        return x * scale.view(per_channel) + shift.view(per_channel)
    return _keep(call, signals)


def _normalised(input: Tensor, dims: tuple[int, ...], eps: float, centred: bool) -> Tensor:
    """Unit variance, where the deviation is a constant; zero mean where that is asked for."""
    if not centred:
        return input * (input.detach().square().mean(dims, keepdim=True) + eps).rsqrt()
    deviation = input.detach().var(dims, correction=0, keepdim=True).add(eps).sqrt()
    return (input - input.mean(dims, keepdim=True)) / deviation


_NORMS = written_out(_normalised)


def _norm(call: Call, _signals: list[Tensor]) -> Any:
    return _NORMS[call.name](*call.args, **call.kwargs)


RULES_BETWEEN_LAYERS: dict[str, Callable[[Call, list[Tensor]], Any]] = {
    **dict.fromkeys(_ACTIVATIONS, _keep),
    **dict.fromkeys(_SCALES, lambda call, _: call.run().detach()),
    **dict.fromkeys(_PRODUCTS, _product),
    **dict.fromkeys(DIVISION_CALLS, _quotient),
    "pow": _power,
    **dict.fromkeys(("layer_norm", "group_norm", "rms_norm"), _norm),
}
"""Calls by name that get a rule whatever the layers get: activations, normalisation, products."""


def _placed(call: Call, result: Tensor) -> Tensor:
    """The result, written over the input where the call does that."""
    return call.input.copy_(result) if call.in_place else result


class _Keep(torch.autograd.Function):
    """Elementwise function whose backward is f(x) / x in place of f'(x); zero where x is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call) -> Tensor:
        output: Tensor = call.on(x.clone() if call.in_place else x)
        ctx.is_gate = call.name in _GATES
        ctx.save_for_backward(torch.where(x == 0, 0, output / x))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (ratio,) = ctx.saved_tensors
        return gradients[0] * ratio, None


class _Share(torch.autograd.Function):
    """Product of signals, each of which gets the same share of the relevance."""

    @staticmethod
    def forward(ctx: Any, product: Callable[..., Tensor], *factors: Tensor) -> Tensor:
        ctx.factors = [factor.detach().requires_grad_() for factor in factors]
        with torch.enable_grad():
            ctx.output = product(*ctx.factors)
        output: Tensor = ctx.output.detach()
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        share = gradients[0] / len(ctx.factors)
        return None, *torch.autograd.grad(ctx.output, ctx.factors, share, retain_graph=True)
