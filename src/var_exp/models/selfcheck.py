"""Does a network do, on one picture, what attribution takes for granted? Asked before the work.

A network must be a function of one picture: the same logits again, and alone as in a batch, without
drawing random numbers. For a method that differentiates it, the gradient that autograd gives must
be the derivative of the logits:

    (s(x + h d) - s(x)) / h  =  d . grad s(x),    s = w . y,   d = ±1 and w random and fixed

One comparison asks both, a little beside the picture: x next to another picture, with its
gradient, against x + h d alone. It runs in float64 where the network can, so that h is small and so
is the tolerance: a detached branch, quantised weights, a wrong backward pass or batch statistics
miss by far. Only where it fails are further passes spent, on the reason.

Cost: three forward and two backward passes of one picture, once for each network. In float64 they
take several times as long on a CPU, so that there a part of a large picture is compared where the
network takes it, and one pass goes to the whole. Methods that differentiate nothing are spared it.
A method that looks at the calls of a forward pass does so in the one of x + h d alone, which shows
as well that its rules leave the logits as they are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from var_exp.models.derivative import (
    INSTEAD,
    Coarsest,
    Look,
    another_picture,
    finite,
    gradient_error,
)
from var_exp.models.description import FORWARD_FAILURES, run_or_refuse
from var_exp.models.frozen import frozen, weights_type
from var_exp.models.kept import is_kept, keep, kept
from var_exp.models.outputs import logits_of
from var_exp.models.private import private_tensors
from var_exp.seeds import global_streams
from var_exp.text import first_line
from var_exp.types import Images, Logits, UnsupportedModel

Needs: TypeAlias = Literal["logits", "calls", "gradients"]
"""What a method needs of a network: its logits; to see its calls as well; and gradients, too."""

_MOST_BYTES = 16 * 2**30  # of weights in float64; larger networks are checked in their own type
_STEPS, _TOLERANCE = (1e-7, 1e-9, 1e-5, 1e-4), 1e-3  # h in float64: rounding, a kink may spoil some
_OWN_STEPS, _OWN_TOLERANCE = (1e-3, 1e-4, 1e-2), 0.3  # in the network's own type, which rounds more
_PART = 96  # pixels a side; float64 convolutions are slow on a CPU


def check_network(
    model: nn.Module, image: Images, needs: Needs, look: Look | None = None, who: str = ""
) -> None:
    """Refuse a network that would be explained silently wrong; asked once per state of a network.

    The network and the global random streams are as before, also when it is refused.

    Args:
        model: From images to logits; it runs in eval mode.
        image: [1, C, H, W].
        needs: What the method needs of it.
        look: How the method runs it, asked once for each method.
        who: Name of the method and its options.

    Raises:
        UnsupportedModel: one sentence with the reason and the fix.
    """
    refusals: list[Exception] = []

    def guarded(model: nn.Module, image: Images) -> Logits | None:
        try:
            return look(model, image) if look else None
        except (UnsupportedModel, *FORWARD_FAILURES) as refusal:
            refusals.append(refusal)  # what is wrong with the network itself comes first
            return None

    with frozen(model), torch.inference_mode(False):
        hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
        question = (image.shape, image.dtype, image.device, hooks)
        image = image.detach().clone()
        if any(is_kept(model, (each, *question)) for each in _as_strict_as(needs)):
            if look:
                kept(model, ("look", who, *question), partial(_look, look, model, image))
            return
        check_parts(model, needs)
        with global_streams() as drawn_from:
            agrees = needs == "gradients" and _agrees(model, image, guarded)
            if not agrees:  # the reason, or only that it cannot compute in float64
                _check_function(model, image, drawn_from)
                if needs == "gradients":
                    _check_gradient(model, image)
                if look:
                    _look(look, model, image)
            _check_chance(drawn_from)
        keep(model, (needs, *question))
        if look and agrees and refusals:
            if isinstance(refusals[0], UnsupportedModel):
                raise refusals[0]
            _look(look, model, image)  # it may fail in float64 alone
        keep(model, ("look", who, *question))


def check_parts(model: nn.Module, needs: Needs) -> None:
    """Refuse a network with parts that hide what a method needs; runs nothing.

    Raises:
        UnsupportedModel: one sentence with the reason and the fix.
    """
    if needs == "logits":
        return
    for name, module in model.named_modules():
        where = f"module '{name}'" if name else "the model"
        if isinstance(module, torch.jit.ScriptModule):
            raise UnsupportedModel(
                f"{where} is TorchScript, which hides its calls; give the model as it was before "
                f"torch.jit, or {INSTEAD}."
            )
        if needs == "gradients" and "quantized" in type(module).__module__:
            raise UnsupportedModel(
                f"{where} ({type(module).__name__}) is quantised and passes no gradient; give the "
                f"model as it was before quantisation, or {INSTEAD}."
            )
    if needs == "gradients" and any(tensor.is_inference() for tensor in _tensors(model)):
        raise UnsupportedModel(
            "the model was made in torch.inference_mode, so that no gradient can pass its weights; "
            f"build or load it outside of that, or {INSTEAD}."
        )


@contextmanager
def failures_refused() -> Iterator[None]:
    """Refuse a network on which a method fails inside, though it runs by itself."""
    try:
        yield
    except FORWARD_FAILURES as error:
        if isinstance(error, ValueError) or "memory" in str(error):  # said in a sentence elsewhere
            raise
        raise UnsupportedModel(
            f"the method fails on a call of the model ({_in_short(error)}); use another one, such "
            "as gradient or occlusion."
        ) from error


def _look(look: Look, model: nn.Module, image: Tensor) -> None:
    with torch.no_grad(), failures_refused():
        look(model, image)


def _agrees(model: nn.Module, image: Tensor, look: Look) -> bool:
    """Whether the network passes the comparison in float64; on a CPU, that of a part is enough."""
    height, width = image.shape[2:]
    top, left = (height - _PART) // 2, (width - _PART) // 2
    if image.device.type == "cpu" and min(top, left) > 0:
        part = image[:, :, top : top + _PART, left : left + _PART]
        if _agrees_in_float64(model, part):  # False also where it takes one size only
            with private_tensors(model) as seen, torch.no_grad():
                logits = look(model, image)
                finite(run_or_refuse(model, image) if logits is None else logits)
                changes, keeps = seen.changed(), seen.keeps()
            return not changes and not (keeps and _remembers(model, image))
    return _agrees_in_float64(model, image, look)


def _agrees_in_float64(model: nn.Module, image: Tensor, look: Look | None = None) -> bool:
    """Whether the network passes the one comparison that asks everything."""
    own = weights_type(model)
    size = sum(parameter.numel() for parameter in model.parameters())
    if 8 * size > _MOST_BYTES or own is None:
        return False
    if own == torch.float16:  # may overflow where float64 does not
        with torch.no_grad():
            finite(logits_of(model(image)))
    try:
        with private_tensors(model, torch.float64) as seen:
            error = gradient_error(model, image.double(), _STEPS[0], look=look)
            agrees, keeps = error <= _TOLERANCE and not seen.changed(), seen.keeps()
        return agrees and not (keeps and _remembers(model, image.double(), torch.float64))
    except (UnsupportedModel, *FORWARD_FAILURES):
        return False  # the same in its own type has the reason


def _check_chance(drawn_from: Callable[[], bool]) -> None:
    if drawn_from():
        raise UnsupportedModel(
            "the model draws random numbers in eval mode (dropout that is always on, or noise), so "
            "that a map would be one draw of many; switch that off."
        )


def _check_function(model: nn.Module, image: Tensor, drawn_from: Callable[[], bool]) -> None:
    """Refuse what is no function of one picture with finite values."""
    with private_tensors(model) as seen, torch.no_grad():
        alone = finite(run_or_refuse(model, image))
        _check_chance(drawn_from)
        beside = finite(_of_two(model, torch.cat([another_picture(image), image])))[1:]
        if seen.changed():
            raise UnsupportedModel(
                f"a forward pass in eval mode changes the model's own {seen.changed()}, so that "
                "maps would depend on what ran before; keep it constant in eval mode."
            )
        differs, keeps = _differ(alone, beside), seen.keeps()
    if (differs or keeps) and _remembers(model, image):
        raise UnsupportedModel(
            "the model gives other logits for the same picture the second time, so it keeps a state"
            " in eval mode; switch that off."
        )
    if differs:
        raise UnsupportedModel(
            "the model's logits of a picture depend on the pictures beside it, such as by batch "
            "normalisation without running statistics; give it running statistics, or let it treat "
            "each picture alone."
        )


def _remembers(model: nn.Module, image: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether the logits of a picture are others after another picture."""

    def last(*pictures: Tensor) -> Tensor:
        with private_tensors(model, dtype), torch.no_grad():  # each time as at the beginning
            return [logits_of(model(picture)) for picture in pictures][-1]

    return _differ(last(image), last(another_picture(image), image))


def _of_two(model: nn.Module, images: Tensor) -> Tensor:
    """Logits of two pictures, of a network that takes one."""
    try:
        return logits_of(model(images))
    except FORWARD_FAILURES as error:
        if isinstance(error, torch.OutOfMemoryError | UnsupportedModel):
            raise
        raise UnsupportedModel(
            f"the model takes one picture and not two at once ({_in_short(error)}); let it take "
            "batches [B, C, H, W]."
        ) from error


def _check_gradient(model: nn.Module, image: Tensor) -> None:
    """Refuse a gradient that is not the derivative, in the type and with the steps that suit."""
    for dtype, steps, tolerance in (
        (torch.float64, _STEPS, _TOLERANCE),
        (None, _OWN_STEPS, _OWN_TOLERANCE),
    ):
        if dtype is None and weights_type(model) in (torch.bfloat16, torch.float16):
            tolerance = float("inf")  # rounding hides any derivative
        try:
            with private_tensors(model, dtype):
                exact = image if dtype is None else image.to(dtype)
                with Coarsest() as seen:
                    model(exact)
                if dtype is not None and seen.eps > torch.finfo(dtype).eps:  # float32 inside
                    steps, tolerance = _OWN_STEPS, _OWN_TOLERANCE
                errors = [gradient_error(model, exact, step, seen.eps) for step in steps]
        except UnsupportedModel:
            raise
        except FORWARD_FAILURES as error:
            if dtype is None:
                raise UnsupportedModel(
                    f"the model cannot be differentiated ({_in_short(error)}); {INSTEAD}."
                ) from error
            continue  # it cannot compute in float64
        if min(errors) <= tolerance:
            return
        raise UnsupportedModel(
            "the gradient that autograd gives is not the derivative of the logits (it misses "
            f"{min(errors):.0%} of it): part of the model is detached, runs under no_grad, rounds, "
            f"or has a backward pass of its own; let the gradient pass, or {INSTEAD}."
        )


def _rounding(logits: Tensor) -> float:
    """What the logits of a picture may differ by between batches."""
    share: float = torch.finfo(logits.dtype).eps ** 0.5
    if logits.is_cuda:
        share = max(share, 5e-3)  # TF32
    return share * float(logits.abs().max().clamp_min(1e-30))


def _differ(one: Tensor, other: Tensor) -> bool:
    """Whether logits of a picture differ by more than rounding, the first being those alone."""
    return one.shape != other.shape or bool(((one - other).abs() > _rounding(one)).any())


def _as_strict_as(needs: Needs) -> tuple[Needs, ...]:
    order: tuple[Needs, ...] = ("logits", "calls", "gradients")
    return order[order.index(needs) :]


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _in_short(error: BaseException) -> str:
    return first_line(error).rstrip(" .")[:200]
