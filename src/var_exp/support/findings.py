"""What was found of one method on one network: run, its passes counted, its maps verified."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import nan
from typing import Any, Literal

import torch
from torch import Tensor, nn

from var_exp.conf_files import did_you_mean
from var_exp.engine.activations import guided_calls
from var_exp.methods import Method, get_method, list_methods
from var_exp.models.locality import locality
from var_exp.models.targets import find_target
from var_exp.support.checks import CHECKS, Check
from var_exp.support.checks.case import Case, Unchecked
from var_exp.support.networks import Subject, subject
from var_exp.types import ConfigError, UnsupportedModel

_IDS = ("first", "second")
_SAME = 1e-5  # share by which maps of the same image and class may differ between calls


@dataclass(frozen=True)
class Finding:
    """What was found of one method on one network.

    Attributes:
        method: Alias of the method.
        network: Name of the network.
        status: "acts" when it ran and was verified; "refused" when it said that it does not act on
            this network; "unchecked" when it says that it acts, and was not run, or its check does
            not know what this network calls; "failed" otherwise.
        reason: Why not "acts", in a sentence; the network's class is called "the model".
        guided: Activation calls that got another backward rule, by name.
        forward: Images that went through the model for one explained image and its K classes.
        backward: Images whose gradient came back through the logits, likewise.
        error: What the method's check found, relative.
        layer: Where a class activation map is read: name of the layer, and its grid as "7 x 7".
        locality: How many cells from a changed patch that layer answers; see `models.locality`.
    """

    method: str
    network: str
    status: Literal["acts", "refused", "unchecked", "failed"]
    reason: str = ""
    guided: str = ""
    forward: int = 0
    backward: int = 0
    error: float = nan
    layer: str = ""
    locality: int | None = None

    @property
    def checked_by(self) -> str:
        """How the maps were made again, in a phrase."""
        return CHECKS[self.method].phrase


def support(
    model: nn.Module,
    image: Tensor | None = None,
    methods: Sequence[str] | None = None,
    *,
    thorough: bool = False,
    progress: Callable[[str], None] = lambda method: None,
) -> list[Finding]:
    """Which methods act on a network, and what checked them.

    Each method runs in float64 on a copy of the network, and its maps are made again in another
    way, see `var_exp.support.checks`.

    Args:
        model: Any module from images [B, C, H, W] to logits [B, N].
        image: [C, H, W] or [1, C, H, W], normalised as the model expects; None draws noise.
        methods: Aliases; None takes all.
        thorough: Run also the methods that make a pass for every channel of a layer, which takes
            minutes on a large network; else they are only asked whether they act.
        progress: Told the alias of each method before its turn.

    Raises:
        ConfigError: there is no such method, or the image has another shape.
        UnsupportedModel: the network does not run on the image in float64.
    """
    chosen = list_methods() if methods is None else list(methods)
    for alias in chosen:
        if alias not in CHECKS:
            raise ConfigError(
                f"there is no method '{alias}'{did_you_mean(alias, list(CHECKS))}; "
                f"known: {', '.join(CHECKS)}."
            )
    on = subject(model, image)
    findings = []
    for alias in chosen:
        progress(alias)
        findings.append(examine(alias, on, thorough=thorough))
    return findings


def examine(alias: str, on: Subject, *, thorough: bool = True) -> Finding:
    """Run a method on a network and verify what it returns."""
    check = CHECKS[alias]
    method = get_method(alias, **check.options)
    try:
        method.check(on.model, on.images[:1])
    except UnsupportedModel as refusal:
        return _refused(alias, method, on, refusal)
    except Exception as error:  # whatever it is, the table shows it
        return Finding(alias, on.name, "failed", _named(error, on))
    if check.costly and not thorough:
        return Finding(
            alias, on.name, "unchecked", "it makes a pass for every channel; only thorough runs it"
        )
    try:
        return _verified(alias, method, check, on)
    except Exception as error:
        return Finding(alias, on.name, "failed", _named(error, on))


def _refused(alias: str, method: Method, on: Subject, refusal: UnsupportedModel) -> Finding:
    """A refusal, if the method does not compute something all the same."""
    try:
        method.attribute(on.model, on.images[:1], on.classes[:1])
    except UnsupportedModel:
        return Finding(alias, on.name, "refused", _named(refusal, on))
    return Finding(alias, on.name, "failed", "check refuses the model, attribute does not")


def _verified(alias: str, method: Method, check: Check, on: Subject) -> Finding:
    """A method whose maps were made and compared; failed when something does not hold."""
    with _passes(on.model) as passes, guided_calls() as guided:
        maps = method.attribute(on.model, on.images[:1], on.classes[:1], ids=_IDS[:1])
    one = method.attribute(on.model, on.images, on.classes[:, -1:], ids=_IDS)
    case = Case(method, on.model, on.images[:1], on.classes[:1], _IDS[0], maps[0].double())
    unknown, error = "", nan
    try:
        error = check.error(case)
    except Unchecked as lack:
        unknown = str(lack)
    wrong = [
        sentence
        for sentence, holds in {
            "the maps are not finite": bool(maps.isfinite().all()),
            "all maps are zero": bool(maps.any()),
            "a map depends on the other images or classes of the call": bool(
                (one[0, 0] - maps[0, -1]).abs().max() <= _SAME * maps.abs().max()
            ),
            "the model was altered": on.untouched(),
            f"the error of the check is {error:.1e}": bool(unknown) or error <= check.limit,
        }.items()
        if not holds
    ]
    return Finding(
        method=alias,
        network=on.name,
        status="failed" if wrong else "unchecked" if unknown else "acts",
        reason=", ".join(wrong) or unknown,
        guided=", ".join(f"{name} {count}" for name, count in sorted(guided.items())),
        forward=passes["forward"],
        backward=passes["backward"],
        error=error,
        **_layer(method, on),
    )


def _layer(method: Method, on: Subject) -> dict[str, Any]:
    """Where a method that reads a layer finds it, and how local that is; {} for the others."""
    if not hasattr(method, "layer"):
        return {}
    target = find_target(on.model, on.images[:1], method.layer)
    return {
        "layer": f"{target.name} {target.grid[0]} x {target.grid[1]}",
        "locality": locality(on.model, on.images[:1], target),
    }


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


def _named(error: Exception, on: Subject) -> str:
    """First sentence of an error, without what differs between networks: their class, shapes."""
    text = str(error) or type(error).__name__
    sentence = text.splitlines()[0].split(". ")[0].removesuffix(".")
    sentence = sentence.replace(type(on.model).__name__, "the model")
    sentence = re.sub(r"\[\d+(, \d+)*\]", "[…]", sentence)
    return (
        sentence if isinstance(error, UnsupportedModel) else f"{type(error).__name__}: {sentence}"
    )
