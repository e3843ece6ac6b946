"""What a run would cost, before it begins (`dry_run=true`): pictures, passes, time, disk.

The first samples are attributed and scored as in the run: one to set things up, then as many as a
batch holds, or that one again where it took long. So it goes for those on which random classes
compete as well, and for the others, which cost less.
"""

import io
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from var_exp.data.batches import collate
from var_exp.modules.attribution import AttributionModule
from var_exp.modules.variants import Attributed, Variants
from var_exp.report.panel_picture import panel_picture
from var_exp.report.panels import Panel
from var_exp.report.thumbnails import thumbnail
from var_exp.results.drawings import write_drawing
from var_exp.runs.experiment import Experiment
from var_exp.runs.gallery import panels_of
from var_exp.types import Batch

_ROW_BYTES = 80  # of a line of scores.csv, about
_LONG = 2.0  # seconds for one sample, after which no more are tried


@dataclass(frozen=True)
class Estimate:
    """What a run would cost.

    Attributes:
        samples: Pictures, or grids.
        tried: On how many of them the figures were measured.
        forwards: Pictures that go through the network for one sample, measures included.
        seconds: Time of one sample, on this machine and device.
        rows: Lines of `scores.csv`.
        map_bytes: Bytes of the maps that are kept, and of their pictures.
    """

    samples: int
    tried: int
    forwards: float
    seconds: float
    rows: int
    map_bytes: int

    def __str__(self) -> str:
        """Two lines for the console."""
        disk = self.rows * _ROW_BYTES + self.map_bytes
        return (
            f"{self.samples:,} samples, {self.forwards:,.1f} forward passes each; about "
            f"{_duration(self.seconds * self.samples)} here ({1000 * self.seconds:,.0f} ms each, "
            f"measured on {self.tried}), start and report aside.\n"
            f"about {disk / 1e6:,.1f} MB on the disk: {self.rows:,} scores"
            + (f", {self.map_bytes / 1e6:,.1f} MB of maps" if self.map_bytes else "")
        )


def estimate(
    experiment: Experiment,
    module: AttributionModule,
    batch_size: int,
    *,
    keeps_maps: bool,
    draws_maps: bool = False,
) -> Estimate:
    """Try the first batch of a run; nothing is written.

    Args:
        experiment: What the run is made of.
        module: Its attribution.
        batch_size: Most samples that are attributed together.
        keeps_maps: Whether the maps are kept.
        draws_maps: Whether they are drawn as well.
    """
    dataset = experiment.dataset
    kinds: dict[bool, list[int]] = {}
    for place, name in enumerate(dataset.ids()):
        kinds.setdefault(module.meets_random(name), []).append(place)
    parts = [
        (len(places), _tried(experiment, module, places[:batch_size], draws_maps=draws_maps))
        for places in kinds.values()
    ]

    def mean(value: Callable[["_Tried"], float]) -> float:
        """Of all samples of the data set, by what a part of each kind was measured to take."""
        total = sum(count * value(tried) / tried.samples for count, tried in parts)
        return total / len(dataset)

    return Estimate(
        samples=len(dataset),
        tried=sum(tried.samples for _, tried in parts),
        forwards=mean(lambda tried: tried.passes),
        seconds=mean(lambda tried: tried.seconds),
        rows=round(mean(lambda tried: tried.rows) * len(dataset)),
        map_bytes=round(mean(lambda tried: tried.map_bytes) * len(dataset)) if keeps_maps else 0,
    )


@dataclass(frozen=True)
class _Tried:
    """What some samples took."""

    samples: int
    passes: int
    seconds: float
    rows: int
    map_bytes: int


def _tried(
    experiment: Experiment,
    module: AttributionModule,
    places: Sequence[int],
    *,
    draws_maps: bool,
) -> _Tried:
    """Attribute and score samples, or the first of them alone where that takes long."""
    rows: list[int] = []
    sizes: list[int] = []
    module.keep = lambda scored: rows.append(len(scored.rows))

    def keep_maps(batch: Batch, attributed: Attributed, _: Variants) -> None:
        asked, competing = batch.classes.shape[1], attributed.classes.shape[1]
        kept = competing + len(experiment.refiners) * asked  # maps of each sample
        sizes.append(attributed.maps[:, :1].nbytes * kept)
        if draws_maps:
            sizes.extend(map(_bytes_of, panels_of(experiment, module, batch, attributed)))

    module.keep_maps = keep_maps
    for tried in (1, len(places)):  # the first time also warms up
        samples = [experiment.dataset[place] for place in places[:tried]]
        batches = collate(samples, experiment.spec)
        rows.clear()
        sizes.clear()
        with _CountedForwards({experiment.model, experiment.ready}) as passes:
            started = time.perf_counter()
            _step(module, batches)
            seconds = time.perf_counter() - started
        if seconds > _LONG:
            break
    module.keep = module.keep_maps = None
    return _Tried(tried, passes.images, seconds, sum(rows), sum(sizes))


def _bytes_of(panel: Panel) -> int:
    """What the pictures of one sample take on the disk."""
    large, small = io.BytesIO(), io.BytesIO()
    write_drawing(panel_picture(panel), thumbnail(panel), panel.sentence, large, small)
    return len(large.getvalue()) + len(small.getvalue())


def _step(module: AttributionModule, batches: tuple[Batch, ...]) -> None:
    module.test_step([batch.to(module.device) for batch in batches], 0)
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)


class _CountedForwards:
    """Counts the pictures that go through some networks."""

    def __init__(self, models: Collection[nn.Module]) -> None:
        self._models = models
        self.images = 0

    def __enter__(self) -> "_CountedForwards":
        def count(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            self.images += len(inputs[0])

        self._handles = [model.register_forward_pre_hook(count) for model in self._models]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def _duration(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
