"""Calls of tensors whose rows are all equal, as of one baseline for many images, made once.

Rows are known to be equal where a tensor is one row expanded along its first axis. So is the result
of a call that treats rows apart, if it is made of that row and expanded again. A call in place then
alters the one row, and with it every view of it, as it should.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from var_exp.engine.calls import (
    CONCATENATION_CALLS,
    DIVISION_CALLS,
    ELEMENTWISE_CALLS,
    WEIGHTED_CALLS,
    Call,
    Calls,
)
from var_exp.engine.chunks import is_out_of_memory
from var_exp.types import Images, Logits

_BY_ROW = (
    WEIGHTED_CALLS
    | ELEMENTWISE_CALLS
    | DIVISION_CALLS
    | {
        *("clone", "copy", "to", "float", "double", "dropout", "sqrt", "square"),
        *("add", "sub", "subtract", "mul", "multiply"),
        *("max_pool2d", "avg_pool2d", "adaptive_max_pool2d", "adaptive_avg_pool2d"),
        *("layer_norm", "rms_norm", "group_norm", "scaled_dot_product_attention"),
    }
)
"""Calls that make a row of their result of the same row of their input. Not `contiguous`: what asks
for rows of their own may lay windows into the batch next, which equal rows do not allow."""

_RESHAPES = {"reshape", "flatten", "unflatten"}
"""Calls that keep rows apart if they keep their number."""

_ALONG_AN_AXIS = CONCATENATION_CALLS | {"mean", "sum", "softmax"}
"""Calls of which the same holds unless they are along the first axis."""


def of_copies(
    model: Callable[[Images], Logits], image: Float[Tensor, "1 C H W"], count: int
) -> Float[Tensor, "n N"]:
    """Logits of n copies of one image that a hook tells apart on the way.

    What is the same for all of them, as before the layer that is changed, is computed once.
    """
    try:
        with _OnceForAll():
            return model(image.clone().expand(count, -1, -1, -1))  # what is in place alters this
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return model(image.repeat(count, 1, 1, 1))  # such as a view that equal rows do not have


class _OnceForAll(Calls):
    def answer(self, call: Call) -> Any:
        return run_once(call) if call.tensors else call.run()


def are_equal_rows(x: Tensor) -> bool:
    """Whether a tensor is one row that was expanded along the first axis."""
    return x.ndim > 0 and len(x) > 1 and x.stride(0) == 0


def one_row(x: Tensor) -> Tensor:
    """The one row where they are equal, else the tensor itself."""
    return x[:1] if are_equal_rows(x) else x


def copied(x: Tensor) -> Tensor:
    """A copy of a tensor, of one row where they are equal."""
    return one_row(x).clone().expand_as(x)


def run_once(call: Call) -> Any:
    """Result of a call, made of one row where its rows are known to be equal."""
    x, row = call.tensors[0], of_one_row(call)
    if row is not None:
        result: Tensor = row.run()
        return result.expand(len(x), *result.shape[1:])
    result = call.run()
    if (
        call.name in _RESHAPES and are_equal_rows(x) and len(result) == len(x)
    ):  # it may have been copied
        return result[:1].expand_as(result)
    return result


def of_one_row(call: Call) -> Call | None:
    """The same call of one row; None where the rows of its result are not known to be equal."""
    x, *others = call.tensors
    if x.ndim < 2 or not are_equal_rows(x) or not _by_row(call, x):
        return None
    if call.name not in WEIGHTED_CALLS:
        if not all(o.ndim < x.ndim or (o.ndim == x.ndim and len(one_row(o)) == 1) for o in others):
            return None
        others = [o if o.ndim < x.ndim else one_row(o) for o in others]
    elif call.name.startswith("conv") and x.ndim != others[0].ndim:  # rows are channels
        return None
    return call.with_tensors([one_row(x), *others])


def _by_row(call: Call, x: Tensor) -> bool:
    if call.name == "matmul":
        return x.ndim > 2  # else its rows meet the other's columns
    if call.name == "pad":
        return len(call.argument(1, "pad")) < 2 * x.ndim
    if call.name in ("layer_norm", "rms_norm"):
        return len(call.argument(1, "normalized_shape")) < x.ndim
    if call.name in _ALONG_AN_AXIS:
        dims = call.argument(1, "dim")
        dims = [dims] if isinstance(dims, int) else dims
        return bool(dims) and all(dim % x.ndim for dim in dims)
    return call.name in _BY_ROW
