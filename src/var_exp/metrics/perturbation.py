"""The perturbation engine: exchange pixels in the order of a map and watch the class probability.

Point j of a curve, j = 0..steps, has the round(j HW / steps) first pixels of the order exchanged
(all channels together), so both ends are included and every step takes the same share of the
picture. With steps = 224 at 224 px these are RISE's 224 pixels per step.

    deletion:  image -> baseline        insertion:  baseline -> image
    AUC = trapezoid of the curve over the share of exchanged pixels, in [0, 1]

Pixels are ranked once per map, largest value (channels summed, signed) first. Equal pixels, the
normal case for sparse maps, are ranked by the base map when there is one, then at random with a
stream per sample id. Cost: (steps + 1) forward passes per map, batched over steps and images.

Source: Petsiuk, Das, Saenko, "RISE", BMVC 2018 (the score there is that of the top-1 class; here of
the class asked about).
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name everybody knows)

from var_exp.metrics.base import Flag, SampleMetric
from var_exp.metrics.share import pixel_values
from var_exp.seeds import sample_generator
from var_exp.types import Images, Predict

Baseline = Literal["zero", "blur"]
Mode = Literal["insertion", "deletion"]
Ties = Literal["random", "base"]


def gaussian_blur(images: Images) -> Images:
    """Blur with an 11 x 11 Gaussian of sigma 5 px, zero padding (zero is the mean colour)."""
    offsets = torch.arange(-5, 6, dtype=torch.float64, device=images.device)
    weights = torch.exp(-0.5 * (offsets / 5.0) ** 2)
    column = (weights / weights.sum()).view(1, 1, -1, 1).expand(images.shape[1], 1, -1, 1)
    # In float64, which autocast leaves alone.
    blurred = F.conv2d(images.double(), column, padding=(5, 0), groups=images.shape[1])
    blurred = F.conv2d(blurred, column.mT, padding=(0, 5), groups=images.shape[1])
    return blurred.to(images.dtype)


_BASELINES: dict[Baseline, Callable[[Images], Images]] = {
    "zero": torch.zeros_like,
    "blur": gaussian_blur,
}


def perturbation_curves(
    predict: Predict,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    mode: Mode,
    *,
    steps: int,
    baseline: Baseline,
    base_maps: Float[Tensor, "N _ _ _"] | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    max_batch: int = 64,
) -> tuple[Float[Tensor, "N points"], Int[Tensor, " N"]]:
    """Probability of the class while pixels are exchanged in the order of the map.

    Args:
        predict: From images [n, C, H, W] to logits [n, N]; a model in eval mode.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class that is asked about.
        maps: [N, c, h, w]; channels are summed, then resized to the size of the images.
        mode: "deletion" starts from the image, "insertion" from the baseline.
        steps: Number of steps, at least 1.
        baseline: "zero" (the mean colour, in normalised space) or "blur" (`gaussian_blur`).
        base_maps: [N, c, h, w] that rank the pixels which `maps` leaves equal.
        ids: N sample ids, for the random order of what is still equal.
        seed: Seed of that order.
        max_batch: Most images in one forward; the result does not depend on it.

    Returns:
        Curves [N, steps + 1] float64 in [0, 1], NaN for a map that is not finite; flags [N].

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    _check(images, classes, maps, base_maps)
    check_options(steps, baseline, max_batch)
    size = (images.shape[2], images.shape[3])
    values = [pixel_values(m, size).flatten(1) for m in (maps, base_maps) if m is not None]
    order = _pixel_order(values, ids, seed)
    pixels = order.shape[1]
    counts = [round(step * pixels / steps) for step in range(steps + 1)]
    places = torch.arange(pixels, dtype=torch.int32, device=order.device).expand_as(order)
    ranks = torch.empty_like(places).scatter_(1, order, places).view(-1, *size)
    start, end = images, _BASELINES[baseline](images)
    if mode == "insertion":
        start, end = end, start
    curves = _exchange(predict, start, end, classes, ranks, counts, max_batch)
    finite = torch.stack([v.isfinite().all(1) for v in values]).all(0)
    flags = (
        Flag.EMPTY_MAP * (values[0] == 0).all(1)
        + Flag.NON_FINITE * ~finite
        + Flag.TIED * _tied(values, order, counts)
    )
    return curves.where(finite[:, None], torch.nan), flags


def area_under(curves: Float[Tensor, "N points"]) -> Float[Tensor, " N"]:
    """Trapezoid rule over equal steps from 0 to 1."""
    return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1))


class PerturbationAUC(SampleMetric):
    """Area under the curves of one mode; `InsertionAUC` and `DeletionAUC` are the metrics.

    The model is borrowed: it is no submodule, is not moved or saved with the metric, and copies of
    the metric share it.

    Args:
        model: From images to logits, in eval mode.
        steps: Number of steps.
        baseline: "zero" or "blur".
        ties: What ranks equal pixels: "random", or "base" for `base_maps` and then at random.
        seed: Seed of the random order.
        max_batch: Most images in one forward.

    Raises:
        ValueError: an option out of its range.
    """

    mode: ClassVar[Mode]
    row_states: ClassVar[dict[str, torch.dtype]] = {
        **SampleMetric.row_states,
        "curves": torch.float32,
    }
    curves: list[Tensor]

    def __init__(
        self,
        model: Predict,
        steps: int = 224,
        baseline: Baseline = "zero",
        ties: Ties = "random",
        seed: int = 0,
        max_batch: int = 64,
    ) -> None:
        super().__init__()
        check_options(steps, baseline, max_batch)
        if ties not in get_args(Ties):
            raise ValueError(f"ties must be random or base, got '{ties}'.")
        self.model = _Borrowed(model)
        self.steps = steps
        self.baseline: Baseline = baseline
        self.ties = ties
        self.seed = seed
        self.max_batch = max_batch

    def update(
        self,
        *,
        images: Images,
        classes: Int[Tensor, " N"],
        maps: Float[Tensor, "N c h w"],
        base_maps: Float[Tensor, "N _ _ _"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; base_maps are used, and needed, with ties="base" only.

        Raises:
            ValueError: ties="base" without base maps, or what `perturbation_curves` refuses.
        """
        if self.ties == "base" and base_maps is None:
            raise ValueError("ties='base' needs base_maps [N, c, h, w], got None; pass them.")
        curves, flags = perturbation_curves(
            self.model.predict,
            images,
            classes,
            maps,
            self.mode,
            steps=self.steps,
            baseline=self.baseline,
            base_maps=base_maps if self.ties == "base" else None,
            ids=ids,
            seed=self.seed,
            max_batch=self.max_batch,
        )
        self.record(area_under(curves), flags, classes, ids)
        self.curves.append(curves.to(torch.float32))

    def curve(self) -> Float[Tensor, " points"]:
        """Mean curve over all processes (call it on each), float64; its area is the value."""
        with self.sync_context():
            curves = self._rows("curves").double()
        return curves[~curves.isnan().any(1)].mean(0)

    def row_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one row of a state."""
        return (self.steps + 1,) if name == "curves" else super().row_shape(name)


class _Borrowed:
    """Keeps a model out of the metric's submodules, and one and the same in its copies."""

    def __init__(self, predict: Predict) -> None:
        self.predict = predict

    def __deepcopy__(self, memo: dict[int, object]) -> "_Borrowed":
        return self


def check_options(steps: int, baseline: str, max_batch: int) -> None:
    """Refuse options out of their range.

    Raises:
        ValueError: steps or max_batch below 1, or an unknown baseline.
    """
    if steps < 1 or max_batch < 1:
        raise ValueError(f"steps and max_batch must be at least 1, got {steps} and {max_batch}.")
    if baseline not in get_args(Baseline):
        raise ValueError(f"baseline must be zero or blur, got '{baseline}'.")


def _check(images: Tensor, classes: Tensor, maps: Tensor, base_maps: Tensor | None) -> None:
    """Refuse tensors that do not belong together."""
    shapes = [list(t.shape) for t in (images, classes, maps)]
    one_each = classes.shape == images.shape[:1] == maps.shape[:1]
    if images.ndim != 4 or maps.ndim != 4 or not one_each:
        raise ValueError(
            "images [N, C, H, W], classes [N] and maps [N, c, h, w] must have one N, got shapes "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}; pass one image and class per map."
        )
    if base_maps is not None and base_maps.shape[:1] != maps.shape[:1]:
        raise ValueError(
            f"base_maps must be one per map, got {len(base_maps)} for {len(maps)} maps."
        )


def _pixel_order(
    values: list[Float[Tensor, "N P"]], ids: Sequence[str] | None, seed: int
) -> Int[Tensor, "N P"]:
    """Pixels by descending value; equal ones by the next values, in the end at random."""
    count, pixels = values[0].shape
    names: Sequence[str | None] = [None] * count if ids is None else ids
    if len(names) != count:
        raise ValueError(f"ids must hold one id per map, got {len(names)} ids for {count} maps.")
    chance = {
        name: torch.randperm(pixels, generator=sample_generator(seed, name)) for name in set(names)
    }
    order = torch.stack([chance[name] for name in names]).to(values[0].device)
    for keys in reversed(values):  # stable sorts, the deciding key last
        ranking = keys.gather(1, order).argsort(dim=1, descending=True, stable=True)
        order = order.gather(1, ranking)
    return order


def _tied(
    values: list[Float[Tensor, "N P"]], order: Int[Tensor, "N P"], counts: list[int]
) -> Bool[Tensor, " N"]:
    """Whether equal pixels lie on both sides of some step, so that chance decided."""
    cuts = [count for count in counts if 0 < count < order.shape[1]]
    equal = [
        v.gather(1, order[:, cuts]) == v.gather(1, order[:, [c - 1 for c in cuts]]) for v in values
    ]
    return torch.stack(equal).all(0).any(1)


def _exchange(
    predict: Predict,
    start: Images,
    end: Images,
    classes: Int[Tensor, " N"],
    ranks: Int[Tensor, "N H W"],
    counts: list[int],
    max_batch: int,
) -> Float[Tensor, "N points"]:
    """Probabilities while the pixels of lowest rank go from start to end."""
    points = len(counts)
    thresholds = torch.tensor(counts, dtype=ranks.dtype, device=ranks.device)
    jobs = torch.arange(len(start) * points, device=start.device)
    probabilities = torch.empty(len(jobs), dtype=torch.float64, device=start.device)
    with torch.inference_mode():
        for job in torch.split(jobs, max_batch):
            row, point = job // points, job % points
            exchanged = ranks[row] < thresholds[point, None, None]
            batch = torch.where(exchanged[:, None], end[row], start[row])
            shares = predict(batch).double().softmax(1)
            probabilities[job] = shares.gather(1, classes[row, None])[:, 0]
    return probabilities.view(len(start), points)
