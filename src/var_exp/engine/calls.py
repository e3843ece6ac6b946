"""See every torch call of a forward pass, and answer some of them differently.

Backward rules, relevance propagation and attention maps all need to get between a network's calls.
Hooks on modules miss what is called as a function, in place, fused or twice; a `TorchFunctionMode`
sees each call alike and leaves the model untouched.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from var_exp.types import UnsupportedModel


@dataclass(frozen=True)
class Call:
    """One call of a torch function.

    Attributes:
        name: Without the trailing underscore of in-place forms: `F.relu`, `torch.relu_` and
            `Tensor.relu` are all "relu"; `a + b` is "add", `a @ b` is "matmul".
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

    @property
    def in_place(self) -> bool:
        """Whether the call overwrites its input: relu_, or relu(..., inplace=True)."""
        if self.function.__name__.endswith("_") and not self.function.__name__.endswith("__"):
            return True
        if not isinstance(self.function, FunctionType):  # builtins have no `inplace` argument
            return False
        bound = inspect.signature(self.function).bind(*self.args, **self.kwargs)
        return bool(bound.arguments.get("inplace", False))

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
        name = getattr(func, "__name__", "")
        call = Call(name.removesuffix("_"), func, args, dict(kwargs or {}))
        if self.opens_attention and call.name in _WRITTEN_OUT:
            with self:  # so that its parts are seen
                return _WRITTEN_OUT[call.name](*call.args, **call.kwargs)
        return self.answer(call)


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
