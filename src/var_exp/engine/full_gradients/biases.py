"""The bias of one call of a network: what its output is, near its input, beyond a linear map.

With f(z) = J z + b, b = f(z) - J z. J z is the derivative of the call along its own input, by
forward-mode differentiation. Where b is known without it, as in layers and calls of which
f(z) = J z, it is not computed.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._pytree import tree_leaves

from var_exp.engine.calls import (
    LINEAR_CALLS,
    PRODUCT_CALLS,
    STRUCTURAL_CALLS,
    WEIGHTED_CALLS,
    Call,
)
from var_exp.engine.chunks import is_out_of_memory
from var_exp.engine.signals import signals_of
from var_exp.types import UnsupportedModel

_HOMOGENEOUS = (STRUCTURAL_CALLS | LINEAR_CALLS) - {
    *("pad", "masked_fill", "where", "__setitem__"),  # with constants
    *("add", "sub", "subtract", "__rsub__"),
} | {
    *("relu", "leaky_relu", "max_pool1d", "max_pool2d", "max_pool3d"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "amax"),
}


def biases_of(call: Call) -> list[Tensor]:
    """f(z) - J z for each result of a call, zeros for what is no number; [] where all are zero."""
    signals = signals_of(call)
    if _is_homogeneous(call, signals):
        return []
    x, is_layer = call.input, call.name in WEIGHTED_CALLS and len(signals) == 1
    if not is_layer or x is not signals[0] or (call.name == "batch_norm" and _of_batch(call)):
        return biases_by_differentiation(call)
    if call.name.startswith("conv"):
        bias, weight = call.argument(2, "bias"), call.argument(1, "weight")
        return [] if bias is None else [bias.view(-1, *[1] * (weight.ndim - 2))]
    sizes, channels = [1] * x.ndim, -1 if call.name == "linear" else 1
    sizes[channels] = x.shape[channels]
    return [call.on(x.new_zeros(sizes))]


def _is_homogeneous(call: Call, signals: list[Tensor]) -> bool:
    """Whether f(z) = J z, since the call moves, weighs, adds or chooses signals alone."""
    if call.name in PRODUCT_CALLS:
        return len(signals) == 1
    if call.name in ("add", "sub"):
        return len(signals) == 2
    return call.name in _HOMOGENEOUS and len(signals) == len(call.tensors)


def _of_batch(call: Call) -> bool:
    """Whether batch normalisation takes the statistics of the batch."""
    return bool(call.argument(5, "training", False)) or call.argument(1, "running_mean") is None


def biases_by_differentiation(call: Call) -> list[Tensor]:
    """f(z) - J z for each result of a call, by one pass of forward-mode differentiation."""
    with torch.no_grad(), forward_ad.dual_level():
        tensors = [_dual(tensor) if tensor.requires_grad else tensor for tensor in call.tensors]
        if call.overwrites:
            tensors[0] = tensors[0].clone()
        try:
            result = call.with_tensors(tensors).run()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise refusal(f"calls '{call.name}', which has no forward-mode derivative") from error
        leaves = tensors[:1] if call.overwrites else tree_leaves(result)
        return [_bias(leaf) for leaf in leaves]


def _dual(tensor: Tensor) -> Tensor:
    value = tensor.detach().clone()  # an expanded tensor cannot be made dual
    dual: Tensor = forward_ad.make_dual(value, _finite(value))
    return dual


def _bias(result: Any) -> Tensor:
    if not isinstance(result, Tensor) or not (result.is_floating_point() or result.is_complex()):
        return torch.zeros(())
    value, derivative = forward_ad.unpack_dual(result)
    return _finite(value.clone() if derivative is None else value - derivative)


def _finite(values: Tensor) -> Tensor:
    """Zero for infinity: a masked score of minus infinity adds nothing to what comes behind it."""
    return values if values.is_complex() else values.nan_to_num(torch.nan, 0, 0)


def refusal(what: str) -> UnsupportedModel:
    """Error for a model whose biases would not all be found."""
    return UnsupportedModel(
        f"the model {what}, so that FullGrad would not be complete; "
        "use another gradient method such as ig."
    )
