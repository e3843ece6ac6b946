"""GradCAM and guided GradCAM: feature maps weighted by the mean gradient of the logit.

    CAM_c(i, j) = Σ_d A_d(i, j) · mean_ij d y_c / d A_d(i, j)

Selvaraju et al. 2017, arXiv 1610.02391.

Departures from the paper: the map is signed (no ReLU) and not normalised; both are matters of
display. Guided GradCAM multiplies guided backpropagation with the paper's map, relu(CAM_c)
upsampled. Cost: one forward pass and K backward passes through the layers after the target, plus
one forward and backward pass of one image to find the target.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from var_exp.engine.gradients import class_gradients
from var_exp.engine.rules import Activations
from var_exp.methods.guided_backprop import GuidedBackprop
from var_exp.methods.method import Method
from var_exp.models.targets import find_target
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class GradCAM(Method):
    """Signed, unnormalised GradCAM at the model's last spatial feature map, brought to image size.

    CNNs, channels-last networks and vision transformers alike; `models.targets` says how the layer
    and the token grid are found. Upsampling is bilinear; one map channel.

    Args:
        layer: Dotted name of another layer, such as "layer3"; None finds the last one.

    Raises:
        ConfigError: by `check` and `attribute`, when the model has no such layer.
        UnsupportedModel: likewise, when there is no spatial feature map.
    """

    layer: str | None = None

    def check(self, model: nn.Module, image: Images) -> None:
        """Refuse a model without a spatial feature map."""
        find_target(model, image, self.layer)

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        return _upsample(self.coarse(model, images, classes), images)

    def coarse(
        self, model: nn.Module, images: Images, classes: Classes
    ) -> Float[Tensor, "B K h w"]:
        """Class activation maps in the resolution of the target layer."""
        target = find_target(model, images[:1], self.layer)
        _, point, gradients = class_gradients(
            model, images, classes, layer=model.get_submodule(target.name)
        )
        features = target.to_map(point)  # [B, D, h, w]
        weights = target.to_map(gradients.flatten(0, 1)).mean((2, 3)).unflatten(0, classes.shape)
        cams: Tensor = weights @ features.flatten(2)
        return cams.view(*classes.shape, *target.grid)


@dataclass(frozen=True)
class GuidedGradCAM(Method):
    """Guided backpropagation times the positive part of GradCAM, in the image's resolution.

    Args:
        activations: Which activations are guided, as in `GuidedBackprop`.
        layer: Target layer of GradCAM, as there.

    Raises:
        ValueError: another value of activations.
        ConfigError: by `check` and `attribute`, when the model has no such layer.
        UnsupportedModel: likewise, when there is nothing to guide, or no spatial feature map.
    """

    activations: Activations = "all"
    layer: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._guided_backprop()  # checks the option

    def check(self, model: nn.Module, image: Images) -> None:
        """Refuse a model without an activation to guide or without a spatial feature map."""
        self._guided_backprop().check(model, image)
        self._gradcam().check(model, image)

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        cams = self._gradcam().coarse(model, images, classes).relu_()
        guided = self._guided_backprop()._attribute(model, images, classes, ids)
        return guided.mul_(_upsample(cams, images))

    def _guided_backprop(self) -> GuidedBackprop:
        return GuidedBackprop(activations=self.activations)

    def _gradcam(self) -> GradCAM:
        return GradCAM(layer=self.layer)


def _upsample(cams: Float[Tensor, "B K h w"], images: Images) -> Maps:
    """Bring maps to image size bilinearly, with one map channel."""
    size = (images.shape[2], images.shape[3])
    return interpolate(cams, size, mode="bilinear", align_corners=False).unsqueeze(2)
