"""Class rules: which classes compete for an image.

A rule takes the logits [B, N], the classes asked about [B, A] and the sample ids, and returns the
competing classes [B, K]: the asked ones first, in their order, then the competitors. K is the same
for every image, whatever overlaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from var_exp.seeds import sample_generator
from var_exp.types import Classes, ConfigError, Logits


class ClassRule(Protocol):
    """What every class rule is."""

    def __call__(
        self, logits: Logits, classes: Int[Tensor, "B A"], ids: Sequence[str] | None = None
    ) -> Classes:
        """Return [B, K] int64, the asked classes [B, A] first."""
        ...


@dataclass(frozen=True)
class Given:
    """The asked classes compete among themselves, as the n² classes of a grid."""

    def __call__(
        self, logits: Logits, classes: Int[Tensor, "B A"], ids: Sequence[str] | None = None
    ) -> Classes:
        """Return the asked classes as they are.

        Raises:
            ConfigError: one asked class, which has nothing to compete with.
        """
        if classes.shape[1] < 2:
            raise ConfigError(
                f"classes=given needs two or more asked classes per image, got {classes.shape[1]}; "
                "name them (classes=named 'classes.names=[…]'), use classes=top_k, or a layout "
                "with several classes."
            )
        return classes


@dataclass(frozen=True)
class TopK:
    """The asked classes, filled up to k with the most likely others.

    Args:
        k: Classes that compete when fewer are asked, at least 2: K = max(A, k), or all that there
            are.

    Raises:
        ConfigError: k is below 2.
    """

    k: int = 4

    def __post_init__(self) -> None:
        _check_at_least("classes.k", self.k, 2)

    def __call__(
        self, logits: Logits, classes: Int[Tensor, "B A"], ids: Sequence[str] | None = None
    ) -> Classes:
        """Fill up with the highest logits; equal logits by the lower class index.

        Raises:
            ConfigError: the model has a single class.
        """
        missing = _missing(max(2, min(self.k, logits.shape[1])), logits, classes)
        unasked = logits.scatter(1, classes, -torch.inf)
        ranking = unasked.argsort(dim=1, descending=True, stable=True)
        return torch.cat([classes, ranking[:, :missing]], dim=1)


@dataclass(frozen=True)
class TopKAndLeast:
    """The most likely classes and the single least likely one, as the paper's top-k mode.

    The asked classes are filled up to k with the most likely others, then comes the least likely of
    the rest, which always competes; any number of classes can be asked about. Where the one asked
    class is among the k most likely this is the set of the paper's code; where it is not, the code
    drops the least likely class, see `PublishedTopK`, and here the k-th most likely is left out.

    Args:
        k: Classes before the least likely one, at least 1: K = max(A, k) + 1.

    Raises:
        ConfigError: k is below 1.
    """

    k: int = 2

    def __post_init__(self) -> None:
        _check_at_least("classes.k", self.k, 1)

    def __call__(
        self, logits: Logits, classes: Int[Tensor, "B A"], ids: Sequence[str] | None = None
    ) -> Classes:
        """Fill up with the highest logits, then add the lowest; ties by the lower class index.

        Raises:
            ConfigError: the model has fewer than K classes.
        """
        missing = _missing(max(self.k, classes.shape[1]) + 1, logits, classes)
        unasked = logits.scatter(1, classes, -torch.inf)
        likeliest = unasked.argsort(dim=1, descending=True, stable=True)[:, : missing - 1]
        chosen = torch.cat([classes, likeliest], dim=1)
        least = logits.scatter(1, chosen, torch.inf).argsort(dim=1, stable=True)[:, :1]
        return torch.cat([chosen, least], dim=1)


@dataclass(frozen=True)
class PublishedTopK:
    """The set of the paper's code to the letter, whichever class is asked about.

    The code joins the k most likely classes and the least likely one; a target that is not among
    these is put in front, and the list is then cut to k + 1. So for k up to 3 the set is

        the k most likely and the least likely     where the target is among the k most likely,
        the target and the k most likely           everywhere else, without the least likely.

    From k = 4 on the code cuts twice, and K would be k + 1 for some targets and 4 for others.

    Args:
        k: Most likely classes that compete, 1 to 3: K = k + 1.

    Raises:
        ConfigError: k is out of its range.
    """

    k: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.k <= 3:
            raise ConfigError(
                f"classes.k must be 1, 2 or 3 for classes=published_top_k, got {self.k}; from 4 on "
                "the number of classes would differ between pictures, use classes=top_k_and_least."
            )

    def __call__(
        self, logits: Logits, classes: Int[Tensor, "B A"], ids: Sequence[str] | None = None
    ) -> Classes:
        """Return [B, k + 1], the target first, then the likely ones in their order.

        Raises:
            ConfigError: several asked classes, or the model has fewer than k + 1.
        """
        if classes.shape[1] != 1:
            raise ConfigError(
                "classes=published_top_k makes one set for each asked class, and "
                f"{classes.shape[1]} are asked about together; use layout=single."
            )
        _missing(self.k + 1, logits, classes)
        ranking = logits.argsort(dim=1, descending=True, stable=True)
        likeliest, unlikely = ranking.split([self.k, logits.shape[1] - self.k], dim=1)
        lowest = logits.gather(1, unlikely).argmin(1, keepdim=True)
        joined = torch.cat([likeliest, unlikely.gather(1, lowest)], 1)
        competing = joined.ne(classes)
        # the target takes the place of itself, or else of the least likely class
        competing[:, -1] &= ~competing.all(1)
        others = joined[competing].view(len(classes), self.k)
        return torch.cat([classes, others], 1)


@dataclass(frozen=True)
class Random:
    """The asked classes, filled up to k with random others, drawn per sample id.

    Args:
        k: Classes that compete when fewer are asked, at least 2: K = max(A, k).
        seed: Seed of the draw.

    Raises:
        ConfigError: k is below 2.
    """

    k: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        _check_at_least("classes.k", self.k, 2)

    def __call__(
        self, logits: Logits, classes: Int[Tensor, "B A"], ids: Sequence[str] | None = None
    ) -> Classes:
        """Fill up with random classes.

        Raises:
            ConfigError: the model has fewer than K classes.
        """
        missing = _missing(self.k, logits, classes)
        others = random_others(classes, logits.shape[1], missing, ids, self.seed)
        return torch.cat([classes, others], dim=1)


@dataclass(frozen=True, eq=False)
class Siblings:
    """The one asked class and its siblings, which differ from it in exactly one part.

    Args:
        siblings: [N, S] int64, the siblings of every class, as the data set offers them.
    """

    siblings: Int[Tensor, "N S"]

    def __call__(
        self, logits: Logits, classes: Int[Tensor, "B A"], ids: Sequence[str] | None = None
    ) -> Classes:
        """Return [B, 1 + S], the asked class and its siblings.

        Raises:
            ConfigError: several asked classes, or a table of another number of classes.
        """
        if classes.shape[1] != 1:
            raise ConfigError(
                f"classes=siblings needs one asked class per image, got {classes.shape[1]}; "
                "use layout=single or classes=given."
            )
        table = self.siblings.to(classes.device)
        if len(table) != logits.shape[1]:
            raise ConfigError(
                f"classes=siblings knows the siblings of {len(table)} classes and the model has "
                f"{logits.shape[1]}; use data and a model that belong together (data=critters)."
            )
        return torch.cat([classes, table[classes[:, 0]]], dim=1)


def random_others(
    classes: Classes, num_classes: int, count: int, ids: Sequence[str] | None, seed: int = 0
) -> Int[Tensor, "B count"]:
    """Draw distinct random classes that are not among those of the image.

    Args:
        classes: [B, K] int64, never drawn.
        num_classes: N, all classes of the model.
        count: Classes to draw per image.
        ids: B sample ids, each with its own draw; None gives every image the same stream.
        seed: Seed of the draw.

    Returns:
        [B, count] int64 on the device of `classes`; the same for a sample in any batch.

    Raises:
        ConfigError: some image has fewer than `count` other classes.
    """
    drawn = []
    names: Sequence[str | None] = [None] * len(classes) if ids is None else ids
    for row, name in zip(classes.tolist(), names, strict=True):
        taken = set(row)
        if num_classes - len(taken) < count:
            raise ConfigError(
                f"{count} random classes beside {len(taken)} competing ones need "
                f"{count + len(taken)} classes, but the model has {num_classes}; "
                "let fewer classes compete."
            )
        order = torch.randperm(num_classes, generator=sample_generator(seed, name)).tolist()
        drawn.append([label for label in order if label not in taken][:count])
    return torch.tensor(drawn, dtype=torch.int64, device=classes.device).view(len(classes), count)


def _missing(total: int, logits: Tensor, classes: Tensor) -> int:
    """Competitors to add so that `total` classes compete; none when more are asked."""
    asked, known = classes.shape[1], logits.shape[1]
    total = max(total, asked)
    if total > known:
        raise ConfigError(
            f"{total} classes cannot compete in a model of {known}; "
            "lower classes.k, or use a model with more classes."
        )
    return total - asked


def _check_at_least(name: str, value: int, least: int) -> None:
    """Refuse a number of classes with which nothing would compete."""
    if value < least:
        raise ConfigError(
            f"{name} must be at least {least}, got {value}; two classes must compete."
        )
