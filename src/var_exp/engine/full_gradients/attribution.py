"""Split a score exactly into what the image and every bias of the network add to it.

A call with the output f(z) is, near its own input z, the linear map J z + b with the bias

    b = f(z) - J z

which is the bias of a convolution, the effective bias of batch normalisation, the added constant of
a sum, 0 for ReLU and pooling, f(z) - f'(z) z for another activation, and so on. For every network

    y_c = Σ x · d y_c / d x + Σ_calls Σ b · d y_c / d f(z)

holds exactly (Srinivas & Fleuret 2019, arXiv 1905.00780, who also name the implicit biases of what
is not piecewise linear). `engine.full_gradients.biases` finds b, `engine.full_gradients.positions`
the place of its values on the image.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.utils._pytree import tree_leaves

from var_exp.engine.calls import Call
from var_exp.engine.full_gradients.biases import biases_of, refusal
from var_exp.engine.full_gradients.positions import Place, Positions, spread
from var_exp.engine.gradients import Point, Score, reduced_gradients
from var_exp.engine.scores import class_scores
from var_exp.engine.signals import Signals
from var_exp.models.frozen import frozen
from var_exp.models.targets import token_places
from var_exp.types import Classes, Images, Logits, Maps, UnsupportedModel


def full_gradients(
    model: nn.Module, images: Images, classes: Classes, *, score: Score = class_scores
) -> Maps:
    """Attribute K logits per image to its pixels, biases included; each map sums to its logit.

    One forward pass, in which calls of unknown bias are made three times, and K backward passes;
    besides, a forward pass of another number of images, which tells where the images' axis is, and
    once for a model with tokens one of six pictures, which tells where they lie.

    Args:
        model: Any module from images to logits; it runs in eval mode.
        images: [B, C, H, W], not altered.
        classes: [B, K] int64.
        score: What is attributed, linear in the logits; the logits of the classes by default.

    Returns:
        [B, K, 1, H, W] in float32 at least.

    Raises:
        ValueError: a class that the model does not have.
        UnsupportedModel: a part of the model cannot be seen or has no forward-mode derivative, the
            images of a batch meet, or the model returns no logits.
    """
    size = (images.shape[2], images.shape[3])
    shapes = _shapes_of_another_batch(model, images)
    has_tokens = any(shape is not None and len(shape) == 3 for each in shapes for shape in each)
    tokens = token_places(model, images[:1]) if has_tokens else {}
    frame = next((token.frame for token in tokens.values() if token is not None), None)
    biases = _Biases(shapes, len(images), size, Positions(size, tokens))

    def reduce(_: Sequence[Point], gradients: Sequence[Tensor | None]) -> Tensor:
        by_grid: dict[torch.Size, Tensor] = {}  # so that each grid is brought to image size once
        for bias, gradient, place in zip(biases.values, gradients, biases.places, strict=True):
            if gradient is not None:  # else the score does not depend on the call
                for sums in place.sums(bias * gradient, len(images)):
                    by_grid[sums.shape] = by_grid.get(sums.shape, 0) + sums
        return torch.stack([spread(sums, size, frame) for sums in by_grid.values()]).sum(0)[:, None]

    def seen(logits: Logits, classes: Classes) -> Tensor:
        biases.is_signal(logits)  # raises when what made them was not seen
        return score(logits, classes)

    return reduced_gradients(model, images, classes, biases.collect, reduce, score=seen)


def _shapes_of_another_batch(model: nn.Module, images: Images) -> list[list[torch.Size | None]]:
    """Shapes of all results that depend on the image, for one image, or for two instead of one."""
    shapes = _Shapes()
    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        leaf = images[:1].detach().repeat(_other_number(len(images)), 1, 1, 1).requires_grad_()
        with shapes.watch(leaf):
            model(leaf.clone())
    return shapes.shapes


def _other_number(n_images: int) -> int:
    return 1 if n_images > 1 else 2


class _Shapes(Signals):
    """Notes the shapes of what depends on the image.

    Attributes:
        shapes: Of the results of each call of signals; None for what is no tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[list[torch.Size | None]] = []

    def unseen(self) -> UnsupportedModel:
        return refusal("uses a tensor that no torch function of this forward pass made")

    def follow(self, call: Call, signals: list[Tensor]) -> Any:
        result = self.run(call)
        leaves = call.tensors[:1] if call.overwrites else tree_leaves(result)
        self.note(leaves)
        self.shapes.append([getattr(leaf, "shape", None) for leaf in leaves])
        return result

    def run(self, call: Call) -> Any:
        """Result of a call of signals."""
        return call.run()


class _Biases(_Shapes):
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
        positions: Positions,
    ) -> None:
        super().__init__()
        self.points: list[Point] = []
        self.values: list[Tensor] = []
        self.places = [Place(0, (2, 3), size)]
        self._others = shapes_of_another_batch
        self._n_images = n_images
        self._positions = positions

    @contextmanager
    def collect(self, leaf: Tensor) -> Iterator[list[Point]]:
        """Collect the points of a forward pass that starts at the leaf."""
        self.points.append(leaf)
        self.values.append(leaf.detach().clone())
        with warnings.catch_warnings(), self.watch(leaf):
            # torch loads its own forward-mode rules when it first needs them
            warnings.filterwarnings("ignore", ".*torch.jit.script. is deprecated")
            yield self.points

    def run(self, call: Call) -> Any:
        biases = biases_of(call)
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
            raise refusal(f"calls '{call.name}' on complex numbers")
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
        raise refusal("does not treat the images of a batch alike and apart")
