"""What class activation maps share: the layer, its features and gradients, and the upsampling.

A CAM is a map per class in the resolution (h, w) of a feature map A [B, D, h, w], brought to image
size bilinearly. Most are weighted sums of the channels,

    CAM_c(i, j) = Σ_d w_cd · A_d(i, j)

and differ in the weights.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from var_exp.engine.gradients import Score, class_gradients
from var_exp.engine.scores import class_scores
from var_exp.methods.method import Method
from var_exp.models.targets import find_target
from var_exp.types import Classes, Images, Logits, Maps, UnsupportedModel


@dataclass(frozen=True)
class CAM(Method):
    """A map per class from the features of one layer; one map channel.

    CNNs, channels-last networks and vision transformers alike; `models.targets` says how the layer
    and the token grid are found.

    Args:
        layer: Dotted name of another layer, such as "layer3"; None finds the last spatial one.

    Raises:
        ConfigError: by `check` and `attribute`, when the model has no such layer.
        UnsupportedModel: likewise, when there is no spatial feature map.
    """

    invariant_to_folding: ClassVar[bool] = True

    layer: str | None = None

    def _check(self, model: nn.Module, image: Images) -> None:
        """Refuse a model without a spatial feature map that the logits depend on."""
        find_target(model, image, self.layer)

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        return find_target(model, images[:1], self.layer).to_pixels(
            self.coarse(model, images, classes), images
        )

    @abstractmethod
    def coarse(
        self, model: nn.Module, images: Images, classes: Classes
    ) -> Float[Tensor, "B K h w"]:
        """Class activation maps in the resolution of the target layer."""


class FeatureGradients(NamedTuple):
    """What `feature_gradients` found.

    Attributes:
        logits: [B, N].
        features: [B, D, h, w], channels first, without prefix tokens.
        gradients: [B, K, D, h, w], column k = d score of classes[:, k] / d features.
    """

    logits: Logits
    features: Float[Tensor, "B D h w"]
    gradients: Float[Tensor, "B K D h w"]


def feature_gradients(
    model: nn.Module,
    images: Images,
    classes: Classes,
    layer: str | None,
    *,
    score: Score = class_scores,
) -> FeatureGradients:
    """Features of a layer and the gradients of K scores there, from one forward pass.

    Args:
        model: Any module from images to logits; it runs in eval mode.
        images: [B, C, H, W].
        classes: [B, K] int64.
        layer: Dotted name of the layer; None finds the last spatial one.
        score: What is differentiated; the logits of the classes by default.

    Raises:
        ValueError: a class that the model does not have.
        ConfigError: the model has no such layer.
        UnsupportedModel: there is no spatial feature map, or the model returns no logits.
    """
    target = find_target(model, images[:1], layer)
    logits, point, gradients = class_gradients(
        model, images, classes, layer=model.get_submodule(target.name), run=target.run, score=score
    )
    by_class = target.to_map(gradients.flatten(0, 1)).unflatten(0, gradients.shape[:2])
    return FeatureGradients(logits, target.to_map(point), by_class)


def weighted_sum(
    weights: Float[Tensor, "B K D"], features: Float[Tensor, "B D h w"]
) -> Float[Tensor, "B K h w"]:
    """Sum the channels with the weights of each class."""
    cams: Tensor = (weights @ features.flatten(2)).unflatten(2, features.shape[2:])
    return cams


def in_unit_range(values: Float[Tensor, "*rows n"]) -> Float[Tensor, "*rows n"]:
    """Bring each row to [0, 1], least value 0 and largest 1; zeros where all are alike."""
    lowest, highest = values.aminmax(dim=-1, keepdim=True)
    span = highest - lowest
    scaled: Tensor = (values - lowest) / torch.where(span > 0, span, torch.ones_like(span))
    return scaled


def other_logits(
    logits: Logits, classes: Classes, ranking: Float[Tensor, "B K N"], count: int
) -> Float[Tensor, "B K n"]:
    """Logits of the classes that rank highest beside each of the K, best first.

    Args:
        logits: [B, N].
        classes: [B, K] int64, none of which is its own competitor.
        ranking: [B, K, N], of all classes for each of the K; not differentiated.
        count: How many to take; all others when the model has fewer.

    Raises:
        UnsupportedModel: the model has one class.
    """
    if logits.shape[1] < 2:
        raise UnsupportedModel(
            "the model has a single class, so there is none to compare it with; use method=gradcam."
        )
    eligible = ranking.detach().scatter(2, classes[:, :, None], float("-inf"))
    chosen = eligible.topk(min(count, logits.shape[1] - 1), dim=2).indices
    return logits[:, None].expand_as(ranking).gather(2, chosen)
