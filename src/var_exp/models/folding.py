"""An equivalent network with fewer operations: batch norm folded into the convolutions before it.

In eval mode batch norm is a scale and a shift per channel, and so is what a convolution can do by
itself. Which norm belongs to which convolution is seen in a forward pass, whatever the code looks
like; the folded network counts only when it gives the same logits.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from var_exp.models.frozen import frozen
from var_exp.models.private import copied
from var_exp.types import Images, UnsupportedModel

_SAME = 1e-4  # largest difference of the logits, relative to the largest logit


def folded(model: nn.Module, images: Images) -> nn.Module:
    """A copy of a network with batch norm folded into convolutions, in channels-last memory.

    Args:
        model: Not altered.
        images: [B, C, H, W], normalised; what the two are compared on.

    Returns:
        The copy; or the network itself where nothing can be folded, or the copy is not the same.
    """
    if isinstance(model, torch.jit.ScriptModule):
        return model
    pairs = _pairs(model, images)
    if not pairs:
        return model
    try:
        copy = copied(model)
    except UnsupportedModel:
        return model
    for convolution, norm in pairs:
        _fold(copy, convolution, norm)
    copy = copy.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    with torch.no_grad(), frozen(model), frozen(copy):
        before, after = model(images), copy(images)
    close = before.isfinite().all() and (after - before).abs().max() <= _SAME * before.abs().max()
    return copy if close else model


def _pairs(model: nn.Module, images: Images) -> list[tuple[str, str]]:
    """Names of convolutions and of the norms that take their outputs as they are."""
    made: dict[int, tuple[str, Tensor]] = {}  # kept, so that no other tensor gets its place
    found: list[tuple[str, str]] = []
    runs: dict[str, int] = {}
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return []

    def see(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        runs[name] = runs.get(name, 0) + 1
        if isinstance(module, nn.Conv2d):
            made[id(output)] = name, output
        elif inputs and id(inputs[0]) in made:
            found.append((made[id(inputs[0])][0], name))

    with ExitStack() as stack:
        for name, module in _foldable(model):
            hook = module.register_forward_hook(
                lambda module, inputs, output, name=name: see(name, module, inputs, output)
            )
            stack.callback(hook.remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(frozen(model))
        model(images)
    return [pair for pair in found if all(runs[name] == 1 for name in pair)]


def _foldable(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Convolutions and norms that compute what their weights say, and nothing else."""
    for name, module in model.named_modules():
        if module._forward_pre_hooks or "parametrizations" in module._modules:
            continue
        if type(module) in (nn.BatchNorm2d, BatchNormAct2d):
            if module._buffers.get("running_mean") is not None:
                yield name, module
        elif isinstance(module, nn.Conv2d) and module._parameters.get("weight") is not None:
            yield name, module


def _fold(model: nn.Module, convolution: str, norm: str) -> None:
    conv, batch_norm = model.get_submodule(convolution), model.get_submodule(norm)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(batch_norm, nn.BatchNorm2d)
    mean, variance = batch_norm.running_mean, batch_norm.running_var
    assert mean is not None
    assert variance is not None  # `_foldable` saw to that
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        mean,
        variance,
        batch_norm.eps,
        batch_norm.weight,
        batch_norm.bias,
    )
    rest: nn.Module = nn.Identity()
    if isinstance(batch_norm, BatchNormAct2d):  # the activation keeps its name
        rest = nn.Sequential(OrderedDict(drop=batch_norm.drop, act=batch_norm.act))
    parent, _, name = norm.rpartition(".")
    setattr(model.get_submodule(parent), name, rest)
