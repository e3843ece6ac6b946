"""DeepLIFT: the change of the logit from a baseline, passed back by finite differences.

    φ_c = (x - x0) · m_c,   Σ φ_c = y_c(x) - y_c(x0)

with m_c the chain of multipliers Δ output / Δ input, where a gradient is the chain of derivatives
(Shrikumar et al. 2017, arXiv 1704.02685, rescale rule). The baseline x0 is zero in normalised
space, the data set's mean colour.

The paper has layers that are affine, activations of one input, and max pooling (its code): ResNet,
VGG, DenseNet and other networks of ReLU, GELU or SiLU are its rule proper. Products, quotients,
softmax and normalisation by the input's own statistics, as in transformers, ConvNeXt and
squeeze-and-excitation, follow our extension of it (`engine.deeplift.multipliers`), for which the
maps sum to the change as well. Where values of the baseline are level in a max pooling window they
share; SHAP and Captum take the first. Cost: one forward pass of the images, one of the baseline,
which runs once for all images where the network treats them apart, and K backward passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from var_exp.engine.deeplift.differences import contributions
from var_exp.engine.scores import MostDifferent
from var_exp.methods.completeness import change_from_zero
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Logits, Maps, UnsupportedModel


@dataclass(frozen=True)
class DeepLIFT(Method):
    """DeepLIFT with the rescale rule from the zero baseline, on any call that has a rule.

    Images run beside the baseline, so that memory is that of up to twice as many images.

    Raises:
        UnsupportedModel: by `check` and `attribute`, when the model makes a call without a rule;
            by `check`, when the map does not sum to the change of the logit.
    """

    invariant_to_folding: ClassVar[bool] = True  # both are affine

    def _check(self, model: nn.Module, image: Images) -> None:
        """Refuse a model with a call that has no rule, or whose map is not complete."""
        both = torch.cat([torch.zeros_like(image), image])  # y(0) beside y(x), in one pass
        score = MostDifferent()
        one = torch.zeros(2, 1, dtype=torch.int64)
        baselines = torch.zeros_like(image).expand_as(both)
        found = float(contributions(model, both, baselines, one, score=score)[1].sum())
        at_zero, at_image = score.values.flatten().tolist()
        expected = at_image - at_zero
        # wide enough for rounding; what a rule misses is far outside
        rounding = torch.finfo(score.values.dtype).eps ** 0.5 * max(abs(at_zero), abs(at_image))
        if not abs(found - expected) <= 0.01 * abs(expected) + rounding:  # also NaN
            raise UnsupportedModel(
                f"the logit changes by {expected:.3g} from the baseline, the contributions sum to "
                f"{found:.3g}: the model draws random numbers, or does what DeepLIFT's rules do "
                "not see; use a gradient method such as ig."
            )

    def sums(self, model: nn.Module, images: Images, logits: Logits) -> Logits:
        """Change of the logits from the zero baseline."""
        return change_from_zero(model, images, logits)

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        baselines = torch.zeros_like(images[:1]).expand_as(images)  # so that it is run once
        return contributions(model, images, baselines, classes)
