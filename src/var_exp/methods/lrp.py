"""Layer-wise relevance propagation (LRP) for networks without attention.

    R_i = Σ_j c_ij / Σ_i c_ij · R_j,   R = y_c at the logit of class c and 0 at the others

(Bach et al. 2015, PLoS ONE 10(7)) where c_ij is what input i contributes to output j, by a rule for
each kind of layer (`engine.relevance.rules`):

    composite            layers on the image   convolutions   dense layers
    epsilon              epsilon               epsilon        epsilon
    epsilon_plus_flat    flat                  z_plus         epsilon
    epsilon_gamma_box    z_box                 gamma          epsilon

Names and default values are those of zennit (Anders et al. 2021, arXiv 2106.13200), and on VGG and
ResNet so are the maps; a linear layer on maps with the channels last counts as the convolution that
it is. `engine.relevance.propagation` says what happens outside layers. With a small epsilon the
composite "epsilon" is input x gradient on a ReLU network. Cost: two forward and K backward passes,
without the dear one to the pixels where the rule is flat; with gamma and z_box, twice and three
times that in the layers concerned (docs/speed.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from var_exp.engine.relevance import rules as rules
from var_exp.engine.relevance.calls import Composite
from var_exp.engine.relevance.propagation import class_relevance, relevance
from var_exp.methods.method import Method
from var_exp.models.declared import input_spec
from var_exp.types import Classes, ConfigError, Images, Logits, Maps, UnsupportedModel

CompositeName: TypeAlias = Literal["epsilon", "epsilon_plus_flat", "epsilon_gamma_box"]


@dataclass(frozen=True)
class LRP(Method):
    """Relevance of every pixel for the logit; it roughly sums to the logit.

    Biases keep their part of the relevance, so that the sum falls short of the logit.

    Args:
        composite: Which layers get which rule: "epsilon", "epsilon_plus_flat" or
            "epsilon_gamma_box".
        epsilon: Stabiliser of the epsilon rule, in the units of a layer's outputs; > 0. A large one
            absorbs weak and contradictory relevance.
        gamma: Extra weight of contributions that agree with the output's sign; >= 0, 0 is the
            epsilon rule.
        box: Lowest and highest value of a normalised pixel, for the z-box rule; None takes black
            and white by the normalisation that the model names (timm's `pretrained_cfg`).

    Raises:
        ValueError: an option out of its range; by `attribute`, pixels outside of the box.
        UnsupportedModel: by `check` and `attribute`, when the model has attention or computes
            something that has no rule, or names no normalisation for the box.
    """

    invariant_to_folding: ClassVar[bool] = True  # relevance merges batch norm itself

    composite: CompositeName = "epsilon_plus_flat"
    epsilon: float = 1e-6
    gamma: float = 0.25
    box: Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.composite not in get_args(CompositeName):
            raise ValueError(
                f"composite must be one of {', '.join(get_args(CompositeName))}, got "
                f"'{self.composite}'; choose one of these."
            )
        if self.epsilon <= 0:
            raise ValueError(f"epsilon must be above 0, got {self.epsilon}; set epsilon=1e-6.")
        if self.gamma < 0:
            raise ValueError(f"gamma must not be negative, got {self.gamma}; set gamma=0.25.")
        if self.box is not None and (len(self.box) != 2 or self.box[0] >= self.box[1]):
            raise ValueError(
                f"box must be a lowest and a highest pixel value, got {self.box}; "
                "set box=[-2.2,2.7], or leave it out."
            )

    def _look(self, model: nn.Module, image: Images) -> Logits:
        """Refuse a model with attention, or with something that has no rule."""
        one = torch.zeros(1, 1, dtype=torch.int64)
        return class_relevance(model, image, one, self._rules(model, image)).logits

    def _check(self, model: nn.Module, image: Images) -> None:
        """Refuse a picture with pixels outside the box."""
        self._check_pixels(model, image)

    def sums(self, model: nn.Module, images: Images, logits: Logits) -> Logits | None:
        """The logits, with the epsilon rule alone; what biases absorb is missing from the maps."""
        return logits if self.composite == "epsilon" else None

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        self._check_pixels(model, images)
        return relevance(model, images, classes, self._rules(model, images))

    def _rules(self, model: nn.Module, images: Images) -> Composite:
        epsilon = rules.epsilon(self.epsilon)
        if self.composite == "epsilon":
            return Composite(epsilon, epsilon, epsilon, epsilon, attention=False)
        if self.composite == "epsilon_plus_flat":
            z_plus = rules.z_plus()
            return Composite(rules.flat(), z_plus, z_plus, epsilon, attention=False)
        gamma = rules.gamma(self.gamma)
        z_box = rules.z_box(*self._bounds(model, images))
        return Composite(z_box, gamma, gamma, epsilon, attention=False)

    def _bounds(self, model: nn.Module, images: Images) -> tuple[Tensor, Tensor]:
        """Lowest and highest pixel value of every channel, each [C]."""
        if self.box is not None:
            low, high = images.new_tensor(self.box)[:, None].expand(-1, images.shape[1])
        else:
            try:
                spec = input_spec(model)
            except ConfigError as error:
                raise UnsupportedModel(
                    f"{type(model).__name__} names no normalisation, so the values of black and "
                    "white are unknown; set box=[LOWEST,HIGHEST]."
                ) from error
            mean, std = images.new_tensor(spec.mean), images.new_tensor(spec.std)
            low, high = -mean / std, (1 - mean) / std
        return low, high

    def _check_pixels(self, model: nn.Module, images: Images) -> None:
        """Raise ValueError for pixels that no picture has; the rule of the box needs none."""
        if self.composite != "epsilon_gamma_box":
            return
        low, high = self._bounds(model, images)
        lowest, highest = float(images.amin()), float(images.amax())
        tolerance = 1e-3  # rounding of the resized photograph
        if lowest < float(low.min()) - tolerance or highest > float(high.max()) + tolerance:
            raise ValueError(
                f"pixels must lie in the box {low.min():.2f} … {high.max():.2f}, got "
                f"{lowest:.2f} … {highest:.2f}; set box to the range of normalised pixels."
            )
