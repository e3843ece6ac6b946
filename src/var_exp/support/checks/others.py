"""Methods that stand alone."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.functional import interpolate

from var_exp.support.checks.case import Case, per_class, relative_error
from var_exp.support.checks.stand_ins import StandIns, logits_through


def captum(case: Case) -> float:
    """Captum called directly, one class at a time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Captum announces its hooks
        maps = [
            case.method.factory(deepcopy(case.model)).attribute(
                case.image.clone(), target=int(chosen)
            )
            for chosen in case.classes[0]
        ]
    return relative_error(case.maps, torch.cat(maps).detach())


def fullgrad(case: Case) -> float:
    """Biases of all layers one by one, where the network has no others; sums against the logits."""
    with torch.no_grad():
        scores = case.scores(case.image)[0]
    error = relative_error(case.maps.sum((1, 2, 3)), scores)
    maps = _image_and_layer_biases(case)
    if relative_error(maps.sum((1, 2)), scores) < 1e-6:  # no bias of another kind
        error = max(error, relative_error(case.maps[:, 0], maps))
    return error


def _image_and_layer_biases(case: Case) -> Tensor:
    """What the image and the biases of linear layers, convolutions, batch norms add, [K, H, W]."""
    leaf = case.image.clone().requires_grad_()
    points, biases = [leaf], [case.image]

    def noted(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def layer(x: Tensor, *arguments: Any, **named: Any) -> Tensor:
            points.append(function(x, *arguments, **named))
            at_zero = function(torch.zeros_like(x), *arguments, **named)
            biases.append(at_zero.detach())
            return points[-1].clone()  # the next layer may work in place on it

        return layer

    layers = {name: noted(getattr(F, name)) for name in ("conv2d", "linear", "batch_norm")}
    scores = case.explained(logits_through(StandIns(layers), case, leaf))[0]
    maps = torch.zeros(len(scores), *case.image.shape[2:], dtype=torch.float64)
    for point, bias in zip(points, biases, strict=True):
        if len(point) != 1:  # windows: this network has attention, and so other biases
            break
        terms = per_class(scores, point) * bias
        terms = terms.sum(1) if terms.ndim == 4 else terms.flatten(1).sum(1)[:, None, None]
        maps += _spread(terms, maps)
    return maps


def _spread(terms: Tensor, maps: Tensor) -> Tensor:
    """Terms [K, h, w] at the pixels [K, H, W] that a resize to (h, w) reads, by its weights."""
    if terms[0].numel() == 1:
        return terms.expand_as(maps) / maps[0].numel()
    pixels = torch.zeros_like(maps).requires_grad_()
    grid = interpolate(pixels[None], terms.shape[1:], mode="bilinear", antialias=True)[0]
    return torch.autograd.grad(grid, pixels, terms)[0]
