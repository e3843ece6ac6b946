"""Is the gradient that autograd gives the derivative? The comparison that the self-check makes."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from var_exp.models.outputs import logits_of
from var_exp.types import Images, Logits, UnsupportedModel

INSTEAD = "use a forward-only method such as occlusion"
_BESIDE = 0.05  # standard deviations of normalised pixels


class Coarsest(TorchFunctionMode):
    """Notes the coarsest floating-point type that a forward pass computes in."""

    eps = 0.0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            self.eps = max(self.eps, torch.finfo(result.dtype).eps)
        return result


Look: TypeAlias = Callable[[nn.Module, Images], Logits | None]
"""Logits of one picture as a method runs the network, refusing what it cannot; None if plainly."""


def gradient_error(
    model: nn.Module, image: Tensor, step: float, eps: float = 0.0, look: Look | None = None
) -> float:
    """How far the gradient is from the difference quotient, as a share of the usual size.

    Args:
        model: In the type of the image.
        image: [1, C, H, W].
        step: h.
        eps: Of the coarsest type that the network computes in, where it is not that of the image.
        look: How x + h d is run; None runs it plainly.
    """
    draw = torch.Generator().manual_seed(3)

    def random(shape: Sequence[int]) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64).to(image)

    # beside the picture, since in its plain areas maxima are level and there is no derivative
    image = image + _BESIDE * random(image.shape)
    direction = random(image.shape).sign()
    with torch.enable_grad():
        # not alone: on the CPU, batch norm differentiates a single picture wrongly (torch 2.15)
        leaf = torch.cat([another_picture(image), image]).requires_grad_()
        logits = finite(logits_of(model(leaf.clone())))[1:]
        weights = random(logits.shape)
        score = (logits * weights).sum()
        if not score.requires_grad:
            raise UnsupportedModel(
                "no gradient leads from the logits to the picture: they do not depend on it, or the"
                f" model is detached, runs under no_grad or rounds to integers; {INSTEAD}."
            )
        gradient = _derivative(model, score, leaf)[1:]
    with torch.no_grad():
        beside = image + step * direction
        seen = look(model, beside) if look else None
        moved = finite(logits_of(model(beside)) if seen is None else seen)
        change = ((moved - logits) * weights).sum() / step
        error = (change - (gradient * direction).sum()).abs()
        # where the logits hardly depend on the picture, as with some random weights, they only
        # round: by about eps, over steps of eps^1/4, the widest that are taken
        eps = max(eps, torch.finfo(image.dtype).eps)
        rounding = 16 * eps**0.75 * (logits * weights).abs().sum()
        usual = gradient.norm().maximum(change.abs()).clamp_min(1e-30)
        share: float = ((error - rounding).clamp_min(0) / usual).item()
        return share


def _derivative(model: nn.Module, score: Tensor, leaf: Tensor) -> Tensor:
    """Gradient of the score, zero where there is none; refuses parts that are computed again."""
    again: list[str] = []
    with ExitStack() as stack:
        for module in model.modules():
            handle = module.register_forward_pre_hook(
                lambda module, _: again.append(type(module).__name__)
            )
            stack.callback(handle.remove)
        (gradient,) = torch.autograd.grad(score, leaf, allow_unused=True)
    if again:
        raise UnsupportedModel(
            f"the model computes parts again in the backward pass ({again[0]}, gradient "
            f"checkpointing), which rules for calls do not reach; switch that off, or {INSTEAD}."
        )
    return torch.zeros_like(leaf) if gradient is None else gradient


def finite(logits: Tensor) -> Tensor:
    """Refuse logits that are not all finite.

    Raises:
        UnsupportedModel: some are NaN or infinite.
    """
    wrong = (~logits.isfinite()).any(0).nonzero().flatten().tolist()
    if wrong:
        named = ", ".join(map(str, wrong[:5])) + (", …" if len(wrong) > 5 else "")
        raise UnsupportedModel(
            f"the model's logits are not finite for {len(wrong)} of {logits.shape[1]} classes "
            f"(class {named}); check its weights, its type, and how pictures are normalised."
        )
    return logits


def another_picture(image: Tensor) -> Tensor:
    """A picture with nothing in common but size and range."""
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(image.shape, generator=draw, dtype=torch.float64).to(image)
    return image.flip(2, 3).neg() + noise
