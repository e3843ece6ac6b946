"""From what a network returns to its logits [B, N], whatever it wraps them in.

tensor [B, N]                          itself
tensor [B, 1]                          two classes, (-z / 2, z / 2): their softmax is sigmoid(z)
object or dictionary with `logits`     that, as Hugging Face's classifiers return it
tuple or list                          its only floating-point matrix

Likewise the logits [B, N, h, w] of a network that classifies pixels, from a dictionary also as
`out`, as torchvision's return them.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor

from var_exp.types import Logits, UnsupportedModel


def logits_of(output: Any) -> Logits:
    """Take the logits out of what a network returned.

    Raises:
        UnsupportedModel: there are none, or it cannot be told which.
    """
    return at_least_two(raw_logits(output))


def at_least_two(logits: Tensor) -> Tensor:
    """Logits [B, N, …] of two classes at least: one logit z makes (-z / 2, z / 2)."""
    return torch.cat([-logits / 2, logits / 2], 1) if logits.shape[1] == 1 else logits


def raw_logits(output: Any) -> Tensor:
    """The logits as the network returned them, [B, N]; one logit stays one.

    Raises:
        UnsupportedModel: there are none, or it cannot be told which.
    """
    found = _unwrapped(output, 2)
    if _is_logits(found, 2):
        return found
    pixels = _is_logits(_unwrapped(output, 4), 4)
    fix = (
        "of a model that classifies pixels ask for a region: var_exp.explain(…, region=…), or "
        "var_exp.models.RegionScores"
        if pixels
        else "wrap it so that it returns only those"
    )
    raise UnsupportedModel(f"the model must return logits [B, N], got {_seen(found)}; {fix}.")


def logits_of_pixels(output: Any) -> Float[Tensor, "B N h w"]:
    """Take the logits of every pixel out of what a segmentation network returned.

    Raises:
        UnsupportedModel: there are none, or it cannot be told which.
    """
    found = _unwrapped(output, 4)
    if _is_logits(found, 4):
        return found
    raise UnsupportedModel(
        f"a model that is asked about a region must return logits [B, N, h, w], got "
        f"{_seen(found)}; leave region out for a classifier of whole pictures."
    )


def _is_logits(found: Any, dimensions: int) -> TypeGuard[Tensor]:
    return isinstance(found, Tensor) and found.ndim == dimensions and found.is_floating_point()


def _unwrapped(output: Any, dimensions: int) -> Any:
    """What may be the logits, of so many dimensions."""
    if isinstance(output, Mapping):
        return output.get("logits", output.get("out", output) if dimensions == 4 else output)
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, tuple | list):
        fitting = [each for each in output if _is_logits(each, dimensions)]
        return fitting[0] if len(fitting) == 1 else output
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
