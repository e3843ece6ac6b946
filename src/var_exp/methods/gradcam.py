"""GradCAM and guided GradCAM: feature maps weighted by the mean gradient of the logit.

    CAM_c(i, j) = Σ_d A_d(i, j) · mean_ij d y_c / d A_d(i, j)

Selvaraju et al. 2017, arXiv 1610.02391.

Departures from the paper: the map is signed (no ReLU) and not normalised; both are matters of
display. Guided GradCAM multiplies guided backpropagation with the paper's map, relu(CAM_c)
upsampled, bilinearly as in the paper or to the nearest cell as Captum and the published code of VAR
do. Cost: one forward pass and K backward passes through the layers after the target, plus
one forward pass of one image to find the target.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

from jaxtyping import Float
from torch import Tensor, nn

from var_exp.engine.activations import Activations
from var_exp.methods.cam import CAM, feature_gradients, weighted_sum
from var_exp.methods.guided_backprop import GuidedBackprop
from var_exp.methods.method import Method
from var_exp.models.spatial import Upsampling
from var_exp.models.targets import find_target
from var_exp.types import Classes, Images, Logits, Maps


@dataclass(frozen=True)
class GradCAM(CAM):
    """Signed, unnormalised GradCAM at the model's last spatial feature map, brought to image size.

    Options and errors are those of `CAM`.
    """

    def coarse(
        self, model: nn.Module, images: Images, classes: Classes
    ) -> Float[Tensor, "B K h w"]:
        """Class activation maps in the resolution of the target layer."""
        _, features, gradients = feature_gradients(model, images, classes, self.layer)
        return weighted_sum(gradients.mean((3, 4)), features)


@dataclass(frozen=True)
class GuidedGradCAM(Method):
    """Guided backpropagation times the positive part of GradCAM, in the image's resolution.

    Args:
        activations: Which activations are guided, as in `GuidedBackprop`.
        layer: Target layer of GradCAM, as there.
        upsampling: Of GradCAM to image size, "bilinear" or "nearest".

    Raises:
        ValueError: another value of activations or upsampling.
        ConfigError: by `check` and `attribute`, when the model has no such layer.
        UnsupportedModel: likewise, when there is nothing to guide, or no spatial feature map.
    """

    invariant_to_folding: ClassVar[bool] = True

    activations: Activations = "all"
    layer: str | None = None
    upsampling: Upsampling = "bilinear"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._guided_backprop()  # checks the option
        if self.upsampling not in get_args(Upsampling):
            raise ValueError(
                f"upsampling must be one of {', '.join(get_args(Upsampling))}, got "
                f"'{self.upsampling}'; choose one of these."
            )

    def _look(self, model: nn.Module, image: Images) -> Logits:
        """Refuse a model without an activation to guide."""
        return self._guided_backprop()._look(model, image)

    def _check(self, model: nn.Module, image: Images) -> None:
        """Refuse a model without a spatial feature map."""
        find_target(model, image, self.layer)

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        cams = self._gradcam().coarse(model, images, classes).relu_()
        target = find_target(model, images[:1], self.layer)
        guided = self._guided_backprop()._attribute(model, images, classes, ids)
        return guided.mul_(target.to_pixels(cams, images, self.upsampling))

    def _guided_backprop(self) -> GuidedBackprop:
        return GuidedBackprop(activations=self.activations)

    def _gradcam(self) -> GradCAM:
        return GradCAM(layer=self.layer)
