"""ScoreCAM: features weighted by the class probability of the image seen through them.

    w_cd = p_c(x · M_d) - p_c(0),     M_d = upsampled A_d, stretched to [0, 1]
    CAM_c(i, j) = Σ_d w_cd · A_d(i, j)

Wang et al. 2020, arXiv 1910.01279, with p the softmax of the logits; a masked-out pixel is zero in
normalised space, the data set's mean colour. A constant channel has no mask: M_d = 0, so that its
weight is 0.

Departures from the paper: the map is signed (no ReLU) and not normalised; it is negative where a
channel makes the class less likely than the empty image does, or where a feature is negative. The
algorithm in the paper's second version ends in a softmax over the channels; its first version and
the authors' code do not have it, and neither has this: with hundreds of channels, each weight in
[-1, 1], it gives all channels and classes almost the same weight. The authors' code also leaves out
p_c(0), which only moves all weights of a class. Cost: D + 1 forward passes for D channels; any
number of classes is free.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from var_exp.engine.gradients import layer_output
from var_exp.engine.perturb import masked_scores
from var_exp.engine.scores import named_scores
from var_exp.methods.cam import CAM, weighted_sum
from var_exp.models.selfcheck import Needs
from var_exp.models.targets import Target, find_target
from var_exp.types import Classes, Images


@dataclass(frozen=True)
class ScoreCAM(CAM):
    """Signed ScoreCAM at the model's last spatial feature map; forward passes only.

    Options and errors are those of `CAM`.
    """

    refiner: ClassVar[str] = "var_by_class"  # channels are weighted by the class's probability

    needs: ClassVar[Needs] = "calls"

    def coarse(
        self, model: nn.Module, images: Images, classes: Classes
    ) -> Float[Tensor, "B K h w"]:
        """Class activation maps in the resolution of the target layer."""
        target = find_target(model, images[:1], self.layer)
        _, output = layer_output(model, images, model.get_submodule(target.name), target.run)
        features = target.to_map(output)
        # an empty channel at the end, whose mask leaves the empty image
        channels = pad(features, (0, 0, 0, 0, 0, 1))
        seen = masked_scores(
            model,
            images,
            classes,
            lambda rows, indices: _masks(channels[rows, indices], target, images),
            channels.shape[1],
            limit=self._limit,
            score=partial(named_scores, score="probability"),
        )  # [B, D + 1, K]
        weights = (seen[:, :-1] - seen[:, -1:]).transpose(1, 2)
        return weighted_sum(weights.to(features), features)


def _masks(
    channels: Float[Tensor, "n h w"], target: Target, images: Images
) -> Float[Tensor, "n 1 H W"]:
    """Upsample each channel and stretch it to [0, 1]; a constant one becomes 0."""
    fine = target.to_pixels(channels[:, None], images)[:, 0]
    low, high = fine.amin((2, 3), keepdim=True), fine.amax((2, 3), keepdim=True)
    # asked of the channel too: upsampled, a constant differs by rounding, which would be stretched
    constant = channels.amax((1, 2)) == channels.amin((1, 2))
    empty = constant.view(-1, 1, 1, 1) | (high == low)
    return ((fine - low) / (high - low)).masked_fill(empty, 0)
