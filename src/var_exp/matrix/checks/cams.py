"""Class activation maps: a forward hook on the layer, and plain autograd."""

from torch import Tensor
from torch.nn.functional import interpolate

from var_exp.matrix.checks.activations import guided
from var_exp.matrix.checks.case import Case, per_class, relative_error
from var_exp.models.targets import find_target


def gradcam(case: Case) -> float:
    """Output of the layer by a forward hook, weighted with its mean gradients by autograd."""
    return relative_error(case.maps, _upsampled(case, _gradcam(case)))


def guided_gradcam(case: Case) -> float:
    """Both by hooks: on the activations' nodes and on the layer."""
    return relative_error(case.maps, guided(case) * _upsampled(case, _gradcam(case).relu()))


def _gradcam(case: Case) -> Tensor:
    """Class activation maps [K, 1, h, w]."""
    features, gradients = _features(case)
    return (features * gradients.mean((2, 3), keepdim=True)).sum(1, keepdim=True)


def _features(case: Case) -> tuple[Tensor, Tensor]:
    """Output [1, D, h, w] of the target layer and its gradients [K, D, h, w]."""
    target = find_target(case.model, case.image, case.method.layer)
    outputs: list[Tensor] = []

    def keep(_module: object, _inputs: object, output: Tensor) -> Tensor:
        outputs.append(output)
        return output.clone()  # a later layer may work in place on it

    handle = case.model.get_submodule(target.name).register_forward_hook(keep)
    scores = case.scores(case.image.clone().requires_grad_())[0]
    handle.remove()
    return target.to_map(outputs[0].detach()), target.to_map(per_class(scores, outputs[0]))


def _upsampled(case: Case, cams: Tensor) -> Tensor:
    """Maps [K, 1, H, W] of image size."""
    size = (case.image.shape[2], case.image.shape[3])
    return interpolate(cams, size, mode="bilinear", align_corners=False)
