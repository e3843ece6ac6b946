"""SmoothGrad: the gradient averaged over noisy copies of the image.

    φ_c = 1/n Σ_i d y_c / d x (x + ε_i),  ε_i ~ N(0, σ²)     Smilkov et al. 2017, arXiv 1706.03825

with σ a share of each image's own range of values, as in the paper; the maps stay signed (the paper
shows absolute values). Cost: `samples` forward and K · samples backward passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from var_exp.engine.chunks import add_by_row, check_at_least_one
from var_exp.engine.gradients import class_gradients
from var_exp.methods.method import Method
from var_exp.seeds import sample_generator
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class SmoothGrad(Method):
    """Mean gradient under Gaussian noise; all classes see the same noise.

    Args:
        samples: Noisy copies per image.
        noise: Standard deviation as a share of the image's range (maximum - minimum); >= 0, the
            paper takes 0.1 to 0.2.
        seed: Of the noise, combined with each sample's id.

    Raises:
        ValueError: an option out of its range.
    """

    samples: int = 25
    noise: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(samples=self.samples)
        if self.noise < 0:
            raise ValueError(f"noise must not be negative, got {self.noise}; set noise=0.15.")

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        deviation = self.noise * (images.amax((1, 2, 3)) - images.amin((1, 2, 3)))

        def noisy(rows: Tensor, draws: Tensor) -> Tensor:
            # always float32 on the CPU: the noise is the same for any type and device
            noise = torch.stack(
                [
                    torch.randn(
                        images.shape[1:], generator=sample_generator(self.seed, ids[row], draw)
                    )
                    for row, draw in zip(rows.tolist(), draws.tolist(), strict=True)
                ]
            ).to(images)
            copies = images[rows] + deviation[rows].view(-1, 1, 1, 1) * noise
            return class_gradients(model, copies, classes[rows]).gradients

        maps = images.new_zeros(*classes.shape, *images.shape[1:])
        for rows, _, gradients in self._limit.pairs(len(images), self.samples, noisy):
            add_by_row(maps, rows, gradients)
        return maps.div_(self.samples)
