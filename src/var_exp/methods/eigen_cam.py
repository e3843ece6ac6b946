"""EigenCAM: the first principal component of the features; it knows no classes.

    CAM(i, j) = Σ_d v_d · A_d(i, j),     v the first right singular vector of A as [h·w, D]

Muhammad & Yeasin 2020, arXiv 2008.00299: as in the paper the features are not centred, other than
in pytorch-grad-cam. A singular vector has no sign of its own: it is chosen so that the map sums to
no less than zero. After a ReLU the map is then nowhere negative.

Departures from the paper: not normalised, as in `gradcam`. The same for all classes, so that there
is nothing to compete. Cost: one forward pass; the decomposition is in float64.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from var_exp.engine.gradients import layer_output
from var_exp.engine.scores import check_range
from var_exp.methods.cam import CAM
from var_exp.models.selfcheck import Needs
from var_exp.models.targets import find_target
from var_exp.types import Classes, Images


@dataclass(frozen=True)
class EigenCAM(CAM):
    """First principal component of the model's last spatial feature map; the same for every class.

    Options and errors are those of `CAM`.
    """

    class_specific: ClassVar[bool] = False
    needs: ClassVar[Needs] = "calls"

    def coarse(
        self, model: nn.Module, images: Images, classes: Classes
    ) -> Float[Tensor, "B K h w"]:
        """Class activation maps in the resolution of the target layer."""
        target = find_target(model, images[:1], self.layer)
        layer = model.get_submodule(target.name)
        logits, output = layer_output(model, images, layer, target.run)
        check_range(classes, logits.shape[1])
        features = target.to_map(output)
        positions = features.flatten(2).transpose(1, 2).double()
        left, values, _ = torch.linalg.svd(positions, full_matrices=False)
        component = left[..., 0] * values[:, :1]  # [B, h · w]
        signs = torch.where(component.sum(1, keepdim=True) < 0, -1, 1)
        cams: Tensor = (component * signs).to(features).unflatten(1, target.grid)
        return cams[:, None].expand(-1, classes.shape[1], -1, -1)
