"""Adapter for any Captum `Attribution`, from YAML alone.

Captum's object gets its own copy of the image for every class, since nothing is known of the
method: no forward pass is shared. An own class exists wherever sharing it, or being right, needs
one.
"""

import inspect
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from captum.attr import LimeBase, PerturbationAttribution
from torch import Tensor, nn

from var_exp.engine.chunks import is_out_of_memory
from var_exp.engine.scores import check_logits, check_range
from var_exp.methods.method import Method
from var_exp.models.private import copied
from var_exp.seeds import global_streams, sample_generator
from var_exp.text import first_line
from var_exp.types import Classes, ConfigError, Images, Maps, UnsupportedModel


@dataclass(frozen=True)
class Captum(Method):
    """Maps of a Captum method, one call for each image and class, or for several at once.

    Args:
        factory: From the model to the Captum object, such as `captum.attr.DeepLift`; in YAML
            `{_target_: captum.attr.DeepLift, _partial_: true}`.
        arguments: Keyword arguments of its `attribute`, besides inputs and target.
        seed: Of the global random streams that Captum draws from, combined with each sample's id;
            all classes of a sample see the same numbers, and the streams are put back afterwards.
        max_batch: Most (image, class) pairs in one call; must be 1 for methods that draw random
            numbers, since these would depend on the batch.

    Raises:
        ConfigError: an argument that `attribute` does not have, maps that are not of image size, or
            a random method with max_batch above 1.
        UnsupportedModel: Captum fails on the model; its own error is the cause.
    """

    factory: Callable[[nn.Module], Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    max_batch: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = getattr(self.factory, "func", self.factory)  # of a partial
        if isinstance(kind, type) and issubclass(kind, (PerturbationAttribution, LimeBase)):
            object.__setattr__(self, "needs", "logits")  # the class is frozen

    def _check(self, model: nn.Module, image: Images) -> None:
        """Refuse a model on which Captum fails, by explaining one class of the image."""
        self.attribute(model, image, torch.zeros(1, 1, dtype=torch.int64, device=image.device))

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        with torch.inference_mode(False), torch.enable_grad():
            # a copy, because Captum leaves its hooks behind when it fails
            model = copied(model).eval().requires_grad_(False)
            images, targets = images.detach().clone(), classes.flatten().clone()
            with torch.no_grad():
                check_range(classes, check_logits(model(images[:1].clone())).shape[1])
            calls = self._limit.chunks(
                len(targets),
                lambda pairs: self._call(
                    model,
                    images[pairs // classes.shape[1]],
                    targets[pairs],
                    ids[int(pairs[0]) // classes.shape[1]],
                ),
            )
            maps = [some for _, some in calls]
        return torch.cat(maps).view(*classes.shape, *maps[0].shape[1:])

    def _call(self, model: nn.Module, images: Tensor, targets: Tensor, id: str | None) -> Tensor:
        """Maps [n, c, H, W] of n images with one class each, by one call of Captum."""
        with _seeded(sample_generator(self.seed, id).initial_seed()) as drawn_from:
            try:
                maps = self._explainer(model).attribute(images, target=targets, **self.arguments)
            except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError) as error:
                if is_out_of_memory(error):
                    raise
                raise UnsupportedModel(
                    f"Captum failed on {type(model).__name__} ({first_line(error)}); "
                    "use another method, or another model."
                ) from error
            if self.max_batch > 1 and drawn_from():
                raise ConfigError(
                    "this Captum method draws random numbers, which would depend on the batch with "
                    f"max_batch={self.max_batch}; set max_batch=1."
                )
        size = images.shape[2:]
        if not isinstance(maps, Tensor) or maps.ndim != 4 or maps.shape[2:] != size:
            seen = list(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
            raise ConfigError(
                f"Captum must return maps of image size [n, c, {size[0]}, {size[1]}], got {seen}; "
                "choose a method that attributes to the input."
            )
        return maps.detach()

    def _explainer(self, model: nn.Module) -> Any:
        """Captum's object, once its arguments are known to exist."""
        explainer = self.factory(model)
        known = inspect.signature(explainer.attribute).parameters
        for name in self.arguments:
            if name not in known:
                raise ConfigError(
                    f"{type(explainer).__name__}.attribute has no argument '{name}'; "
                    f"choose from {', '.join(known)}."
                )
        return explainer


@contextmanager
def _seeded(seed: int) -> Iterator[Callable[[], bool]]:
    """Seed the global random streams and put them back; yields whether they were drawn from."""
    with global_streams():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        with global_streams() as drawn_from, warnings.catch_warnings():
            # Captum announces what it does to its arguments, which are copies
            warnings.filterwarnings("ignore", "Setting (forward, )?backward hooks")
            warnings.filterwarnings("ignore", "Input Tensor .* did not already require grad")
            yield drawn_from
