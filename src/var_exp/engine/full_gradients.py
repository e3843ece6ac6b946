"""Split a score exactly into what the image and every bias of the network add to it.

A call with the output f(z) is, near its own input z, the linear map J z + b with the bias

    b = f(z) - J z

which is the bias of a convolution, the effective bias of batch normalisation, the added constant of
a sum, 0 for ReLU and pooling, f(z) - f'(z) z for another activation, and so on. For every network

    y_c = Σ x · d y_c / d x + Σ_calls Σ b · d y_c / d f(z)

holds exactly (Srinivas & Fleuret 2019, arXiv 1905.00780, who also name the implicit biases of what
is not piecewise linear). J z is the derivative of the call along its own input, by forward-mode
differentiation, so that nothing is left out. Where b is known without it, as in layers and calls of
which f(z) = J z, it is not computed.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.graph import get_gradient_edge
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from var_exp.engine.calls import (
    LINEAR_CALLS,
    PRODUCT_CALLS,
    QUERY_CALLS,
    STRUCTURAL_CALLS,
    WEIGHTED_CALLS,
    Call,
    Calls,
)
from var_exp.engine.chunks import is_out_of_memory
from var_exp.engine.gradients import Point, reduced_gradients
from var_exp.engine.positions import Place, Positions, spread
from var_exp.engine.scores import class_scores
from var_exp.models.frozen import frozen
from var_exp.types import Classes, Images, Logits, Maps, UnsupportedModel

_HOMOGENEOUS = (STRUCTURAL_CALLS | LINEAR_CALLS) - {
    *("pad", "masked_fill", "where", "__setitem__"),  # with constants
    *("add", "sub", "subtract", "__rsub__"),
} | {
    *("relu", "leaky_relu", "max_pool1d", "max_pool2d", "max_pool3d"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "amax"),
}


def full_gradients(model: nn.Module, images: Images, classes: Classes) -> Maps:
    """Attribute K logits per image to its pixels, biases included; each map sums to its logit.

    One forward pass, in which calls of unknown bias are made three times, and K backward passes;
    besides, a forward pass of another number of images, which tells where the images' axis is.

    Args:
        model: Any module from images to logits; it runs in eval mode.
        images: [B, C, H, W], not altered.
        classes: [B, K] int64.

    Returns:
        [B, K, 1, H, W] in float32 at least.

    Raises:
        ValueError: a class that the model does not have.
        UnsupportedModel: a part of the model cannot be seen or has no forward-mode derivative, the
            images of a batch meet, or the model returns no logits.
    """
    size = (images.shape[2], images.shape[3])
    biases = _Biases(_shapes_of_another_batch(model, images), len(images), size)

    def reduce(_: Sequence[Point], gradients: Sequence[Tensor | None]) -> Tensor:
        by_grid: dict[torch.Size, Tensor] = {}  # so that each grid is brought to image size once
        for bias, gradient, place in zip(biases.values, gradients, biases.places, strict=True):
            if gradient is not None:  # else the score does not depend on the call
                for sums in place.sums(bias * gradient, len(images)):
                    by_grid[sums.shape] = by_grid.get(sums.shape, 0) + sums
        return torch.stack([spread(sums, size) for sums in by_grid.values()]).sum(0)[:, None]

    def score(logits: Logits, classes: Classes) -> Tensor:
        biases.is_signal(logits)  # raises when what made them was not seen
        return class_scores(logits, classes)

    return reduced_gradients(model, images, classes, biases.collect, reduce, score=score)


def _shapes_of_another_batch(model: nn.Module, images: Images) -> list[list[torch.Size | None]]:
    """Shapes of all results that depend on the image, for one image, or for two instead of one."""
    signals = _Signals()
    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        leaf = images[:1].detach().repeat(_other_number(len(images)), 1, 1, 1).requires_grad_()
        with signals.watch(leaf):
            model(leaf.clone())
    return signals.shapes


def _other_number(n_images: int) -> int:
    return 1 if n_images > 1 else 2


class _Signals(Calls):
    """Tells tensors that depend on the image, the signals, from constants.

    Attributes:
        shapes: Of the results of each call of signals; None for what is no tensor.
    """

    opens_attention = True

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[list[torch.Size | None]] = []
        self._seen = WeakTensorKeyDictionary()

    @contextmanager
    def watch(self, leaf: Tensor) -> Iterator[None]:
        """Watch a forward pass that starts at the leaf."""
        self._seen[leaf] = True
        with self:
            yield

    def is_signal(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on the image.

        Raises:
            UnsupportedModel: it does, but is no result of a call that was seen.
        """
        if tensor.requires_grad and tensor not in self._seen:
            raise _refusal("uses a tensor that no torch function of this forward pass made")
        return tensor.requires_grad

    def answer(self, call: Call) -> Any:
        if call.name in QUERY_CALLS:
            return call.run()
        if not [tensor for tensor in call.tensors if self.is_signal(tensor)]:
            return call.run()
        result = self.follow(call)
        leaves = call.tensors[:1] if call.overwrites else tree_leaves(result)
        for leaf in leaves:
            if isinstance(leaf, Tensor) and leaf.requires_grad:
                self._seen[leaf] = True
        self.shapes.append([getattr(leaf, "shape", None) for leaf in leaves])
        return result

    def follow(self, call: Call) -> Any:
        """Result of a call of signals."""
        return call.run()


class _Biases(_Signals):
    """Collects the biases of all calls of signals.

    Attributes:
        points: The image, and the results of calls whose bias is not zero.
        values: Of the image, and of their biases.
        places: Where each of them lies on the image.
    """

    def __init__(
        self,
        shapes_of_another_batch: list[list[torch.Size | None]],
        n_images: int,
        size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.points: list[Point] = []
        self.values: list[Tensor] = []
        self.places = [Place(0, (2, 3), size)]
        self._others = shapes_of_another_batch
        self._n_images = n_images
        self._positions = Positions(size)

    @contextmanager
    def collect(self, leaf: Tensor) -> Iterator[list[Point]]:
        """Collect the points of a forward pass that starts at the leaf."""
        self.points.append(leaf)
        self.values.append(leaf.detach().clone())
        with warnings.catch_warnings(), self.watch(leaf):
            # torch loads its own forward-mode rules when it first needs them
            warnings.filterwarnings("ignore", ".*torch.jit.script. is deprecated")
            yield self.points

    def follow(self, call: Call) -> Any:
        biases = _biases(call)
        if not call.overwrites:
            result = call.run()
            for i, leaf in enumerate(tree_leaves(result)):
                self._note(call, i, leaf, biases[i] if biases else None)
            return result
        if not biases:
            return call.run()
        first, *others = call.tensors
        copy = first.clone()  # whose gradient is all of the result's, also where first is a view
        result = call.with_tensors([copy, *others]).run()
        self._note(call, 0, copy, biases[0])
        first.copy_(copy)
        return result if result is None else first

    def _note(self, call: Call, i: int, result: Any, bias: Tensor | None) -> None:
        """Note the i-th result of a call and its bias."""
        if not isinstance(result, Tensor) or not result.requires_grad:
            return
        place = self._place(call, i, result.shape)
        if bias is None or not bias.any():
            return
        if bias.is_complex():
            raise _refusal(f"calls '{call.name}' on complex numbers")
        self.points.append(get_gradient_edge(result))
        self.values.append(bias)
        self.places.append(place)

    def _place(self, call: Call, i: int, shape: torch.Size) -> Place:
        """Place the i-th result of a call; another number of images changes their axis alone."""
        index, n = len(self.shapes), self._n_images
        other = self._others[index][i] if index < len(self._others) else None
        if other is not None and len(other) == len(shape):
            axes = [axis for axis in range(len(shape)) if shape[axis] != other[axis]]
            if len(axes) == 1 and shape[axes[0]] * _other_number(n) == other[axes[0]] * n:
                if shape[axes[0]] == n:
                    return self._positions.place(call, shape, axes[0])
                return Place(axes[0])  # merged with windows or heads, image by image
        raise _refusal("does not treat the images of a batch alike and apart")


def _biases(call: Call) -> list[Tensor]:
    """f(z) - J z for each result of a call, zeros for what is no number; [] where all are zero."""
    signals = [tensor for tensor in call.tensors if tensor.requires_grad]
    if _is_homogeneous(call, signals):
        return []
    x, is_layer = call.input, call.name in WEIGHTED_CALLS and len(signals) == 1
    if not is_layer or x is not signals[0] or (call.name == "batch_norm" and _of_batch(call)):
        return _biases_by_differentiation(call)
    if call.name.startswith("conv"):
        bias, weight = call.argument(2, "bias"), call.argument(1, "weight")
        return [] if bias is None else [bias.view(-1, *[1] * (weight.ndim - 2))]
    sizes, channels = [1] * x.ndim, -1 if call.name == "linear" else 1
    sizes[channels] = x.shape[channels]
    return [call.on(x.new_zeros(sizes))]


def _is_homogeneous(call: Call, signals: list[Tensor]) -> bool:
    """Whether f(z) = J z, since the call moves, weighs, adds or chooses signals alone."""
    if call.name in PRODUCT_CALLS:
        return len(signals) == 1
    if call.name in ("add", "sub"):
        return len(signals) == 2
    return call.name in _HOMOGENEOUS and len(signals) == len(call.tensors)


def _of_batch(call: Call) -> bool:
    """Whether batch normalisation takes the statistics of the batch."""
    return bool(call.argument(5, "training", False)) or call.argument(1, "running_mean") is None


def _biases_by_differentiation(call: Call) -> list[Tensor]:
    with torch.no_grad(), forward_ad.dual_level():
        tensors = [_dual(tensor) if tensor.requires_grad else tensor for tensor in call.tensors]
        if call.overwrites:
            tensors[0] = tensors[0].clone()
        try:
            result = call.with_tensors(tensors).run()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise _refusal(f"calls '{call.name}', which has no forward-mode derivative") from error
        leaves = tensors[:1] if call.overwrites else tree_leaves(result)
        return [_bias(leaf) for leaf in leaves]


def _dual(tensor: Tensor) -> Tensor:
    value = tensor.detach().clone()  # an expanded tensor cannot be made dual
    dual: Tensor = forward_ad.make_dual(value, _finite(value))
    return dual


def _bias(result: Any) -> Tensor:
    if not isinstance(result, Tensor) or not (result.is_floating_point() or result.is_complex()):
        return torch.zeros(())
    value, derivative = forward_ad.unpack_dual(result)
    return _finite(value.clone() if derivative is None else value - derivative)


def _finite(values: Tensor) -> Tensor:
    """Zero for infinity: a masked score of minus infinity adds nothing to what comes behind it."""
    return values if values.is_complex() else values.nan_to_num(torch.nan, 0, 0)


def _refusal(what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"the model {what}, so that FullGrad would not be complete; "
        "use another gradient method such as ig."
    )
