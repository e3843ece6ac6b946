"""AblationCAM: features weighted by what the logit loses when their channel is set to zero.

    w_cd = y_c - y_c(channel A_d set to zero),     CAM_c(i, j) = Σ_d w_cd · A_d(i, j)

Desai & Ramaswamy 2020 (WACV). No gradients: where these are saturated, the weights are not.

Departures from the paper: the map is signed (no ReLU) and not normalised, and the weights are not
divided by y_c, which would turn the map of a class with a negative logit over and let a logit near
zero rule the comparison between classes. Of tokens only the patches are set to zero. Cost: D + 1
forward passes for D channels; any number of classes is free.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from var_exp.engine.gradients import changed_output, layer_output
from var_exp.engine.scores import check_logits, class_scores
from var_exp.methods.cam import CAM, weighted_sum
from var_exp.models.frozen import frozen
from var_exp.models.selfcheck import Needs
from var_exp.models.targets import find_target
from var_exp.types import Classes, Images


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

        def ablated_scores(rows: Tensor, channels: Tensor) -> Tensor:
            def ablate(output: Tensor) -> Tensor:
                output = output.clone()
                target.to_map(output)[torch.arange(len(rows)), channels] = 0  # a view of it
                return output

            with torch.no_grad(), frozen(model), changed_output(layer, target.run, ablate):
                left = check_logits(model(images[rows]))
            return class_scores(left.double(), classes[rows])

        n_channels = features.shape[1]
        found = [chunk for *_, chunk in self._limit.pairs(len(images), n_channels, ablated_scores)]
        left = torch.cat(found).view(len(images), n_channels, -1)
        weights = class_scores(logits.double(), classes)[:, None] - left
        return weighted_sum(weights.transpose(1, 2).to(features), features)
