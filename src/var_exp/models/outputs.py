"""From what a network returns to its logits [B, N], whatever it wraps them in.

tensor [B, N]                          itself
tensor [B, 1]                          two classes, (-z / 2, z / 2): their softmax is sigmoid(z)
object or dictionary with `logits`     that, as Hugging Face's classifiers return it
tuple or list                          its only floating-point matrix
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from var_exp.types import Logits, UnsupportedModel


def logits_of(output: Any) -> Logits:
    """Take the logits out of what a network returned.

    Raises:
        UnsupportedModel: there are none, or it cannot be told which.
    """
    found = raw_logits(output)
    return torch.cat([-found / 2, found / 2], 1) if found.shape[1] == 1 else found


def raw_logits(output: Any) -> Tensor:
    """The logits as the network returned them, [B, N]; one logit stays one.

    Raises:
        UnsupportedModel: there are none, or it cannot be told which.
    """
    found = _unwrapped(output)
    if not isinstance(found, Tensor) or found.ndim != 2 or not found.is_floating_point():
        raise UnsupportedModel(
            f"the model must return logits [B, N], got {_seen(found)}; "
            "wrap it so that it returns only those."
        )
    return found


def _unwrapped(output: Any) -> Any:
    """What may be the logits."""
    if isinstance(output, Mapping):
        return output.get("logits", output)
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, tuple | list):
        matrices = [
            each
            for each in output
            if isinstance(each, Tensor) and each.ndim == 2 and each.is_floating_point()
        ]
        return matrices[0] if len(matrices) == 1 else output
    return output


def _seen(output: Any) -> str:
    """What was returned, in short."""
    if isinstance(output, Tensor):
        kind = "" if output.is_floating_point() else f" of {output.dtype}"
        return f"{list(output.shape)}{kind}"
    if isinstance(output, Mapping):
        return f"a dictionary of {', '.join(map(str, output)) or 'nothing'}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of ({', '.join(_seen(each) for each in output)})"
    return type(output).__name__
