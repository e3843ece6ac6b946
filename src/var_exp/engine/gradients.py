"""The gradient primitive: one forward pass, K backward passes on the kept graph."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from var_exp.engine.scores import check_logits, check_range
from var_exp.models.frozen import frozen
from var_exp.types import Classes, Images, Logits, UnsupportedModel


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
    rule: AbstractContextManager[object] | None = None,
) -> ClassGradients:
    """Differentiate the logits of K classes per image, all from one forward pass.

    Each of the K backward passes serves the whole batch. Works inside `torch.no_grad` and
    `torch.inference_mode`; parameters collect no gradient and the graph is freed with the last
    class. With a layer, the graph starts at its output: what lies before is neither kept nor
    differentiated.

    Args:
        model: Any module from images to logits; it runs in eval mode.
        images: [B, C, H, W], not altered.
        classes: [B, K] int64.
        layer: Module of the model to whose output the gradients are taken; None takes the images.
        rule: Context of the forward pass, such as an `activation_rule`.

    Raises:
        ValueError: a class that the model does not have.
        UnsupportedModel: the model returns no logits, or they do not depend on the point.
    """
    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        images = images.detach().clone()
        if layer is None:
            point = images.requires_grad_()
            with rule or nullcontext():
                # the clone lets a model work in place on its input
                logits = check_logits(model(point.clone()))
        else:
            with rule or nullcontext(), _cut_at(layer) as points:
                logits = check_logits(model(images))
            point = _only(points)
        check_range(classes, logits.shape[1])
        gradients = _backward_per_class(logits, point, classes.to(logits.device))
    return ClassGradients(logits.detach(), point.detach(), gradients)


def _backward_per_class(logits: Tensor, point: Tensor, classes: Tensor) -> Tensor:
    """Gradients [B, K, ...] of the logits at `classes`; frees the graph with the last class."""
    if not logits.requires_grad:
        raise UnsupportedModel(
            "the logits do not depend on where the gradient is taken, or the model detaches them; "
            "use a forward-only method such as occlusion, or another layer."
        )
    k_classes = classes.shape[1]
    gradients = torch.empty(
        (len(point), k_classes, *point.shape[1:]), dtype=point.dtype, device=point.device
    )
    for k in range(k_classes):
        chosen = torch.zeros_like(logits).scatter_(1, classes[:, k : k + 1], 1.0)
        (gradients[:, k],) = torch.autograd.grad(
            logits, point, chosen, retain_graph=k < k_classes - 1
        )
    return gradients


@contextmanager
def _cut_at(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Let the graph start at the output of a layer; yields the list that its outputs go into."""
    points: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: tuple[object, ...], output: object) -> Tensor:
        if not isinstance(output, Tensor):
            raise UnsupportedModel(
                f"the layer returns {type(output).__name__}, not one tensor; name another layer."
            )
        points.append(output.detach().requires_grad_())
        return points[-1].clone()  # a later layer may work in place on it

    handle = layer.register_forward_hook(cut)
    try:
        yield points
    finally:
        handle.remove()


def _only(points: list[Tensor]) -> Tensor:
    """Output of a layer that ran exactly once."""
    if len(points) != 1:
        raise UnsupportedModel(
            f"the layer must run once in a forward pass, it ran {len(points)} times; "
            "name another layer."
        )
    return points[0]
