"""A network made ready for a method: equivalent to the one given, and faster."""

import torch
from torch import nn

from var_exp.methods.method import Method
from var_exp.models import input_spec
from var_exp.models.declared import first_channels
from var_exp.models.folding import folded
from var_exp.types import ConfigError

_SIDE = 64  # pixels of the picture that a network of unknown input is compared on


def prepare(model: nn.Module, method: Method) -> nn.Module:
    """An equivalent, faster network for this method, or the same one.

    Batch norm is folded into the convolutions before it, and the copy keeps channels-last memory.
    For methods whose maps stay the same (`Method.invariant_to_folding`); FullGrad, which shows the
    bias of each layer, and others get the network as it is. `Method.attribute` explains exactly
    what it is given.

    Args:
        model: Not altered, and left as it is for `state_dict` and `load_state_dict`.
        method: About to be used.

    Returns:
        A copy whose logits agree up to rounding, or the network itself.
    """
    if not method.invariant_to_folding or getattr(method, "layer", None) is not None:
        return model  # a layer that is named must be there, as it is
    try:
        spec = input_spec(model)
        size = spec.size, spec.width or spec.size
    except ConfigError:
        size = _SIDE, _SIDE
    generator = torch.Generator().manual_seed(0)
    channels = first_channels(model) or 3
    images = torch.randn(1, channels, *size, generator=generator)
    device = next((parameter.device for parameter in model.parameters()), images.device)
    try:
        return folded(model, images.to(device))
    except Exception:  # a picture that it cannot take: what is wrong is for the method's check
        return model
