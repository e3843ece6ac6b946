"""A forward pass in which stand-ins answer for some of torch's functions.

How the functions are met is shared with the methods (`engine.calls`); what answers for them is not.
A network can call what a check knows no stand-in for: then the check says so instead of comparing
with a wrong value.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from var_exp.engine.calls import LINEAR_CALLS, QUERY_CALLS, STRUCTURAL_CALLS, Call, Calls
from var_exp.support.checks.case import Case, Unchecked, relative_error

_SAME = 1e-6  # share by which logits may differ: stand-ins add and subtract what carries gradients
_CARRIED = QUERY_CALLS | STRUCTURAL_CALLS | LINEAR_CALLS


class StandIns(Calls):
    """Mode in which stand-ins answer for functions of torch.

    Args:
        stand_ins: Name of a call, see `Call.name`, to what is called in its place.
        plain: Names of further calls that keep their own gradient; None lets every call do so.
        elementwise: From a function of one tensor and that tensor to its result, for the calls
            named in `functions`.
        functions: Names of the calls that `elementwise` answers for.
    """

    def __init__(
        self,
        stand_ins: Mapping[str, Callable[..., Any]],
        plain: Collection[str] | None = None,
        elementwise: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor] | None = None,
        functions: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._stand_ins = {"multi_head_attention_forward": self._attention_layer, **stand_ins}
        self._plain = plain
        self._elementwise = elementwise
        self._functions = functions

    def answer(self, call: Call) -> Any:
        """Result of a call.

        Raises:
            Unchecked: the call has no stand-in, and none of the names that keep their gradient.
        """
        if not any(tensor.requires_grad for tensor in call.tensors):
            return call.run()  # of constants, such as standardised weights
        if self._elementwise and call.name in self._functions and isinstance(call.input, Tensor):
            return self._elementwise(lambda x: torch.as_tensor(call.on(x.clone())), call.input)
        if call.name in self._stand_ins:
            return self._stand_ins[call.name](*call.args, **call.kwargs)
        if self._plain is not None and call.name not in {*_CARRIED, *self._plain}:
            raise Unchecked(f"the check has no stand-in for {call.name}")
        return call.run()

    def _attention_layer(self, *args: Any, **named: Any) -> tuple[Tensor, None]:
        """`multi_head_attention_forward` of one sequence [L, B, D], written out."""
        query, _, _, _, heads, weight, bias = args[:7]
        out_weight, out_bias = args[11:13]
        with self:  # its parts are answered, too
            projected = functional.linear(query, weight, bias).chunk(3, -1)
            parts = [
                part.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for part in projected
            ]  # [B, heads, L, D / heads]
            mixed = functional.scaled_dot_product_attention(*parts)
            return functional.linear(
                mixed.permute(2, 0, 1, 3).flatten(2), out_weight, out_bias
            ), None


def logits_through(stand_ins: StandIns, case: Case, images: Tensor) -> Tensor:
    """Logits [n, N] of images [n, C, H, W], from a forward pass with the stand-ins.

    Raises:
        Unchecked: they are not the network's own.
    """
    with torch.no_grad():
        own = case.model(images.detach().clone())
    with stand_ins:
        logits: Tensor = case.model(images)
    if not relative_error(logits.detach(), own) < _SAME:
        raise Unchecked("the stand-ins of the check do not give the network's own logits")
    return logits


def valued(value: Tensor, gradient: Tensor) -> Tensor:
    """A tensor with the value of one and the gradient of another."""
    return value.detach() + (gradient - gradient.detach())  # adds an exact zero
