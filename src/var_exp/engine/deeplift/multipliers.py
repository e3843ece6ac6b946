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
from itertools import product
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from var_exp.engine.calls import DIVISION_CALLS, ELEMENTWISE_CALLS, PRODUCT_CALLS, Call
from var_exp.engine.deeplift.surrogates import Route, multiplied, routed, with_values
from var_exp.engine.equal_rows import copied, of_one_row, one_row, run_once
from var_exp.types import UnsupportedModel

MultiplierRule: TypeAlias = Callable[
    [Call, Sequence[Tensor], Sequence[Tensor]], tuple[Tensor, Tensor]
]
"""From a call, its tensors and their baselines to its result, which multiplies gradients on their
way back, and to the result's baseline. Tensors that require no gradient are constants."""

_LEVEL = 1e-5  # share by which equal sums may differ after float32 rounding


def find_rule(call: Call, signals: Sequence[Tensor]) -> MultiplierRule | None:
    """Rule of a call that is not affine in its signals (what depends on the image), if any."""
    if call.name in _ONE_INPUT and len(signals) == 1 and signals[0] is call.input:
        return _ONE_INPUT[call.name]
    if call.name in PRODUCT_CALLS and len(signals) == 2:
        return _product
    if call.name in DIVISION_CALLS | {"__rdiv__"} and call.kwargs.get("rounding_mode") is None:
        return _quotient
    return None


def _elementwise(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Slope between the two points, or the derivative in their middle where rounding blurs it."""
    x, x0 = tensors[0].detach(), baselines[0]
    value, value0 = _values(call, tensors, baselines)
    step, change = x - x0, value - value0
    slope = change / step
    tolerance = torch.finfo(x.dtype).eps ** 0.5
    close = step.abs_() <= tolerance
    at = close.nonzero(as_tuple=True) if len(tensors) == 1 else ...  # parameters may be per channel
    size = tolerance * torch.maximum(value[at].abs(), value0.expand_as(value)[at].abs())
    blurred = close[at] & (change[at].abs() <= size)
    middle = ((x[at] + x0.expand_as(x)[at]) / 2).requires_grad_()
    there = call.with_tensors([middle.clone(), *tensors[1:]]).run()  # cloned for calls in place
    (derivative,) = torch.autograd.grad(there.sum(), middle)
    slope[at] = torch.where(blurred, derivative, slope[at])
    return multiplied(tensors[0], slope, value), value0


def _relu(
    _call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Slope of the rectifier, which rounding does not blur; its derivative between equal points."""
    x, row = tensors[0].detach(), one_row(baselines[0])
    value, value0 = x.relu(), row.relu()
    slope = (value - value0).div_(x - row)
    if slope.sum().isnan():  # 0 / 0
        slope = torch.where(x == row, x > 0, slope)
    return multiplied(tensors[0], slope, value), value0.expand_as(baselines[0])


def _root(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Slope of the square root, 1 / (√x + √x0); 0 between zeros, as in torch's norms."""
    value, value0 = _values(call, tensors, baselines)
    total = value + value0
    slope = total.reciprocal().masked_fill(total == 0, 0)
    return with_values(slope * tensors[0], value), value0


def _square(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Slope of the square, x + x0."""
    value, value0 = _values(call, tensors, baselines)
    return with_values((tensors[0].detach() + baselines[0]) * tensors[0], value), value0


def _max_pooling(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    value, value0 = _values(call, tensors, baselines)
    x, x0 = tensors[0], one_row(baselines[0])
    pads, places = _windows(call, value)
    if x.ndim == 1 or x.is_contiguous() or not x.movedim(1, -1).is_contiguous():
        return _of_winners(x, x0, value, value0, pads, places), value0
    # channels last, as they lie in memory
    x, x0, y, y0 = (each.movedim(1, -1) for each in (x, x0, value, value0))
    pads, places = [0, 0, *pads], [(*place, slice(None)) for place in places]
    return _of_winners(x, x0, y, y0, pads, places).movedim(-1, 1), value0


def _amax(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    value, value0 = _values(call, tensors, baselines)
    dims = call.argument(1, "dim", ())
    dims = [dims] if isinstance(dims, int) else list(dims) or list(range(tensors[0].ndim))
    signal, reference = (
        x[0].movedim(dims, list(range(len(dims)))).flatten(0, len(dims) - 1)[None]
        for x in (tensors, baselines)
    )
    y, y0 = (each.reshape(1, *signal.shape[2:]) for each in (value, value0))
    places = [(slice(None), i) for i in range(signal.shape[1])]
    return _of_winners(signal, reference, y, y0, [], places).view_as(value), value0


def _of_winners(
    x: Tensor,
    x0: Tensor,
    value: Tensor,
    value0: Tensor,
    pads: list[int],
    places: Sequence[tuple[Any, ...]],
) -> Tensor:
    """Maxima over windows, of which the winner of the larger carries the whole change.

    Places that are level with it share: a plain baseline is the same all over a window, and only
    rounding would tell its winner.

    Args:
        x: [B, …], a signal.
        x0: Its baseline, [B, …] or one row for all.
        value: [B, …], maxima of x.
        value0: Those of x0, in the same shape.
        pads: What x is padded with, for `torch.nn.functional.pad`.
        places: Index of each place of the windows, such as the upper left one: it gives what is
            there in all windows of the padded x, in the shape of the maxima.
    """
    change = value - value0
    # at most half the change, so that a winner's own step is no smaller than the other half
    tolerance = torch.minimum(_LEVEL * torch.maximum(value.abs(), value0.abs()), change.abs() / 2)
    least = torch.maximum(value, value0) - tolerance
    least_x, least_x0 = (least.masked_fill(no, torch.inf) for no in (change <= 0, change >= 0))
    padded, padded0 = (functional.pad(each, pads, value=-torch.inf) for each in (x.detach(), x0))
    targets = [
        # negated, so that what is undefined hands on what is undefined
        (~(padded[at] < least_x) | (padded0[at] >= least_x0)).flatten().nonzero().squeeze(1)
        for at in places
    ]
    count = torch.cat(targets).bincount(minlength=value.numel())
    share = change.flatten() / count.clamp(min=1)  # without a change there is no winner
    flat, flat0 = x.detach().flatten(), x0.flatten()
    row, windows = x[0].numel(), value[0].numel()
    index = functional.pad(torch.arange(row, device=x.device).view(1, *x.shape[1:]), pads)
    routes = []
    for at, target in zip(places, targets, strict=True):
        in_row = index[at].flatten().index_select(0, target % windows)
        source = in_row + target // windows * row
        step = flat.index_select(0, source)
        step -= flat0.index_select(0, in_row if len(x0) == 1 else source)
        routes.append(Route(source, target, share.index_select(0, target) / step))
    return routed(x, routes, value)


def _windows(pooling: Call, output: Tensor) -> tuple[list[int], list[tuple[Any, ...]]]:
    """Padding of the input, and places in windows, as `_of_winners` takes them.

    The padding is negative where it cuts what no window sees.
    """
    dims = int(pooling.name[-2])  # the name ends in their number, as in max_pool2d
    sizes, counts = pooling.input.shape[-dims:], output.shape[-dims:]
    if pooling.name.startswith("adaptive"):
        kernel = [size // count for size, count in zip(sizes, counts, strict=True)]
        if any(size % count for size, count in zip(sizes, counts, strict=True)):
            raise UnsupportedModel(
                "adaptive max pooling into windows of several sizes has no rule; take images of "
                "another size, or a gradient method such as ig."
            )
        stride, padding, dilation = kernel, [0] * dims, [1] * dims
    else:
        options = _pooling_options(dims, *pooling.args, **pooling.kwargs)
        kernel, stride, padding, dilation = map(list, options)
    pads: list[int] = []
    axes = []
    for i in range(dims):
        starts = range(0, dilation[i] * kernel[i], dilation[i])
        reach = (counts[i] - 1) * stride[i] + 1
        pads = [padding[i], reach + starts[-1] - padding[i] - sizes[i], *pads]  # the last one first
        axes.append([slice(start, start + reach, stride[i]) for start in starts])
    return pads, [(..., *place) for place in product(*axes)]


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
    value, value0 = _values(call, tensors, baselines)
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
    return with_values(surrogate, value), value0


def _product(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Each factor's change times the mean of the other."""
    value, value0 = _values(call, tensors, baselines)
    means = [((t + t0) / 2).detach() for t, t0 in zip(tensors, baselines, strict=True)]
    a, b = (i for i, tensor in enumerate(tensors) if tensor.requires_grad)
    parts = []
    for factor in (a, b):
        mixed = means.copy()
        mixed[factor] = tensors[factor]
        mixed[0] = mixed[0].clone() if call.in_place else mixed[0]
        parts.append(call.with_tensors(mixed).run())
    return with_values(parts[0] + parts[1], value), value0


def _quotient(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """(Δa - q̄ Δb) / b̄, where a may be a constant."""
    value, value0 = _values(call, tensors, baselines)
    below, below0 = tensors[-1], baselines[-1]
    mean_below = ((below + below0) / 2).detach()
    surrogate = -(value + value0) / 2 / mean_below * below
    if len(tensors) == 2 and tensors[0].requires_grad:
        surrogate = tensors[0] / mean_below + surrogate
    return with_values(surrogate, value), value0


def _values(
    call: Call, tensors: Sequence[Tensor], baselines: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Results of the call of tensors and of their baselines, of which none is overwritten."""
    signal, reference = (
        call.with_tensors([t.detach() for t in tensors]),
        call.with_tensors(baselines),
    )
    if call.in_place:
        signal = signal.with_tensors([signal.tensors[0].clone(), *signal.tensors[1:]])
        copy = baselines[0].clone() if of_one_row(reference) is None else copied(baselines[0])
        reference = reference.with_tensors([copy, *baselines[1:]])
    return signal.run(), run_once(reference)


_ONE_INPUT: dict[str, MultiplierRule] = {
    **dict.fromkeys(ELEMENTWISE_CALLS, _elementwise),
    **dict.fromkeys(
        (
            *("max_pool1d", "max_pool2d", "max_pool3d"),
            *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
        ),
        _max_pooling,
    ),
    "relu": _relu,
    "amax": _amax,
    "sqrt": _root,
    "square": _square,
    "softmax": _softmax,
}
