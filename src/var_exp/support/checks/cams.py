"""Class activation maps: a forward hook on the layer, and plain autograd."""

import math
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from var_exp.models.spatial import Target
from var_exp.models.targets import find_stages, find_target
from var_exp.support.checks.activations import guided
from var_exp.support.checks.case import Case, per_class, relative_error


def gradcam(case: Case) -> float:
    """Output of the layer by a forward hook, weighted with its mean gradients by autograd."""
    return relative_error(case.maps, _upsampled(case, _gradcam(case)))


def guided_gradcam(case: Case) -> float:
    """Both by hooks: on the activations' nodes and on the layer."""
    return relative_error(case.maps, guided(case) * _upsampled(case, _gradcam(case).relu()))


def gradcam_plus_plus(case: Case) -> float:
    """The paper's weights of what a hook on the layer and autograd give."""
    features, g = _features(case)
    # its g² / (2 g² + g³ Σ A), with g cancelled
    denominators = 2 + features.sum((2, 3), keepdim=True) * g
    shares = torch.where(denominators == 0, 0, 1 / denominators)
    weights = (shares * g.relu()).sum((2, 3), keepdim=True)
    return relative_error(case.maps, _upsampled(case, (weights * features).sum(1, keepdim=True)))


def hirescam(case: Case) -> float:
    """Output of the layer by a forward hook, times its gradients by autograd."""
    features, gradients = _features(case)
    return relative_error(case.maps, _upsampled(case, (features * gradients).sum(1, True)))


def layercam(case: Case) -> float:
    """Output of the layer by a forward hook, times its positive gradients by autograd."""
    features, gradients = _features(case)
    return relative_error(case.maps, _upsampled(case, (features * gradients.relu()).sum(1, True)))


def refine_cam(case: Case) -> float:
    """Outputs of the layers by forward hooks, positive gradients by autograd, NumPy's logaddexp."""
    inverse = []
    for stage in find_stages(case.model, case.image, case.method.layers):
        features, gradients = _features(case, target=stage)
        fine = _upsampled(case, (features * gradients.relu()).sum(1, True).relu())
        fine = fine - fine.amin((2, 3), keepdim=True)
        largest = fine.amax((2, 3), keepdim=True)
        inverse.append((largest / fine).nan_to_num(nan=torch.inf, posinf=torch.inf).numpy())
    mean = np.logaddexp.reduce(np.stack(inverse)) - math.log(len(inverse))
    return relative_error(case.maps, torch.from_numpy(1 / mean))


def finer_cam(case: Case) -> float:
    """GradCAM by a hook and autograd, of the margin written out for one class at a time."""

    def margins(logits: Tensor) -> Tensor:
        found = []
        for c in case.classes[0].tolist():
            others = sorted(set(range(len(logits))) - {c}, key=lambda i: abs(logits[i] - logits[c]))
            nearest = logits[others[: case.method.references]]
            weights = nearest.exp() / nearest.exp().sum()
            found.append((weights * (logits[c] - case.method.alpha * nearest)).sum())
        return torch.stack(found)

    return relative_error(case.maps, _upsampled(case, _gradcam(case, margins)))


def case_(case: Case) -> float:
    """GradCAM's weights by a hook and autograd, less their fit to the mean of the contrasts."""
    with torch.no_grad():
        order = case.model(case.image)[0].argsort(descending=True).tolist()
    cams = []
    for c in case.classes[0].tolist():
        known = [c, *[other for other in order if other != c][: case.method.contrasts]]
        features, gradients = _features(case, itemgetter(known))
        own, *contrasts = gradients.mean((2, 3))
        shared = torch.stack(contrasts).mean(0)[:, None]
        fit = shared @ torch.linalg.lstsq(shared, own[:, None]).solution
        cams.append(((own - fit[:, 0])[:, None, None] * features[0]).sum(0, True))
    return relative_error(case.maps, _upsampled(case, torch.stack(cams)))


def ablation_cam(case: Case) -> float:
    """Output of the layer by a forward hook, its channels multiplied by zero one by one."""
    features, _ = _features(case)
    layer = case.model.get_submodule(find_target(case.model, case.image, case.method.layer).name)
    cams = torch.zeros(len(case.maps), 1, *features.shape[2:], dtype=torch.float64)
    with torch.no_grad():
        before = case.scores(case.image)[0]
        for d, channel in enumerate(features[0]):
            handle = layer.register_forward_hook(_without(case, d))
            after = case.scores(case.image)[0]
            handle.remove()
            cams += (before - after).view(-1, 1, 1, 1) * channel
    return relative_error(case.maps, _upsampled(case, cams))


def eigen_cam(case: Case) -> float:
    """First eigenvector of the Gram matrix of a hooked layer's output over its places."""
    features, _ = _features(case)
    places = features[0].flatten(1)  # [D, h · w]
    values, vectors = torch.linalg.eigh(places.T @ places)
    component = vectors[:, -1] * values[-1].sqrt()
    cam = (component * component.sum().sign()).view(1, 1, *features.shape[2:])
    return relative_error(case.maps, _upsampled(case, cam).expand_as(case.maps))


def scorecam(case: Case) -> float:
    """The weights of the channels that a hook on the layer gives, from masks made one by one."""
    features, _ = _features(case)
    masks = [torch.zeros(1, *case.image.shape[2:])]
    for channel in features[0]:
        fine = _upsampled(case, channel[None, None])[0]
        span = fine.max() - fine.min() if channel.max() > channel.min() else torch.inf
        masks.append((fine - fine.min()) / span)
    with torch.no_grad():
        seen = case.model(case.image * torch.stack(masks)).softmax(1)[:, case.classes[0]]
    cams = torch.einsum("dk,dij->kij", seen[1:] - seen[0], features[0])[:, None]
    return relative_error(case.maps, _upsampled(case, cams))


def _gradcam(case: Case, score: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Class activation maps [K, 1, h, w]."""
    features, gradients = _features(case, score)
    return (features * gradients.mean((2, 3), keepdim=True)).sum(1, keepdim=True)


def _features(
    case: Case, score: Callable[[Tensor], Tensor] | None = None, target: Target | None = None
) -> tuple[Tensor, Tensor]:
    """Output [1, D, h, w] of a layer and gradients [n, D, h, w] of n scores there.

    The scores are those of the classes, or made from the logits [N]; the layer is the method's own
    where none is given.
    """
    target = target or find_target(case.model, case.image, case.method.layer)
    outputs: list[Tensor] = []

    def keep(_module: object, _inputs: object, output: Any) -> object:
        several = isinstance(output, tuple)
        outputs.append(output[0] if several else output)
        same = outputs[-1].clone()  # a later layer may work in place on it
        return (same, *output[1:]) if several else same

    handle = case.model.get_submodule(target.name).register_forward_hook(keep)
    logits = case.model(case.image.clone().requires_grad_())[0]
    handle.remove()
    scores = logits[case.classes[0]] if score is None else score(logits)
    point = outputs[target.run]
    return target.to_map(point.detach()), target.to_map(per_class(scores, point))


def _without(case: Case, channel: int) -> Callable[[object, object, Tensor], Tensor]:
    """Hook that multiplies one channel of the target layer by zero, where its map lies."""
    target = find_target(case.model, case.image, case.method.layer)

    def hook(_module: object, _inputs: object, output: Tensor) -> Tensor:
        keep = torch.ones_like(output)
        if target.layout == "tokens":
            keep[:, target.prefix : target.prefix + math.prod(target.grid), channel] = 0
        elif target.layout == "channels_last":
            keep[..., channel] = 0
        else:
            keep[:, channel] = 0
        return output * keep

    return hook


def _upsampled(case: Case, cams: Tensor) -> Tensor:
    """Maps [K, 1, H, W] of image size."""
    size = (case.image.shape[2], case.image.shape[3])
    return interpolate(cams, size, mode="bilinear", align_corners=False)
