"""What every attribution method is: images and classes in, one raw signed map per class out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from var_exp.engine.chunks import ChunkLimit
from var_exp.models.frozen import frozen
from var_exp.models.kept import kept
from var_exp.models.selfcheck import Needs, check_network, failures_refused
from var_exp.types import Classes, Images, Logits, Maps, refuse_picture


@dataclass(frozen=True)
class Method(ABC):
    """An attribution method: a frozen dataclass of options, with the model given at the call.

    A method leaves no trace: the model's parameters, flags and hooks, gradients and the global
    random state are as before. It runs the model in eval mode, and works inside `torch.no_grad` and
    `torch.inference_mode`. Threads may explain with the same model and method: one at a time works
    with a model.

    Args:
        max_batch: Most images in one forward pass. The maps do not depend on it; when memory runs
            out it is halved, which is logged, and the work goes on.

    Raises:
        ValueError: max_batch below 1.
    """

    class_specific: ClassVar[bool] = True
    """False when all classes get the same map, so that nothing is left to compete."""

    invariant_to_folding: ClassVar[bool] = False
    """True when maps stay what they are, up to rounding, where a batch norm becomes part of the
    convolution before it; see `var_exp.prepare`."""

    attributes_anew: ClassVar[bool] = True
    """False when the maps exist already, of some classes of some pictures: no random class can
    compete, and no measure can ask for the maps of another model or picture."""

    refiner: ClassVar[str] = "var_scaled"
    """Alias of the refiner that suits its maps, which `explain` takes. "var_by_class" where those
    of a probable class are larger everywhere, so that it would win everywhere (docs/refine.md)."""

    needs: ClassVar[Needs] = "gradients"
    """What it needs of the network: "logits" alone, "calls" (it looks inside), or "gradients"."""

    max_batch: int = field(default=32, kw_only=True)
    _limit: ChunkLimit = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_limit", ChunkLimit(self.max_batch))  # the class is frozen

    def attribute(
        self,
        model: nn.Module,
        images: Images,
        classes: Classes,
        *,
        ids: Sequence[str] | None = None,
    ) -> Maps:
        """Attribute the logits of K classes of each image.

        Args:
            model: Any module from images [B, C, H, W] to logits [B, N], or to what holds them; see
                `var_exp.models.outputs`. It computes in the type of its weights.
            images: [B, C, H, W] floating point, normalised as the model expects.
            classes: [B, K] int64, each in 0 … N - 1.
            ids: B stable sample names, which seed the methods that draw random numbers, so that a
                map depends on its sample alone; None lets every image draw the same numbers.

        Returns:
            [B, K, c, H, W] float32, c = C or 1; raw and signed; column k belongs to classes[:, k].
            The maps of an image with NaN or infinite numbers are NaN.

        Raises:
            ValueError: images, classes or ids of another shape or type, or a class out of range.
            UnsupportedModel: the method cannot act on this model.
            OutOfMemory: not even one image at a time fits.
        """
        _check_request(images, classes, ids)
        images = images.detach()  # a caller's gradient is no part of the explanation
        if not len(images):
            nothing, any_class = images.new_zeros(1, *images.shape[1:]), classes.new_zeros(1, 1)
            shape = self.attribute(model, nothing, any_class).shape[2:]
            return nothing.new_zeros(0, classes.shape[1], *shape, dtype=torch.float32)
        defined = images.isfinite().flatten(1).all(1)
        whole = bool(defined.all())
        if not whole:
            images = images.where(defined[:, None, None, None], images.new_zeros(()))
        names: Sequence[str | None] = [None] * len(images) if ids is None else ids
        with frozen(model):
            maps = [
                some
                for _, some in self._limit.chunks(
                    len(images),
                    lambda rows: self._attribute(
                        model, images[rows], classes[rows], [names[row] for row in rows]
                    ).float(),
                )
            ]
        found = maps[0] if len(maps) == 1 else torch.cat(maps)
        if whole:
            return found
        return found.masked_fill(~defined[:, None, None, None, None].to(found.device), torch.nan)

    def check(self, model: nn.Module, image: Images) -> None:
        """Refuse a model that the method would explain wrongly or not at all, before the work.

        Whether the network is what the method takes for granted, `models.selfcheck`, and what the
        method itself asks for. Either is asked once for each state of the network.

        Args:
            model: The module about to be explained.
            image: [1, C, H, W].

        Raises:
            UnsupportedModel: one sentence with the fix.
        """
        refuse_picture(image)
        question = (repr(self), image.shape, image.dtype, image.device)
        check_network(model, image, self.needs, self._look, repr(self))
        with failures_refused():
            kept(model, question, lambda: self._check(model, image))

    def _look(self, model: nn.Module, image: Images) -> Logits | None:
        """Logits of a picture [1, C, H, W] as the method runs the network, None if plainly.

        It takes the place of one pass of the network's own check, which sees that the logits are
        those of the plain network. The network is in the state of `frozen`.

        Raises:
            UnsupportedModel: a call on which the method cannot act, one sentence with the fix.
        """
        return None

    def _check(self, model: nn.Module, image: Images) -> None:  # noqa: B027 (nothing, by default)
        """Refuse a model on which the method cannot act, where that takes more than one look.

        Raises:
            UnsupportedModel: one sentence with the fix.
        """

    def sums(self, model: nn.Module, images: Images, logits: Logits) -> Logits | None:
        """What the map of each class should sum to; None, the default, where nothing is promised.

        Args:
            model: The module that is explained.
            images: [B, C, H, W].
            logits: [B, N] of the images.
        """
        return None

    def files(self) -> Sequence[Path]:
        """Every file that maps come from, for provenance; none where they are computed."""
        return ()

    @abstractmethod
    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        """Compute the maps, in the floating-point type of the images.

        A method that runs the model several times per image takes its chunks from `self._limit`.
        """


def _check_request(images: torch.Tensor, classes: torch.Tensor, ids: Sequence[str] | None) -> None:
    """Raise ValueError when the arguments do not describe B images and K classes for each."""
    if not isinstance(images, torch.Tensor) or not isinstance(classes, torch.Tensor):
        kinds = f"{type(images).__name__} and {type(classes).__name__}"
        raise ValueError(
            f"images and classes must be tensors, got {kinds}; var_exp.explain takes pictures, "
            "files and names of classes."
        )
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            f"images must be a floating-point tensor [B, C, H, W], got {images.dtype} "
            f"{list(images.shape)}; a single image needs images[None]."
        )
    if classes.ndim != 2 or classes.dtype != torch.int64 or classes.shape[1] == 0:
        raise ValueError(
            f"classes must be an int64 tensor [B, K] with K >= 1, got {classes.dtype} "
            f"{list(classes.shape)}; one class per image is classes[:, None]."
        )
    if len(classes) != len(images):
        raise ValueError(
            f"classes must have one row per image, got {len(classes)} rows for {len(images)} "
            "images; repeat the row for every image."
        )
    if ids is not None and len(ids) != len(images):
        raise ValueError(
            f"ids must name every image, got {len(ids)} names for {len(images)} images; "
            "give one name per image, or None."
        )
