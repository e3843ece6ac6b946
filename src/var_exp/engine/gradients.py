"""The gradient primitive: one forward pass, K backward passes on the kept graph."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from var_exp.engine.calls import Call, Calls
from var_exp.engine.scores import check_logits, class_scores
from var_exp.models.frozen import frozen
from var_exp.models.spatial import first_of
from var_exp.types import Classes, Images, Logits, UnsupportedModel

Score: TypeAlias = Callable[[Logits, Classes], Float[Tensor, "B K"]]
"""From logits and classes to the scores to differentiate; row b must depend on image b alone."""

Point: TypeAlias = Tensor | GradientEdge
"""What to differentiate with respect to: a tensor, or one that may be overwritten later."""


class ClassGradients(NamedTuple):
    """What `class_gradients` found.

    Attributes:
        logits: [B, N].
        point: [B, ...], where the gradients were taken: the images, or the layer's output.
        gradients: [B, K, ...], column k = d logit[classes[:, k]] / d point.
    """

    logits: Logits
    point: Float[Tensor, "B ..."]
    gradients: Float[Tensor, "B K ..."]


def class_gradients(
    model: nn.Module,
    images: Images,
    classes: Classes,
    *,
    layer: nn.Module | None = None,
    run: int = 0,
    rule: AbstractContextManager[object] | None = None,
    score: Score = class_scores,
) -> ClassGradients:
    """Differentiate a score of K classes per image, all from one forward pass.

    Each of the K backward passes serves the whole batch. Works inside `torch.no_grad` and
    `torch.inference_mode`; parameters collect no gradient and the graph is freed with the last
    class. With a layer, the graph starts at its output: what lies before is neither kept nor
    differentiated.

    Args:
        model: Any module from images to logits; it runs in eval mode.
        images: [B, C, H, W], not altered.
        classes: [B, K] int64.
        layer: Module of the model to whose output the gradients are taken; None takes the images.
        run: Which of the layer's runs, from 0, where the model uses it again.
        rule: Context of the forward pass, such as an `activation_rule`.
        score: What is differentiated; the logits of the classes by default.

    Raises:
        ValueError: a class that the model does not have.
        UnsupportedModel: the model returns no logits, or they do not depend on the point.
    """
    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        images = images.detach().clone()
        if layer is None:
            point = images.requires_grad_()
            with _single_image(images), rule or nullcontext():
                # the clone lets a model work in place on its input
                logits = check_logits(model(point.clone()))
        else:
            with _single_image(images), rule or nullcontext(), _cut_at(layer, run) as points:
                logits = check_logits(model(images))
            (point,) = points
        gradients = point.new_empty(len(point), classes.shape[1], *point.shape[1:])
        for k, found in _backward_per_class(logits, [point], classes, score):
            (gradients[:, k],) = found
    return ClassGradients(logits.detach(), point.detach(), gradients)


def layer_output(
    model: nn.Module, images: Images, layer: nn.Module, run: int = 0
) -> tuple[Logits, Float[Tensor, "B ..."]]:
    """Logits, and the output of a layer, in one forward pass without gradients.

    Args:
        model: Any module from images to logits; it runs in eval mode.
        images: [B, C, H, W], not altered.
        layer: Module of the model.
        run: Which of the layer's runs, from 0.

    Raises:
        UnsupportedModel: the model returns no logits, or the layer does not run (so often) or
            returns no tensor.
    """
    with torch.inference_mode(False), torch.no_grad(), frozen(model), _cut_at(layer, run) as points:
        logits = check_logits(model(images.detach().clone()))
    return logits, points[0].detach()


def reduced_gradients(
    model: nn.Module,
    images: Images,
    classes: Classes,
    collect: Callable[[Images], AbstractContextManager[Sequence[Point]]],
    reduce: Callable[[Sequence[Any], Sequence[Any]], Float[Tensor, "B ..."]],
    *,
    score: Score = class_scores,
) -> Float[Tensor, "B K ..."]:
    """Differentiate with respect to many tensors of one forward pass, reducing class by class.

    As `class_gradients`, but the gradients of one class at a time are held: with attention
    matrices or the outputs of all layers, K of them would not fit.

    Args:
        model: Any module from images to logits; it runs in eval mode.
        images: [B, C, H, W], not altered.
        classes: [B, K] int64.
        collect: From the images that the graph starts at to the context of the forward pass; the
            list that it yields holds, after the pass, the points to differentiate with respect to.
        reduce: From these points and their gradients for one class to the result [B, …] of that
            class; runs without gradients. Where the score does not depend on a point, the gradient
            of a tensor is zeros and that of an edge None.
        score: What is differentiated; the logits of the classes by default.

    Raises:
        ValueError: a class that the model does not have.
        UnsupportedModel: the model returns no logits, or they depend on none of the tensors.
    """
    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        leaf = images.detach().clone().requires_grad_()
        with _single_image(images), collect(leaf) as points:
            logits = check_logits(model(leaf.clone()))
        results = []
        for _, gradients in _backward_per_class(logits, points, classes, score):
            with torch.no_grad():
                values = [p.detach() if isinstance(p, Tensor) else p for p in points]
                results.append(reduce(values, gradients))
            del gradients  # before those of the next class are computed
    return torch.stack(results, 1)


def _backward_per_class(
    logits: Tensor, points: Sequence[Point], classes: Tensor, score: Score
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield k and the gradients of class k at the points; frees the graph with the last class."""
    # cloned, since a tensor made in inference mode cannot be kept for the backward pass
    scores = score(logits, classes.to(logits.device, copy=True))
    k_classes = classes.shape[1]
    for k in range(k_classes):
        yield k, _gradients(scores[:, k].sum(), points, retain_graph=k < k_classes - 1)


def _gradients(score: Tensor, points: Sequence[Point], retain_graph: bool) -> tuple[Any, ...]:
    """Gradients of one number; zeros at a tensor that it does not depend on, None at an edge."""
    found: tuple[Tensor | None, ...] = (None,)
    if points and score.requires_grad:
        edges = [get_gradient_edge(p) if isinstance(p, Tensor) else p for p in points]
        found = torch.autograd.grad(score, edges, retain_graph=retain_graph, allow_unused=True)
    if all(gradient is None for gradient in found):
        raise UnsupportedModel(
            "the logits do not depend on where the gradient is taken, or the model detaches them; "
            "use a forward-only method such as occlusion, or another layer."
        )
    return tuple(
        torch.zeros_like(point) if gradient is None and isinstance(point, Tensor) else gradient
        for point, gradient in zip(points, found, strict=True)
    )


def _single_image(images: Tensor) -> AbstractContextManager[object]:
    """Context of the forward pass of one image on the CPU; nothing for other batches."""
    alone = len(images) == 1 and images.device.type == "cpu"
    return _ContiguousGradients() if alone else nullcontext()


class _ContiguousGradients(Calls):
    """Hands batch normalisation contiguous gradients.

    Its backward pass on the CPU (torch 2.15) silently returns wrong numbers for a single image
    whose gradient comes back through a transposition to tokens, as in LeViT or EfficientFormer.
    """

    def answer(self, call: Call) -> Any:
        result = call.run()
        if call.name == "batch_norm" and result.requires_grad:
            result.register_hook(lambda gradient: gradient.contiguous())
        return result


@contextmanager
def changed_output(
    layer: nn.Module, run: int, change: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Let a layer return something else, in one of its runs of the forward pass inside.

    Args:
        layer: Module of the model.
        run: Which of its runs, from 0.
        change: From its output, or the first of several things that it returns, to what takes its
            place; must not work in place on it.

    Raises:
        UnsupportedModel: the layer does not run (so often) or returns no tensor.
    """
    n_runs = 0

    def hook(_module: nn.Module, _inputs: tuple[object, ...], output: object) -> object:
        nonlocal n_runs
        n_runs += 1
        if n_runs != run + 1:
            return None
        first = first_of(output)
        if not isinstance(first, Tensor):
            raise UnsupportedModel(
                f"the layer returns {type(first).__name__}, not one tensor; name another layer."
            )
        changed = change(first)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
    if n_runs <= run:
        raise UnsupportedModel(
            f"the layer runs {n_runs} times in a forward pass of the model; name another layer."
        )


@contextmanager
def _cut_at(layer: nn.Module, run: int) -> Iterator[list[Tensor]]:
    """Let the graph start at a layer's output of one run; yields the list that it goes into."""
    points: list[Tensor] = []

    def cut(output: Tensor) -> Tensor:
        points.append(output.detach().requires_grad_())
        return points[0].clone()  # a later layer may work in place on it

    with changed_output(layer, run, cut):
        yield points
