"""Backward passes by finite differences, for calls that are not affine.

With Δ = image - baseline, and a bar for the mean of the two:

    one input      Δf = m Δx,  m = (f(x) - f(x0)) / (x - x0)      Shrikumar et al. 2017, rescale
    max pooling    Δy = m Δx_i,  i the winner of the larger of y and y0     as in SHAP and Captum
    product        Δ(ab) = b̄ Δa + ā Δb                    Shapley values of the two factors
    quotient       Δ(a/b) = (Δa - q̄ Δb) / b̄,  q = a/b     the product rule of a = q b, solved for q
    softmax        the quotient of exp(x) and its sum
    norms          written out: the quotient of the centred input and its root mean square

All are exact. The first two are the paper's, the others our extension to calls of several inputs.
The quotient rule keeps the multipliers as small as the larger of the two denominators allows, where
the product rule of a · (1/b) would add and subtract the smaller one's inverse.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from var_exp.engine.calls import PRODUCT_CALLS, Call
from var_exp.types import UnsupportedModel

Rule: TypeAlias = Callable[[Call, Sequence[Tensor], Sequence[Tensor]], tuple[Tensor, Tensor]]
"""From a call, its tensors and their baselines to its result, which multiplies gradients on their
way back, and to the result's baseline. Tensors that require no gradient are constants."""

DIVISIONS = frozenset({"div", "divide", "true_divide"})
_LEVEL = 1e-5  # share by which equal sums may differ after float32 rounding


def find_rule(call: Call, signals: Sequence[Tensor]) -> Rule | None:
    """Rule of a call that is not affine in its signals (what depends on the image), if any."""
    if call.name in _ONE_INPUT and len(signals) == 1 and signals[0] is call.input:
        return _ONE_INPUT[call.name]
    if call.name in PRODUCT_CALLS and len(signals) == 2:
        return _product
    if call.name in DIVISIONS | {"__rdiv__"} and call.kwargs.get("rounding_mode") is None:
        return _quotient
    return None


def _elementwise(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Slope between the two points, or the derivative in their middle where rounding blurs it."""
    x, x0 = tensors[0].detach(), baselines[0]
    value, value0 = _run(call, [x, *tensors[1:]]), _run(call, baselines)
    step, change = x - x0, value - value0
    slope = change / step
    tolerance = torch.finfo(x.dtype).eps ** 0.5
    blurred = change.abs() <= tolerance * torch.maximum(value.abs(), value0.abs())
    blurred &= step.abs() <= tolerance
    if blurred.any():
        middle = ((x + x0) / 2).requires_grad_()
        (derivative,) = torch.autograd.grad(_run(call, [middle, *tensors[1:]]).sum(), middle)
        slope = torch.where(blurred, derivative, slope)
    return _with_values(slope * tensors[0], value), value0


def _root(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Slope of the square root, 1 / (√x + √x0); 0 between zeros, as in torch's norms."""
    value, value0 = _run(call, [tensors[0].detach()]), _run(call, baselines)
    total = value + value0
    slope = total.reciprocal().masked_fill(total == 0, 0)
    return _with_values(slope * tensors[0], value), value0


def _square(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Slope of the square, x + x0."""
    value, value0 = _run(call, [tensors[0].detach()]), _run(call, baselines)
    return _with_values((tensors[0].detach() + baselines[0]) * tensors[0], value), value0


def _max_pooling(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    value, value0 = _run(call, [tensors[0].detach()]), _run(call, baselines)
    signal, reference = (_windows(call.with_tensors(x), value) for x in (tensors, baselines))
    return _with_values(_carried_by_winners(signal, reference), value), value0


def _amax(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    value, value0 = _run(call, [tensors[0].detach()]), _run(call, baselines)
    dims = call.argument(1, "dim", ())
    dims = [dims] if isinstance(dims, int) else list(dims) or list(range(value.ndim))
    last = list(range(-len(dims), 0))
    signal, reference = (x[0].movedim(dims, last).flatten(-len(dims)) for x in (tensors, baselines))
    return _with_values(_carried_by_winners(signal, reference).view(value.shape), value), value0


def _carried_by_winners(signal: Tensor, reference: Tensor) -> Tensor:
    """Sum over the last dimension whose change is that of the maximum.

    The winner of the larger maximum carries the whole change. Places that are level with it share:
    a plain baseline is the same all over a window, and only rounding would tell its winner.
    """
    x = signal.detach()
    value, value0 = x.amax(-1, keepdim=True), reference.amax(-1, keepdim=True)
    change = value - value0
    # at most half the change, so that a winner's own step is no smaller than the other half
    tolerance = torch.minimum(_LEVEL * torch.maximum(value.abs(), value0.abs()), change.abs() / 2)
    winners = torch.where(change >= 0, x, reference) >= torch.maximum(value, value0) - tolerance
    step = x - reference
    slope = torch.where(step == 0, 1, change / step) / winners.sum(-1, keepdim=True)
    return (torch.where(winners, slope, 0) * signal).sum(-1)


def _windows(pooling: Call, output: Tensor) -> Tensor:
    """[*output.shape, places]: the values that each output is the maximum of."""
    dims = int(pooling.name[-2])  # the name ends in their number, as in max_pool2d
    x, places = pooling.input, output.shape[-dims:]
    if pooling.name.startswith("adaptive"):
        kernel = [size // count for size, count in zip(x.shape[-dims:], places, strict=True)]
        if any(size % count for size, count in zip(x.shape[-dims:], places, strict=True)):
            raise UnsupportedModel(
                "adaptive max pooling into windows of several sizes has no rule; take images of "
                "another size, or a gradient method such as ig."
            )
        stride, padding, dilation = kernel, [0] * dims, [1] * dims
    else:
        options = _pooling_options(dims, *pooling.args, **pooling.kwargs)
        kernel, stride, padding, dilation = map(list, options)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = []
    for i in reversed(range(dims)):  # as `pad` wants them; a negative one cuts what no window sees
        end = (places[i] - 1) * stride[i] + reach[i]
        pads += [padding[i], end - padding[i] - x.shape[i - dims]]
    x = functional.pad(x, pads, value=-torch.inf)
    first = x.ndim - dims
    for i in range(dims):
        x = x.unfold(first + i, reach[i], stride[i])[..., :: dilation[i]]
    return x.flatten(-dims)


def _pooling_options(
    dims: int,
    _input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    *_: object,
    **__: object,
) -> list[Sequence[int]]:
    """Kernel, stride, padding and dilation in each dimension, from the arguments of the call."""
    given = (kernel_size, stride or kernel_size, padding, dilation)
    return [[each] * dims if isinstance(each, int) else each for each in given]


def _softmax(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Quotient of e^x and its sum; the slopes of e^x over the mean sum cannot overflow."""
    dim = call.argument(1, "dim")
    value, value0 = _run(call, [tensors[0].detach()]), _run(call, baselines)
    signal = tensors[0].to(value.dtype)
    x, x0 = signal.detach(), baselines[0].to(value.dtype)
    log_sum, log_sum0 = x.logsumexp(dim, keepdim=True), x0.logsumexp(dim, keepdim=True)
    top = torch.maximum(log_sum, log_sum0)
    mean_sum = ((log_sum - top).exp() + (log_sum0 - top).exp()) / 2
    larger = (torch.maximum(x, x0) - top).exp()
    step = (x - x0).abs()
    slope = larger * torch.where(step == 0, 1, -torch.expm1(-step) / step) / mean_sum
    slope = slope.masked_fill(larger == 0, 0)  # such as masked places, where the step is NaN
    change = slope * signal
    surrogate = change - (value + value0) / 2 * change.sum(dim, keepdim=True)
    return _with_values(surrogate, value), value0


def _product(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Each factor's change times the mean of the other."""
    value, value0 = _run(call, [t.detach() for t in tensors]), _run(call, baselines)
    means = [((t + t0) / 2).detach() for t, t0 in zip(tensors, baselines, strict=True)]
    a, b = (i for i, tensor in enumerate(tensors) if tensor.requires_grad)
    parts = []
    for factor in (a, b):
        mixed = means.copy()
        mixed[factor] = tensors[factor]
        parts.append(_run(call, mixed))
    return _with_values(parts[0] + parts[1], value), value0


def _quotient(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """(Δa - q̄ Δb) / b̄, where a may be a constant."""
    value, value0 = _run(call, [t.detach() for t in tensors]), _run(call, baselines)
    below, below0 = tensors[-1], baselines[-1]
    mean_below = ((below + below0) / 2).detach()
    surrogate = -(value + value0) / 2 / mean_below * below
    if len(tensors) == 2 and tensors[0].requires_grad:
        surrogate = tensors[0] / mean_below + surrogate
    return _with_values(surrogate, value), value0


def _run(call: Call, tensors: Sequence[Tensor]) -> Tensor:
    """Result of the call of other tensors, of which none is overwritten."""
    first = tensors[0].clone() if call.in_place else tensors[0]
    result: Tensor = call.with_tensors([first, *tensors[1:]]).run()
    return result


def _with_values(surrogate: Tensor, values: Tensor) -> Tensor:
    """A tensor's backward pass with other values; what made it must not have kept its result."""
    with torch.no_grad():
        return surrogate.copy_(values)


_ONE_INPUT: dict[str, Rule] = {
    **dict.fromkeys(
        (
            *("relu", "relu6", "hardtanh", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu"),
            *("gelu", "silu", "mish", "hardswish", "softplus", "softsign", "threshold"),
            *("_threshold", "sigmoid", "hardsigmoid", "logsigmoid", "tanh", "tanhshrink", "abs"),
            *("softshrink", "hardshrink", "clamp", "clamp_min", "clamp_max", "sin", "cos", "erf"),
            *("exp", "expm1", "log", "log1p", "log2", "pow", "__rpow__", "rsqrt"),
            *("reciprocal", "special_erf", "special_expit"),
        ),
        _elementwise,
    ),
    **dict.fromkeys(
        (
            *("max_pool1d", "max_pool2d", "max_pool3d"),
            *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
        ),
        _max_pooling,
    ),
    "amax": _amax,
    "sqrt": _root,
    "square": _square,
    "softmax": _softmax,
}
