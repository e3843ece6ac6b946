"""What a network takes and gives, seen in one forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from var_exp.models.declared import Head, built_for, class_names, first_channels, head_of, told_by
from var_exp.models.frozen import frozen, weights_type
from var_exp.models.outputs import logits_of, raw_logits
from var_exp.text import first_line
from var_exp.types import ConfigError, Images, Logits, UnsupportedModel

FORWARD_FAILURES = (
    *(RuntimeError, AssertionError, ValueError, TypeError, IndexError, AttributeError),
    *(KeyError, NotImplementedError),
)
"""What somebody's network may raise on pictures that it cannot take."""


@dataclass(frozen=True)
class Description:
    """What a network takes and gives, seen in a forward pass.

    Attributes:
        channels: Of its pictures.
        height: Of its pictures, in pixels.
        width: Likewise.
        dtype: Type that it computes in: that of its weights.
        output: What it returns, in words: "logits [B, N]", "one logit", or what holds them.
        head: Whether the classes compete in a softmax or each has a sigmoid of its own. One logit
            counts as two classes in a softmax.
        num_classes: N, of the logits that are explained.
        class_names: By number; None when nobody says.
    """

    channels: int
    height: int
    width: int
    dtype: torch.dtype
    output: str
    head: Head
    num_classes: int
    class_names: tuple[str, ...] | None


def describe(model: nn.Module, images: Images) -> tuple[Description, Logits]:
    """Run a network on pictures as they will be given to it, and say what it takes and gives.

    Args:
        model: Not altered.
        images: [B, C, H, W] floating point, normalised.

    Returns:
        The description, and the logits [B, N] of these pictures.

    Raises:
        UnsupportedModel: it cannot take these pictures, and why; or it returns no logits.
        ConfigError: it names more or fewer classes than it has.
    """
    with frozen(model), torch.no_grad(), _returned(model) as returned:
        logits = run_or_refuse(model, images)
        output = returned[0] if returned else logits
    names = class_names(model)
    if names is not None and len(names) != logits.shape[1]:
        raise ConfigError(
            f"the model has {logits.shape[1]} classes and names {len(names)}; give it one name for "
            "each class."
        )
    one_logit = raw_logits(output).shape[1] == 1
    kind = "logits [B, N]" if isinstance(output, Tensor) else type(output).__name__
    return (
        Description(
            channels=images.shape[1],
            height=images.shape[2],
            width=images.shape[3],
            dtype=weights_type(model) or images.dtype,
            output="one logit" if one_logit else kind,
            head="softmax" if one_logit else head_of(model),
            num_classes=logits.shape[1],
            class_names=names,
        ),
        logits,
    )


@contextmanager
def _returned(model: nn.Module) -> Iterator[list[Any]]:
    """What a network itself returns, in a list; inside `frozen`, which takes the logits out."""
    returned: list[Any] = []
    if isinstance(model, torch.jit.ScriptModule):  # takes no hooks
        yield returned
        return
    handle = model.register_forward_hook(
        lambda _model, _inputs, output: returned.append(output), prepend=True
    )
    try:
        yield returned
    finally:
        handle.remove()


def run_or_refuse(model: nn.Module, images: Images) -> Logits:
    """Logits of some pictures; call it inside `frozen`.

    Raises:
        UnsupportedModel: the network cannot take these pictures, in one sentence with the cause.
    """
    try:
        return logits_of(model(images))
    except FORWARD_FAILURES as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UnsupportedModel(_cause(model, images, error)) from error


def _cause(model: nn.Module, images: Tensor, error: BaseException) -> str:
    """Why a network cannot take some pictures, in one sentence with the fix."""
    channels, (given, height, width) = first_channels(model), images.shape[1:]
    name = type(model).__name__
    if channels not in (None, given):
        return (
            f"{name} takes pictures of {channels} channels, got {given}; use data of {channels} "
            f"channels, or build the model for {given} (in timm: in_chans={given})."
        )
    expected = built_for(model) or tuple(told_by(model).get("input_size", ())[-2:])
    reason = first_line(error).rstrip(" .")[:200]
    if isinstance(error, TypeError) and "argument" in reason:
        return (
            f"{name} does not run on pictures alone ({reason}); wrap it in a module whose forward "
            "takes pictures and gives the rest."
        )
    own = ""
    if expected and expected != (height, width):
        own = f"it says it takes {expected[0]} x {expected[1]}; "
    return (
        f"{name} cannot take pictures of {height} x {width} px ({own}{reason}); use "
        "layout.cell=rescaled, layout=single, or another model."
    )
