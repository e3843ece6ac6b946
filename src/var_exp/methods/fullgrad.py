"""FullGrad: input x gradient, plus the gradients of all biases at the place of their layer.

    φ_c = Σ_channels x · d y_c / d x + Σ_calls ψ( Σ_channels b · d y_c / d f(z) )

Srinivas & Fleuret 2019, arXiv 1905.00780. `engine.full_gradients.attribution` says what the biases
b of a network are, those of batch normalisation and the implicit ones of smooth activations,
normalisation and attention included; ψ brings a layer's map to image size.

Departures from the paper: ψ takes no absolute value and rescales nothing, so the map is signed, in
units of the logit, and sums to y_c exactly; upsampling keeps sums. Biases without a place, such as
those of the classifier, which the authors' code leaves out, and those inside windows of attention,
are spread evenly over the image.
In networks that multiply signals (attention, layer normalisation) most of the map is implicit bias.
Cost: a forward pass, in which calls of implicit bias are made three times, one of a single image,
and K backward passes; the gradients at all biases are held at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from var_exp.engine.full_gradients.attribution import full_gradients
from var_exp.engine.scores import MostDifferent
from var_exp.methods.method import Method
from var_exp.models.derivative import another_picture
from var_exp.types import Classes, Images, Logits, Maps, UnsupportedModel


@dataclass(frozen=True)
class FullGrad(Method):
    """Full gradients, signed and complete: each map sums to its logit; one map channel.

    Raises:
        UnsupportedModel: by `check` and `attribute`, when a part of the model cannot be seen, so
            that its biases would be missing.
    """

    def _check(self, model: nn.Module, image: Images) -> None:
        """Refuse a model with biases that cannot be found, or whose maps are not complete."""
        score = MostDifferent()
        images = torch.cat([another_picture(image), image])  # so that it shows if they meet
        one = torch.zeros(2, 1, dtype=torch.int64)
        found = full_gradients(model, images, one, score=score).sum((2, 3, 4))
        expected = score.values
        off = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
        rounding = 10 * torch.finfo(expected.dtype).eps ** 0.5
        if not off <= max(rounding, 1e-3):  # also NaN
            raise UnsupportedModel(
                f"the maps sum to something {off:.2%} off the logits: the model mixes the pictures "
                "of a batch, or calls what has no forward-mode derivative, so that FullGrad would "
                "not be complete; use a gradient method such as ig."
            )

    def sums(self, model: nn.Module, images: Images, logits: Logits) -> Logits:
        """The logits themselves."""
        return logits

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        return full_gradients(model, images, classes)
