"""The perturbation engine: pixels are taken out of pictures, and the model is asked again.

All measures of faithfulness by perturbation stand on it. A map is ranked once; ties are broken by
the base map, or at random with a stream per sample id. Least relevant first is the same ranking
backwards. A perturbed picture is then known by three things, whatever curve it lies on: from which
end of the ranking pixels are missing, how many, and what stands in their place. So inserting the
first k pixels into a baseline and deleting all but the first k are one picture, and none is run
twice; the picture itself and the bare baseline are shared by all rankings, random sets of pixels by
all maps. The logits of all classes are kept, so probability, logit, accuracy and the scores of
competitors come from the same forward pass.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from var_exp.engine.chunks import ChunkLimit
from var_exp.metrics.baselines import Baseline, Fill, make_fill
from var_exp.metrics.ranking import Ranking, rank
from var_exp.models.declared import Head, head_of
from var_exp.models.frozen import logits_from
from var_exp.seeds import sample_generator
from var_exp.types import Images, Predict

PixelOrder = Literal["most_first", "least_first"]
Readout = Literal["probability", "logit", "accuracy", "sigmoid"]
Result = TypeVar("Result")
Missing: TypeAlias = Callable[[Int[Tensor, " n"], Int[Tensor, " n"]], Bool[Tensor, "n H W"]]
"""From rows of the batch and numbers of points to the pixels that are missing there."""
_Key: TypeAlias = tuple[Baseline, PixelOrder, int] | Baseline | None
"""A perturbed picture; a baseline alone is the bare one, None the picture as it is."""


class Perturber:
    """A model that is asked about perturbed pictures and remembers the latest of them.

    Hand one to all metrics of a run in place of the model, and they share rankings and forward
    passes. It remembers one batch of images and, of that, one tensor of maps. Both are known by
    identity and version: new tensors, and tensors changed in place, are looked at afresh. After
    what torch cannot see, such as new weights between two questions about one tensor, call
    `forget`.

    The model is borrowed: copies of a metric share it, and it is not moved or saved with them.

    Args:
        model: From images [B, C, H, W] to logits [B, N], or to what holds them, in eval mode. The
            head that it declares (`var_exp.models.declare`) says what a probability is.
        std: One number, or one per channel: what colours in [0, 1] were divided by. Noise is
            defined on those colours.
    """

    def __init__(self, model: Predict, std: Sequence[float] = (1.0,)) -> None:
        self.predict = model
        self.head = head_of(model)
        self.std = tuple(std)
        self._limits: dict[int, ChunkLimit] = {}
        self._latest: PerturbedBatch | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images as they are."""
        return logits_from(self.predict, images)

    def batch(
        self, images: Images, ids: Sequence[str] | None = None, seed: int = 0
    ) -> "PerturbedBatch":
        """What is remembered of these images, or a fresh start.

        Raises:
            ValueError: not one id per image.
        """
        names = [None] * len(images) if ids is None else list(ids)
        if len(names) != len(images):
            raise ValueError(
                f"ids must hold one id per map, got {len(names)} ids for {len(images)} maps."
            )
        if self._latest is None or not self._latest.is_of(images, names, seed):
            self._latest = PerturbedBatch(self, images, names, seed)
        return self._latest

    def limit(self, max_batch: int) -> ChunkLimit:
        """How many images may share a forward pass, one limit for all who ask for the same."""
        return self._limits.setdefault(max_batch, ChunkLimit(max_batch))

    def forget(self) -> None:
        """Drop what is remembered."""
        self._latest = None

    def __deepcopy__(self, memo: dict[int, object]) -> "Perturber":
        return self

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_latest": None}


class PerturbedBatch:
    """A batch of images and what the model said about them; made by `Perturber.batch`."""

    def __init__(
        self, perturber: Perturber, images: Images, ids: Sequence[str | None], seed: int
    ) -> None:
        self.images = images
        self.head = perturber.head
        self.ids = ids
        self.seed = seed
        self._perturber = perturber
        self._seen = _Seen(images)
        self._seen_maps = _Seen(None)
        self._rankings: list[tuple[_Seen, Ranking]] = []
        self._ends: dict[Hashable, Tensor] = {}
        self._kept: dict[Hashable, Any] = {}
        self._without: tuple[_Seen, Tensor] = _Seen(None), images
        # One picture asked about for several classes fills neighbouring rows; by its first row.
        self._first = list(range(len(images)))
        for row, equal in enumerate((images[1:] == images[:-1]).flatten(1).all(1).tolist(), 1):
            if equal and ids[row] == ids[row - 1]:
                self._first[row] = self._first[row - 1]

    def is_of(self, images: Images, ids: Sequence[str | None], seed: int) -> bool:
        """Whether this is about these images, unchanged."""
        return self._seen.again(images) and self.ids == ids and self.seed == seed

    def once(self, key: Hashable, make: Callable[[], Result]) -> Result:
        """Something about the images that is made when it is first asked for."""
        if key not in self._kept:
            self._kept[key] = make()
        kept: Result = self._kept[key]
        return kept

    def ranking(
        self,
        maps: Float[Tensor, "N c h w"],
        base_maps: Float[Tensor, "N _ _ _"] | None = None,
        patch: int = 1,
    ) -> Ranking:
        """Rank the pixels, or patches by their sums, of one map per image."""
        if not self._seen_maps.again(maps):
            self._seen_maps, self._rankings = _Seen(maps), []
        for base, ranking in self._rankings:
            if ranking.patch == patch and base.again(base_maps):
                return ranking
        height, width = self.images.shape[2:]
        cells = -(-height // patch) * -(-width // patch)
        chance = self.once(("chance", cells), lambda: self._chance(cells))
        keys = [m for m in (maps, base_maps) if m is not None]
        ranking = rank(keys, chance, (height, width), patch)
        for _, other in self._rankings:
            if other.patch == patch and torch.equal(other.order, ranking.order):
                ranking.known = other.known  # without ties, the base map decides nothing
        self._rankings.append((_Seen(base_maps), ranking))
        return ranking

    def clean(self, max_batch: int) -> Float[Tensor, "N classes"]:
        """Logits of the images as they are."""
        if None not in self._ends:
            nothing = torch.zeros_like(self.images[0, 0], dtype=torch.bool)
            logits = self._run(
                lambda rows, _: nothing.expand(len(rows), -1, -1), [True], "zero", max_batch
            )
            self._ends[None] = logits[:, 0]
        return self._ends[None]

    def ranked(
        self,
        ranking: Ranking,
        order: PixelOrder,
        counts: Sequence[int],
        baseline: Baseline,
        max_batch: int,
    ) -> Float[Tensor, "N points classes"]:
        """Logits without the first `counts` cells from one end of the ranking."""
        keys: list[_Key] = [
            None if count == 0 else baseline if count == ranking.cells else (baseline, order, count)
            for count in counts
        ]
        known = dict(self._ends)
        known.update(ranking.known)
        new = {key: count for key, count in zip(keys, counts, strict=True) if key not in known}
        if new:
            missing = torch.tensor(list(new.values()), dtype=torch.int32)
            missing = missing.to(ranking.places.device)

            def out(rows: Tensor, points: Tensor) -> Tensor:
                if order == "most_first":
                    return ranking.places[rows] < missing[points, None, None]
                return ranking.places[rows] >= ranking.cells - missing[points, None, None]

            ends = [not isinstance(key, tuple) for key in new]
            answers = self._run(out, ends, baseline, max_batch)
            for key, end, logits in zip(new, ends, answers.unbind(1), strict=True):
                known[key] = (self._ends if end else ranking.known)[key] = logits
        return torch.stack([known[key] for key in keys], 1)

    def without(
        self, pictures: Float[Tensor, "N P C H W"], max_batch: int
    ) -> Float[Tensor, "N P classes"]:
        """Logits of the same samples' pictures without something that is in them."""
        if not self._without[0].again(pictures):
            flat = pictures.flatten(0, 1)

            def work(rows: Tensor) -> Tensor:
                with torch.inference_mode():
                    return self._perturber(flat[rows.to(flat.device)])

            answers = self._perturber.limit(max_batch).chunks(len(flat), work)
            logits = torch.cat([answer for _, answer in answers])
            self._without = _Seen(pictures), logits.unflatten(0, pictures.shape[:2])
        return self._without[1]

    def sampled(
        self, key: Hashable, missing: Missing, points: int, baseline: Baseline, max_batch: int
    ) -> Float[Tensor, "N points classes"]:
        """Logits without sets of pixels: by a key those of the image and its id, by None others."""
        if key is None:
            return self._run(missing, [False] * points, baseline, max_batch)
        return self.once(
            (key, points, baseline),
            lambda: self._run(missing, [True] * points, baseline, max_batch),
        )

    def _run(
        self, missing: Missing, shared: Sequence[bool], baseline: Baseline, max_batch: int
    ) -> Float[Tensor, "N points classes"]:
        """Ask the model; points that repeats of a picture share are run for its first row."""
        device = self.images.device
        fill: Fill = self.once(
            ("fill", baseline),
            lambda: make_fill(baseline, self.images, self.ids, self.seed, self._perturber.std),
        )
        first, common = torch.tensor(self._first), torch.tensor(shared)
        repeats = first != torch.arange(len(first))
        rows, points = (~(repeats[:, None] & common)).nonzero(as_tuple=True)

        def work(jobs: Tensor) -> Tensor:
            row, point = rows[jobs].to(device), points[jobs].to(device)
            with torch.inference_mode():
                return self._perturber(fill(row, missing(row, point)))

        answers = self._perturber.limit(max_batch).chunks(len(rows), work)
        asked = torch.cat([answer for _, answer in answers])
        logits = asked.new_empty(len(first), len(common), asked.shape[1])
        logits[rows, points] = asked
        if repeats.any():
            logits[:, common] = logits[first][:, common]
        return logits

    def _chance(self, cells: int) -> Int[Tensor, "N cells"]:
        drawn = {
            name: torch.randperm(cells, generator=sample_generator(self.seed, name))
            for name in dict.fromkeys(self.ids)
        }
        return torch.stack([drawn[name] for name in self.ids])


def read_scores(
    logits: Float[Tensor, "N points classes"],
    classes: Int[Tensor, " N"],
    score: Readout,
    head: Head = "softmax",
) -> Float[Tensor, "N points"]:
    """The score of each row's class, float64.

    probability   as the network's head makes it: of a softmax over the classes, or a sigmoid
    sigmoid       1 / (1 + exp(-y)), whatever the head
    logit         y
    accuracy      1 where the class is the top one; with a sigmoid head, where it is above 1/2
    """
    scores = []
    for row, index in zip(logits, classes.tolist(), strict=True):  # spares memory with many classes
        independent = head == "sigmoid"
        if score == "accuracy":
            right = row[:, index] > 0 if independent else row.argmax(1) == index
            scores.append(right.double())
        elif score == "logit":
            scores.append(row[:, index].double())
        elif score == "sigmoid" or independent:
            scores.append(row[:, index].double().sigmoid())
        else:
            scores.append(row.double().softmax(1)[:, index])
    return torch.stack(scores)


class _Seen:
    """A tensor at one moment. Inference tensors do not count their changes: never seen again."""

    def __init__(self, tensor: Tensor | None) -> None:
        self.tensor = tensor
        self.version = _version(tensor)

    def again(self, tensor: Tensor | None) -> bool:
        """Whether this is that tensor, unchanged."""
        return tensor is self.tensor and (tensor is None or self.version == _version(tensor) >= 0)


def _version(tensor: Tensor | None) -> int:
    return -1 if tensor is None or tensor.is_inference() else tensor._version
