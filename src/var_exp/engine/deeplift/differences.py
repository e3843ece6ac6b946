"""DeepLIFT's engine: run images beside baselines, and attribute the change of the logits.

Every call of one forward pass is made twice, of the image's tensors and of the baseline's, so both
are at hand where a call is not affine and needs a multiplier (`engine.deeplift.multipliers`).
In-place, reused and functional activations are met in one way, the batch may have any place in a
shape, and what has no rule is refused.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from var_exp.engine.calls import (
    DIVISION_CALLS,
    LINEAR_CALLS,
    PRODUCT_CALLS,
    STRUCTURAL_CALLS,
    WEIGHTED_CALLS,
    Call,
)
from var_exp.engine.chunks import is_out_of_memory
from var_exp.engine.deeplift.multipliers import find_rule
from var_exp.engine.deeplift.surrogates import overwritten
from var_exp.engine.equal_rows import are_equal_rows, of_one_row, run_once
from var_exp.engine.gradients import Score, reduced_gradients
from var_exp.engine.norms import written_out
from var_exp.engine.scores import class_scores
from var_exp.engine.signals import Signals
from var_exp.types import Classes, Images, Logits, UnsupportedModel


def contributions(
    model: nn.Module,
    images: Images,
    baselines: Images,
    classes: Classes,
    *,
    score: Score = class_scores,
) -> Float[Tensor, "B K C H W"]:
    """Contribution of every pixel to the logits' change from the baseline, for K classes per image.

    One forward pass of the images beside their baselines, and K backward passes of the images. One
    baseline that is expanded to all images runs once, as far as the model treats images apart.

    Args:
        model: Any module from images to logits; it runs in eval mode.
        images: [B, C, H, W], not altered.
        baselines: [B, C, H, W], likewise.
        classes: [B, K] int64.
        score: What is attributed, affine in the logits; the logits of the classes by default.

    Returns:
        [B, K, C, H, W] that sum to y_c(image) - y_c(baseline), up to rounding.

    Raises:
        ValueError: a class that the model does not have.
        UnsupportedModel: a call without a rule; or the model returns no logits.
    """
    try:
        return _contributions(model, images, baselines, classes, score)
    except _RowsDiffer:
        return _contributions(model, images, baselines.contiguous(), classes, score)


def _contributions(
    model: nn.Module, images: Images, baselines: Images, classes: Classes, score: Score
) -> Tensor:
    differences = _Differences(are_equal_rows(baselines))

    @contextmanager
    def collect(leaf: Tensor) -> Iterator[list[Tensor]]:
        differences.pair(leaf, baselines.to(leaf))
        with differences:
            yield [leaf]

    def multiply(points: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
        return (points[0] - baselines.to(points[0])) * gradients[0]

    def seen(logits: Logits, classes: Classes) -> Tensor:
        differences.is_signal(logits)  # raises when what made them was not seen
        return score(logits, classes)

    return reduced_gradients(model, images, classes, collect, multiply, score=seen)


def _over_root_mean_square(
    input: Tensor, dims: tuple[int, ...], eps: float, centred: bool
) -> Tensor:
    """The division as a quotient, for the reason that `engine.deeplift.multipliers` gives."""
    input = input - input.mean(dims, keepdim=True) if centred else input
    return input / (input.square().mean(dims, keepdim=True) + eps).sqrt()


_WRITTEN_OUT = written_out(_over_root_mean_square)


class _RowsDiffer(Exception):  # noqa: N818  # no error, the work goes on
    """The model tells apart rows of the baseline that are equal, or may do so later."""


class _Differences(Signals):
    """Makes every call of signals also of their baselines; multipliers replace derivatives.

    Args:
        equal_rows: Whether the baselines are one that was expanded.
    """

    def __init__(self, equal_rows: bool) -> None:
        super().__init__()
        self._equal_rows = equal_rows

    def pair(self, signals: Any, baselines: Any) -> Any:
        """Note the baselines of the results of a call, and return the results."""
        for signal, baseline in zip(tree_leaves(signals), tree_leaves(baselines), strict=True):
            if isinstance(signal, Tensor):  # `__setitem__` returns nothing
                if not signal.requires_grad:
                    raise _refusal(_NO_GRADIENT)
                self._known[signal] = baseline
        return signals

    def unseen(self) -> UnsupportedModel:
        return _refusal("computes outside of torch's functions, as in TorchScript")

    def follow(self, call: Call, signals: list[Tensor]) -> Any:
        tensors = call.tensors
        if not torch.is_grad_enabled():
            raise _refusal(_NO_GRADIENT)
        if call.name in _WRITTEN_OUT:
            with self:  # so that its parts are seen
                result = _WRITTEN_OUT[call.name](*call.args, **call.kwargs)
        elif _is_affine(call, signals):
            return self._in_step(call, tensors)
        elif rule := find_rule(call, signals):
            result = self.pair(*rule(call, tensors, self._at_baseline(tensors)))
        else:
            raise _refusal(f"calls '{call.name}' on what depends on the image")
        if call.in_place:
            with self:  # so that the baseline is overwritten as well
                result = tensors[0].copy_(result)
        return result

    def _in_step(self, call: Call, tensors: list[Tensor]) -> Any:
        """Make an affine call of the tensors and of their baselines."""
        if call.overwrites and not self.is_signal(tensors[0]):
            self._known[tensors[0]] = tensors[0].clone()  # a constant becomes a signal
        baselines = self._at_baseline(tensors)
        at_baseline = call.with_tensors(baselines)
        if self._equal_rows and call.overwrites and _tells_apart(at_baseline, tensors[0]):
            raise _RowsDiffer
        result = overwritten(*tensors) if _is_whole_copy(call) else call.run()
        with torch.no_grad():
            try:
                return self.pair(result, run_once(at_baseline))
            except RuntimeError as error:
                if is_out_of_memory(error) or not self._equal_rows:
                    raise
                raise _RowsDiffer from error  # such as a view that a single row does not have

    def _at_baseline(self, tensors: list[Tensor]) -> list[Tensor]:
        return [self._known.get(tensor, tensor) for tensor in tensors]


def _tells_apart(at_baseline: Call, signal: Tensor) -> bool:
    """Whether a call in place at the baseline would not alter all that it does at the image."""
    x0 = at_baseline.tensors[0]
    if are_equal_rows(x0):
        return of_one_row(at_baseline) is None
    # what a view of one row alters, it alters for all images
    base, base0 = signal._base, x0._base
    return base is not None and (base0 is None or base0.numel() != base.numel())


def _is_whole_copy(call: Call) -> bool:
    """Whether a call puts a signal in the place of one that has the same shape and is no view."""
    if call.name != "copy" or not call.in_place or len(call.tensors) != 2:
        return False
    x, other = call.tensors
    alike = x.shape == other.shape and x.dtype == other.dtype
    return other.requires_grad and alike and not x._is_view()


def _is_affine(call: Call, signals: list[Tensor]) -> bool:
    """Whether a call is affine in its signals, so that its own backward pass is exact."""
    only_input = len(signals) == 1 and signals[0] is call.input
    if call.name in WEIGHTED_CALLS:
        return only_input
    if call.name in PRODUCT_CALLS:
        return len(signals) == 1
    if call.name in DIVISION_CALLS:
        return only_input and call.kwargs.get("rounding_mode") is None
    return call.name in STRUCTURAL_CALLS or call.name in LINEAR_CALLS


_NO_GRADIENT = "computes without a gradient, or in an autograd function"


def _refusal(what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"the model {what}, for which DeepLIFT has no rule; use a gradient method such as ig."
    )
