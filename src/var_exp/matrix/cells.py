"""One cell of the matrix: run a method on an architecture, count its passes, verify its maps."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from var_exp.engine.activations import guided_calls
from var_exp.matrix.architectures import Architecture, build
from var_exp.matrix.checks import CHECKS, Check
from var_exp.matrix.checks.case import Case
from var_exp.methods import Method, get_method
from var_exp.types import UnsupportedModel

_IDS = ("first", "second")
_SAME = 1e-5  # share by which maps of the same image and class may differ between calls


@dataclass(frozen=True)
class Cell:
    """What was found of one method on one architecture.

    Attributes:
        method: Alias of the method.
        architecture: Name of the architecture.
        status: "supported" when it ran and was verified, "refused" when it said that it does not
            act on this model, "failed" otherwise.
        reason: Why it was refused or failed; the network's class is called "the model".
        guided: Activation calls that got another backward rule, by name.
        forward: Images that went through the model for one explained image and K = 4 classes.
        backward: Images whose gradient came back through the logits, likewise.
        error: What the method's check found, relative.
        size: Of the network: "published", or "small", a relative with fewer and narrower blocks.
    """

    method: str
    architecture: str
    status: Literal["supported", "refused", "failed"]
    reason: str = ""
    guided: str = ""
    forward: int = 0
    backward: int = 0
    error: float = float("nan")
    size: Literal["published", "small"] = "published"


@dataclass(frozen=True)
class Subject:
    """A built architecture with two images and four classes for each.

    Attributes:
        name: Of the architecture.
        model: float64, in eval mode, frozen.
        images: [2, 3, H, W] float64.
        classes: [2, 4] int64.
        state: Copy of the model's parameters and buffers.
    """

    name: str
    model: nn.Module
    images: Tensor
    classes: Tensor
    state: dict[str, Tensor] = field(repr=False)


def subject(architecture: Architecture, *, small: bool) -> Subject:
    """Build an architecture and draw its images, the same in every run."""
    model, pixels = build(architecture, small=small)
    stream = torch.Generator().manual_seed(2)
    images = torch.randn(2, 3, pixels, pixels, generator=stream, dtype=torch.float64)
    classes = torch.tensor([[3, 0, 7, 5], [1, 8, 2, 3]])
    return Subject(architecture.name, model, images, classes, deepcopy(model.state_dict()))


def run_cell(alias: str, on: Subject) -> Cell:
    """Run a method on an architecture and verify what it returns."""
    check = CHECKS[alias]
    method = get_method(alias, **check.options)
    try:
        method.check(on.model, on.images[:1])
    except UnsupportedModel as refusal:
        return _refused(alias, method, on, refusal)
    except Exception as error:  # whatever it is, the matrix shows it
        return Cell(alias, on.name, "failed", _named(error, on))
    try:
        return _verified(alias, method, check, on)
    except Exception as error:
        return Cell(alias, on.name, "failed", _named(error, on))


def _refused(alias: str, method: Method, on: Subject, refusal: UnsupportedModel) -> Cell:
    """A refused cell, if the method does not compute something all the same."""
    try:
        method.attribute(on.model, on.images[:1], on.classes[:1])
    except UnsupportedModel:
        return Cell(alias, on.name, "refused", _named(refusal, on))
    return Cell(alias, on.name, "failed", "check refuses the model, attribute does not")


def _verified(alias: str, method: Method, check: Check, on: Subject) -> Cell:
    """A cell whose maps were made and compared; failed when something does not hold."""
    with _passes(on.model) as passes, guided_calls() as guided:
        maps = method.attribute(on.model, on.images[:1], on.classes[:1], ids=_IDS[:1])
    one = method.attribute(on.model, on.images, on.classes[:, 2:3], ids=_IDS)
    case = Case(method, on.model, on.images[:1], on.classes[:1], _IDS[0], maps[0].double())
    error = check.error(case)
    wrong = [
        sentence
        for sentence, holds in {
            "the maps are not finite": bool(maps.isfinite().all()),
            "all maps are zero": bool(maps.any()),
            "a map depends on the other images or classes of the call": bool(
                (one[0, 0] - maps[0, 2]).abs().max() <= _SAME * maps.abs().max()
            ),
            "the model was altered": _untouched(on),
            f"the error of the check is {error:.1e}": error <= check.limit,
        }.items()
        if not holds
    ]
    return Cell(
        method=alias,
        architecture=on.name,
        status="failed" if wrong else "supported",
        reason=", ".join(wrong),
        guided=", ".join(f"{name} {count}" for name, count in sorted(guided.items())),
        forward=passes["forward"],
        backward=passes["backward"],
        error=error,
    )


@contextmanager
def _passes(model: nn.Module) -> Iterator[Counter[str]]:
    """Count images at the logits: forward, and backward when their gradient arrives."""
    counts: Counter[str] = Counter()

    def back(gradient: Tensor) -> None:
        counts["backward"] += len(gradient)

    def count(_module: nn.Module, _inputs: object, logits: Tensor) -> None:
        with torch._C.DisableTorchFunction():  # methods that see every call should not see these
            counts["forward"] += len(logits)
            if logits.requires_grad:
                logits.register_hook(back)

    handle = model.register_forward_hook(count)
    try:
        yield counts
    finally:
        handle.remove()


def _untouched(on: Subject) -> bool:
    """Whether values, flags, gradients and hooks of the model are as they were."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return (
        all(torch.equal(value, on.state[name]) for name, value in on.model.state_dict().items())
        and not any(p.requires_grad or p.grad is not None for p in on.model.parameters())
        and not any(module.training for module in on.model.modules())
        and not any(getattr(module, kind) for module in on.model.modules() for kind in hooks)
    )


def _named(error: Exception, on: Subject) -> str:
    """First sentence of an error, without what differs between networks: their class, shapes."""
    text = str(error) or type(error).__name__
    sentence = text.splitlines()[0].split(". ")[0].removesuffix(".")
    sentence = sentence.replace(type(on.model).__name__, "the model")
    sentence = re.sub(r"\[\d+(, \d+)*\]", "[…]", sentence)
    return (
        sentence if isinstance(error, UnsupportedModel) else f"{type(error).__name__}: {sentence}"
    )
