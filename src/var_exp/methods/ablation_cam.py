"""AblationCAM: features weighted by what the logit loses when their channel is set to zero.

    w_cd = y_c - y_c(channel A_d set to zero),     CAM_c(i, j) = Σ_d w_cd · A_d(i, j)

Desai & Ramaswamy 2020 (WACV). No gradients: where these are saturated, the weights are not.

Departures from the paper: the map is signed (no ReLU) and not normalised, and the weights are not
divided by y_c, which would turn the map of a class with a negative logit over and let a logit near
zero rule the comparison between classes. Of tokens only the patches are set to zero. Cost: D + 1
forward passes for D channels, of which all but one for each chunk of `max_batch` begin at the layer
where the network treats images apart; any number of classes is free.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from var_exp.engine.equal_rows import of_copies
from var_exp.engine.gradients import changed_output, layer_output
from var_exp.engine.scores import check_logits, class_scores
from var_exp.methods.cam import CAM, weighted_sum
from var_exp.models.frozen import frozen
from var_exp.models.selfcheck import Needs
from var_exp.models.targets import Target, find_target
from var_exp.types import Classes, Images, Logits


@dataclass(frozen=True)
class AblationCAM(CAM):
    """Signed AblationCAM at the model's last spatial feature map; forward passes only.

    Options and errors are those of `CAM`.
    """

    needs: ClassVar[Needs] = "calls"

    def coarse(
        self, model: nn.Module, images: Images, classes: Classes
    ) -> Float[Tensor, "B K h w"]:
        """Class activation maps in the resolution of the target layer."""
        target = find_target(model, images[:1], self.layer)
        layer = model.get_submodule(target.name)
        logits, output = layer_output(model, images, layer, target.run)
        features = target.to_map(output)
        channels = features.shape[1]
        left = [
            self._left(model, image, of_image, target, channels)
            for image, of_image in zip(images.split(1), classes.split(1), strict=True)
        ]
        weights = class_scores(logits.double(), classes)[:, None] - torch.stack(left)
        return weighted_sum(weights.transpose(1, 2).to(features), features)

    def _left(
        self, model: nn.Module, image: Images, classes: Classes, target: Target, count: int
    ) -> Float[Tensor, "D K"]:
        """What one image [1, C, H, W] has left of its logits without each of D channels."""
        layer = model.get_submodule(target.name)

        def scores_without(channels: Tensor) -> Tensor:
            def ablate(output: Tensor) -> Tensor:
                keep = torch.ones(output.shape, dtype=output.dtype, device=output.device)
                target.to_map(keep)[torch.arange(len(channels)), channels] = 0  # a view of it
                return output * keep

            def logits_of(copies: Images) -> Logits:
                with torch.no_grad(), frozen(model), changed_output(layer, target.run, ablate):
                    return check_logits(model(copies))

            logits = of_copies(logits_of, image, len(channels))
            return class_scores(logits.double(), classes.expand(len(channels), -1))

        return torch.cat([found for _, found in self._limit.chunks(count, scores_without)])
