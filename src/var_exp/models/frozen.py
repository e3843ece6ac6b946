"""Run somebody's network as it is to be explained, without leaving a trace on it."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from var_exp.models.outputs import logits_of
from var_exp.types import Images, Logits, Predict, UnsupportedModel

_RECOMPUTES = (  # what timm, Hugging Face, Microsoft's, OpenMMLab's and torchvision's networks say
    "grad_checkpointing",
    "gradient_checkpointing",
    "use_checkpoint",
    "with_cp",
    "memory_efficient",
)

Network = TypeVar("Network", bound=nn.Module)


class _Use:
    """Who works with a network: one thread at a time, which may come back in."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.depth = 0


_uses: WeakKeyDictionary[nn.Module, _Use] = WeakKeyDictionary()
_finding = threading.Lock()  # of a network's entry


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put a network into the state in which it is explained; all of it is as before afterwards.

    Inside,
    - the network belongs to one thread: others wait, those of other networks do not;
    - it is in eval mode, and no parameter asks for a gradient. Autograd would otherwise keep the
      input of every layer for weight gradients that nobody reads (425 instead of 180 MiB for a
      ResNet-50 and one image), and batch norm would learn from the images;
    - gradient checkpointing is off and compiled parts run as they were written, since what is
      computed again in the backward pass, or inside a compiled graph, is hidden from the rules;
    - a call takes images of any floating-point type and returns logits [B, N]; see `logits_of`.

    Networks that share modules count as different ones: do not explain them in two threads.
    """
    use = _use_of(model)
    with use.lock:
        if use.depth:  # already so
            yield
            return
        use.depth += 1
        try:
            with ExitStack() as stack:
                _freeze(model, stack)
                yield
        finally:
            use.depth -= 1


def logits_from(predict: Predict, images: Images) -> Logits:
    """Logits of images, of a network in the state of `frozen` or of any other callable."""
    if isinstance(predict, nn.Module):
        with frozen(predict):
            return logits_of(predict(images))
    return logits_of(predict(images))


def returning_logits(model: Network) -> Network:
    """Let a network take images of any floating-point type and return logits, for good.

    By hooks, so that a copy does the same and the modules keep their names.
    """
    if isinstance(model, torch.jit.ScriptModule):  # takes no hooks
        return model
    if _take_logits not in model._forward_hooks.values():
        model.register_forward_pre_hook(_cast)
        model.register_forward_hook(_take_logits)
    return model


def weights_type(model: nn.Module) -> torch.dtype | None:
    """Type of the first floating-point weights; None without any."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


def _use_of(model: nn.Module) -> _Use:
    with _finding:
        return _uses.setdefault(model, _Use())


def _freeze(model: nn.Module, stack: ExitStack) -> None:
    """Change what must be changed, with its undoing on the stack."""
    asked: list[Tensor] = []
    stack.callback(_ask_again, asked)
    for place, module in model.named_modules():  # once: a deep network has many
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if is_lazy(tensor):
                raise UnsupportedModel(
                    f"the model's {f'{place}.{name}'.lstrip('.')} has no shape yet (a lazy "
                    "module); run it once on a picture of yours, which gives it one."
                )
        for parameter in module._parameters.values():
            asks = parameter is not None and parameter.requires_grad
            if asks and not parameter.is_inference():  # those cannot be told
                asked.append(parameter.requires_grad_(False))
        if module.training:
            stack.callback(setattr, module, "training", True)
            module.training = False
        for flag in _RECOMPUTES:
            if vars(module).get(flag) is True:
                _set(module, flag, False, stack)
        if vars(module).get("_compiled_call_impl") is not None:  # module.compile()
            _set(module, "_compiled_call_impl", None, stack)
        if "_orig_mod" in module._modules:  # torch.compile(module)
            _set(module, "forward", module._modules["_orig_mod"], stack)
    if isinstance(model, torch.jit.ScriptModule):  # takes no hooks
        return
    stack.callback(model.register_forward_pre_hook(_cast).remove)
    stack.callback(model.register_forward_hook(_take_logits).remove)


def _ask_again(parameters: Iterable[Tensor]) -> None:
    for parameter in parameters:
        parameter.requires_grad_(True)


def _set(module: nn.Module, name: str, value: object, stack: ExitStack) -> None:
    # not setattr, which a compiled module passes on to what it compiles
    stack.callback(vars(module).__setitem__, name, vars(module)[name])
    vars(module)[name] = value


def _cast(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Give the images the type of the weights."""
    wanted = weights_type(model)
    first = inputs[0] if inputs else None
    if not isinstance(first, Tensor) or wanted is None or not first.is_floating_point():
        return None
    return None if first.dtype == wanted else (first.to(wanted), *inputs[1:])


def _take_logits(_model: nn.Module, _inputs: object, output: Any) -> Tensor:
    return logits_of(output)
