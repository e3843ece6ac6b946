"""RefineCAM: LayerCAM of several layers, coarse to fine, by a soft minimum of their maps.

    M_c = 1 / log( 1/L Σ_l exp(1 / A_cl) ),   A_cl = LayerCAM of layer l, upsampled, in [0, 1]

A pixel counts where every layer marks it: deep layers say which object, early ones where it ends.
Domeniconi et al. 2026, arXiv 2605.14641, with LayerCAM (arXiv 2605.14641's code has GradCAM++ and
ScoreCAM as well). Each A is relu(CAM), less its least value and over its range, for each class.

Departures from their code: M is 0 only where some A is (they compute exp(1/A) in float32, which
overflows below A = 0.011), and is not stretched to [0, 1] once more. The layers are the last ones
of the coarsest resolutions behind which all that the network knows of the picture passes
(`models.targets.find_stages`), where they list them by name. Since each A has its largest value at
1, maps of classes that are not in the picture are as strong as those of classes that are.
Cost: one forward and K backward passes down to the earliest layer, plus a forward pass of six
pictures to find them.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from var_exp.engine.chunks import check_at_least_one
from var_exp.engine.gradients import changed_output, reduced_gradients
from var_exp.methods.cam import in_unit_range
from var_exp.methods.method import Method
from var_exp.models.targets import find_stages
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class RefineCAM(Method):
    """A soft minimum of the LayerCAM maps of several layers; within [0, 1], one map channel.

    Args:
        layers: How many resolutions count, from the coarsest on; fewer where there are fewer.

    Raises:
        ValueError: layers below 1.
        UnsupportedModel: by `check` and `attribute`, when the features have one resolution alone,
            as those of plain vision transformers, or the places of one are not known.
    """

    invariant_to_folding: ClassVar[bool] = True

    layers: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(layers=self.layers)

    def _check(self, model: nn.Module, image: Images) -> None:
        """Refuse a model whose features have one resolution alone."""
        find_stages(model, image, self.layers)

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        stages = find_stages(model, images[:1], self.layers)

        @contextmanager
        def collect(_: Images) -> Iterator[list[Tensor]]:
            outputs: dict[int, Tensor] = {}
            with ExitStack() as stack:
                for number, stage in enumerate(stages):

                    def keep(output: Tensor, number: int = number) -> Tensor:
                        outputs[number] = output
                        return output.clone()  # a later layer may work in place on it

                    layer = model.get_submodule(stage.name)
                    stack.enter_context(changed_output(layer, stage.run, keep))
                points: list[Tensor] = []
                yield points
                points += [outputs[number] for number in range(len(stages))]

        def mixed(
            features: Sequence[Tensor], gradients: Sequence[Tensor]
        ) -> Float[Tensor, "B 1 H W"]:
            fine = []
            for stage, output, gradient in zip(stages, features, gradients, strict=True):
                cams = (stage.to_map(output) * stage.to_map(gradient).relu()).sum(1, keepdim=True)
                pixels = stage.to_pixels(cams.relu(), images)[:, 0]
                fine.append(in_unit_range(pixels.flatten(2)).view_as(pixels))
            return soft_minimum(torch.stack(fine))

        return reduced_gradients(model, images, classes, collect, mixed)


def soft_minimum(maps: Float[Tensor, "L B c H W"]) -> Float[Tensor, "B c H W"]:
    """1 / log(mean of exp(1 / A)) over L maps within [0, 1]; 0 where one of them is."""
    inverse = 1 / maps  # infinite at 0
    mixed: Tensor = 1 / (inverse.logsumexp(0) - log(len(maps)))
    return mixed
