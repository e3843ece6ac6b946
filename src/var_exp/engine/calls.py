"""See every torch call of a forward pass, and answer some of them differently.

Backward rules, relevance propagation and attention maps all need to get between a network's calls.
Hooks on modules miss what is called as a function, in place, fused or twice; a `TorchFunctionMode`
sees each call alike and leaves the model untouched.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from var_exp.types import UnsupportedModel

QUERY_CALLS = frozenset(
    {
        *("dim", "ndim", "ndimension", "size", "shape", "numel", "nelement", "stride", "__len__"),
        *("storage_offset", "element_size", "itemsize", "dtype", "device", "get_device", "layout"),
        *("is_contiguous", "is_floating_point", "is_complex", "is_leaf", "is_cuda", "is_cpu"),
        *("is_mps", "is_meta", "is_nested", "is_sparse", "is_quantized", "is_mkldnn"),
        *("is_inference", "grad_fn", "names", "__hash__"),
        *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
        *("zeros_like", "ones_like", "full_like", "empty_like"),
    }
)
"""Calls whose result does not depend on a tensor's values: its shape and type, a new constant."""

STRUCTURAL_CALLS = frozenset(
    {
        *("view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "squeeze"),
        *("unsqueeze", "permute", "transpose", "t", "T", "mT", "swapaxes", "swapdims", "movedim"),
        *("moveaxis", "roll", "flip", "expand", "expand_as", "broadcast_to", "repeat", "tile"),
        *("repeat_interleave", "clone", "contiguous", "copy", "to", "type", "type_as", "float"),
        *("double", "half", "bfloat16", "cpu", "cuda", "requires_grad"),
        *("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "select", "narrow"),
        *("__getitem__", "__setitem__", "index_select", "gather", "take_along_dim", "diagonal"),
        *("cat", "concat", "concatenate", "stack", "hstack", "vstack", "where", "masked_fill"),
        *("tril", "triu", "pad", "unfold", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"),
        "feature_alpha_dropout",
    }
)
"""Calls that, in eval mode, only move, copy, repeat, retype or drop values."""

LINEAR_CALLS = frozenset(
    {
        *("add", "sub", "subtract", "__rsub__", "neg", "negative", "positive"),
        *("mean", "sum", "cumsum", "fold", "interpolate", "upsample"),
        *("avg_pool1d", "avg_pool2d", "avg_pool3d"),
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    }
)
"""Calls that are affine in all their tensors together: sums, means, resizing."""

WEIGHTED_CALLS = frozenset(
    {
        *("linear", "conv1d", "conv2d", "conv3d", "batch_norm"),
        *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    }
)
"""Calls that, in eval mode and with constant weights, are affine in their input."""

PRODUCT_CALLS = frozenset(
    {
        *("mul", "multiply", "matmul", "mm", "bmm", "mv"),
        *("dot", "inner", "outer", "einsum", "tensordot"),
    }
)
"""Calls that are linear in each of two factors."""

DIVISION_CALLS = frozenset({"div", "divide", "true_divide"})
"""Calls that are linear in the first of two factors and divide by the second."""

CONCATENATION_CALLS = frozenset({"cat", "concat", "concatenate"})
"""Calls that put tensors one behind another along an axis."""

ELEMENTWISE_CALLS = frozenset(
    {
        *("relu", "relu6", "hardtanh", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu"),
        *("gelu", "silu", "mish", "hardswish", "softplus", "softsign", "threshold", "_threshold"),
        *("sigmoid", "hardsigmoid", "logsigmoid", "tanh", "tanhshrink", "softshrink", "hardshrink"),
        *("abs", "clamp", "clamp_min", "clamp_max", "sin", "cos", "erf", "exp", "expm1"),
        *("log", "log1p", "log2", "pow", "__rpow__", "rsqrt", "reciprocal"),
        *("special_erf", "special_expit"),
    }
)
"""Calls that are a function of one number, element by element."""


@dataclass(frozen=True)
class Call:
    """One call of a torch function.

    Attributes:
        name: Without the trailing underscore of in-place forms: `F.relu`, `torch.relu_` and
            `Tensor.relu` are all "relu"; `a + b` is "add", `a @ b` is "matmul", `1 - a` is
            "__rsub__"; reading an attribute such as `a.shape` is "shape".
        function: What was called.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def input(self) -> Any:
        """First argument, by place or by the name `input`."""
        return self.args[0] if self.args else self.kwargs.get("input")

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Argument by place, or else by name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    @property
    def in_place(self) -> bool:
        """Whether the call overwrites its input: relu_, or relu(..., inplace=True)."""
        if _overwrites(self.function.__name__):
            return True
        if not isinstance(self.function, FunctionType):  # builtins have no `inplace` argument
            return False
        place = _place_of_inplace(self.function)
        return place is not None and bool(self.argument(place, "inplace", False))

    @property
    def overwrites(self) -> bool:
        """Whether the call alters its first tensor: in place, or by setting items."""
        return self.in_place or self.name == "__setitem__"

    @property
    def tensors(self) -> list[Tensor]:
        """Tensors among the arguments, in order, also those in lists."""
        return [*_tensors_in(self.args), *_tensors_in(self.kwargs)]

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Call":
        """The same call of other tensors, as many as there are."""
        others = iter(tensors)
        args, kwargs = _exchanged(self.args, others), _exchanged(self.kwargs, others)
        return Call(self.name, self.function, args, kwargs)

    def run(self) -> Any:
        """Do what was called."""
        return self.function(*self.args, **self.kwargs)

    def on(self, input: Tensor) -> Any:
        """Do what was called, with another first argument."""
        if self.args:
            return self.function(input, *self.args[1:], **self.kwargs)
        return self.function(**{**self.kwargs, "input": input})


class Calls(TorchFunctionMode):
    """Mode in which `answer` is asked for the result of every torch call.

    A class that sets `opens_attention` sees fused attention written out as its matrix products and
    softmax (`scaled_dot_product_attention`, `multi_head_attention_forward`).
    """

    opens_attention: ClassVar[bool] = False

    def answer(self, call: Call) -> Any:
        """Result of a call; the torch calls made in here are not seen again."""
        return call.run()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        call = Call(_name(func), func, args, dict(kwargs or {}))
        if self.opens_attention and call.name in _WRITTEN_OUT:
            with self:  # so that its parts are seen
                return _WRITTEN_OUT[call.name](*call.args, **call.kwargs)
        return self.answer(call)


def _name(function: Callable[..., Any]) -> str:
    """Name of what is called, alike for all forms of it."""
    name: str = getattr(function, "__name__", "")
    if name == "__get__":  # of an attribute
        return str(getattr(getattr(function, "__self__", None), "__name__", name))
    return name.removesuffix("_") if _overwrites(name) else name


@lru_cache(maxsize=1024)
def _place_of_inplace(function: FunctionType) -> int | None:
    """Place of the argument `inplace` of a function that has one."""
    # not into what a function wraps: `Tensor.__pow__` wraps a builtin, which has no signature
    names = list(inspect.signature(function, follow_wrapped=False).parameters)
    return names.index("inplace") if "inplace" in names else None


def _tensors_in(value: Any) -> list[Tensor]:
    """Tensors in nested tuples, lists and dictionaries; torch's own walk takes 10 times as long."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif type(value) not in (tuple, list):
        return []
    return [tensor for each in value for tensor in _tensors_in(each)]


def _exchanged(value: Any, others: Iterator[Tensor]) -> Any:
    """The same with the tensors exchanged for others, in order."""
    if isinstance(value, Tensor):
        return next(others)
    if isinstance(value, dict):
        return {name: _exchanged(each, others) for name, each in value.items()}
    if type(value) in (tuple, list):  # torch.Size, a slice and the like hold no tensors
        return type(value)(_exchanged(each, others) for each in value)
    return value


def _overwrites(name: str) -> bool:
    """Whether a torch function of this name overwrites its input."""
    return name.endswith("_") and not name.endswith("__")


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`scaled_dot_product_attention` in parts, for a model in eval mode."""
    if is_causal or enable_gqa:
        raise UnsupportedModel(
            "causal and grouped attention have no rule here; use a gradient method such as gbp."
        )
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1) @ value


def _multi_head_attention(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    """`multi_head_attention_forward` in parts, for plain self-attention on [L, B, D]."""
    given = inspect.signature(torch.nn.functional.multi_head_attention_forward).bind(
        *args, **kwargs
    )
    given.apply_defaults()
    a = given.arguments
    plain = a["query"] is a["key"] and a["key"] is a["value"] and a["query"].ndim == 3
    unusual = ("bias_k", "bias_v", "key_padding_mask", "attn_mask", "static_k", "static_v")
    if (
        not plain
        or a["add_zero_attn"]
        or a["use_separate_proj_weight"]
        or any(a[name] is not None for name in unusual)
    ):
        raise UnsupportedModel(
            "nn.MultiheadAttention is supported for plain self-attention without masks; "
            "use a gradient method such as gbp."
        )
    length, batch, width = a["query"].shape
    projected = torch.nn.functional.linear(a["query"], a["in_proj_weight"], a["in_proj_bias"])
    query, key, value = (
        part.reshape(length, batch, a["num_heads"], -1).permute(1, 2, 0, 3)
        for part in projected.chunk(3, dim=-1)
    )
    weights = ((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)).softmax(-1)
    mixed = (weights @ value).permute(2, 0, 1, 3).reshape(length, batch, width)
    output = torch.nn.functional.linear(mixed, a["out_proj_weight"], a["out_proj_bias"])
    if not a["need_weights"]:
        return output, None
    return output, weights.mean(1) if a["average_attn_weights"] else weights


_WRITTEN_OUT: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head_attention,
}
