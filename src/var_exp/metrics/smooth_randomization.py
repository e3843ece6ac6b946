"""Smooth randomisation: model randomisation of maps that are averaged over noisy pictures.

    score = mean over the stages of similarity(mean map, mean map of the model with random layers)
    mean map = mean over draws of the map of x + e,   e normal, of noise times the range of x

Gradients of a deep network are rough, and two rough maps look unlike whatever the model knows: that
part of a fall says nothing about the method. Averaging takes it out of both sides; a refined map is
averaged after it is refined. Where the map of the picture itself is empty or constant, the score is
undefined. Read it beside `randomization`, as passed or failed.

Cost: samples x (stages + 1) attributions, which are held together for one batch: with large
pictures take batch_size=1. Source: sMPRT of Hedström et al., "Sanity Checks Revisited", 2023, arXiv
2401.06465, which takes 50 draws. Quantus 0.6.0 has the same scores from the same maps (to 1e-16);
its last draw is without noise.
"""

from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from var_exp.engine.chunks import check_at_least_one
from var_exp.metrics.model_randomization import LayerOrder, ModelRandomization
from var_exp.metrics.reattribution import Change, Reattribute
from var_exp.metrics.similarity import Looks, Similarity, compare
from var_exp.seeds import sample_generator
from var_exp.types import Images


class SmoothRandomization(ModelRandomization):
    """Mean similarity of averaged maps with those of ever more random models.

    Args:
        order: "top_down", "bottom_up" or "independent".
        similarity: "spearman", "spearman_abs", "spearman_union" or "ssim"; see `map_similarity`.
        stages: Into how many groups the layers are split.
        samples: Draws of noise per picture.
        noise: Standard deviation of the noise, as a share of the range of the normalised picture.
        seed: Of the random layers, and of the noise with the sample's id and the draw.

    Raises:
        ValueError: an option out of its range.
    """

    def __init__(
        self,
        order: LayerOrder = "bottom_up",
        similarity: Similarity = "spearman",
        stages: int = 2,
        samples: int = 10,
        noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(order, similarity, stages, seed)
        check_at_least_one(samples=samples)
        if not noise > 0:
            raise ValueError(f"noise must be positive, got {noise}; the paper takes 0.1.")
        self.samples = samples
        self.noise = noise

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        reattribute: Reattribute,
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        changes: list[tuple[Hashable, Change]] = [(None, _unchanged), *self.changes(reattribute)]
        means = [self._mean(reattribute, key, change) for key, change in changes]
        plain = Looks.of(maps, self.similarity)
        defined, flags = compare(plain, plain, self.similarity)
        looks = [Looks.of(mean, self.similarity) for mean in means]
        first = 1 if self.order == "independent" else 0
        points = [compare(looks[0], other, self.similarity) for other in looks[first:]]
        for _, odd in points:
            flags = flags | odd
        curves = torch.stack([scores for scores, _ in points], 1)
        self.keep(curves.where(defined.isfinite()[:, None], torch.nan), flags, classes, ids)

    def _mean(
        self, reattribute: Reattribute, key: Hashable, change: Change
    ) -> Float[Tensor, "N c h w"]:
        """Mean over the draws of the maps after a change."""
        draws = [
            reattribute.maps(
                ("noisy", self.noise, self.seed, draw, key), self._noisy(change, draw)
            ).double()
            for draw in range(self.samples)
        ]
        return torch.stack(draws).mean(0)

    def _noisy(self, change: Change, draw: int) -> Change:
        def noisy(model: nn.Module, images: Images, ids: Sequence[str]) -> tuple[nn.Module, Images]:
            spans = images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True)
            drawn = [
                torch.randn(image.shape, generator=sample_generator(self.seed, id, draw))
                for image, id in zip(images, ids, strict=True)
            ]
            return change(model, images + self.noise * spans * torch.stack(drawn).to(images), ids)

        return noisy


def _unchanged(model: nn.Module, images: Images, ids: Sequence[str]) -> tuple[nn.Module, Images]:
    return model, images
