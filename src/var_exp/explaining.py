"""Why this class, and not that one? One picture, a few classes, one answer.

why = var_exp.explain("efficientnet_lite2", "cat.jpg", ["tabby", "Egyptian cat"])
print(why)           # Egyptian cat 0.60 rather than tabby 0.10 (…)
why.save("why.png")
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, TypedDict, Unpack, cast, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from var_exp.classes import ClassNames, TopK
from var_exp.data.batches import collate, to_display
from var_exp.data.geometry import Geometry
from var_exp.data.imagenet_classes import names_of_classes
from var_exp.data.pictures import as_rgb, read_picture, refuse_address
from var_exp.explanation import Explanation
from var_exp.methods import Method, get_method
from var_exp.models import class_names, describe, input_spec, load_model, network_name
from var_exp.models import probabilities as by_head
from var_exp.refine.base import Refiner, refined_by
from var_exp.refine.shared import shared_evidence
from var_exp.refine.var import VAR
from var_exp.registry import from_alias
from var_exp.types import PREDICTED, ConfigError, InputSpec, Sample, UnsupportedModel

Picture: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor
"""A file, a PIL image, an array [H, W, 3] of bytes, or a normalised tensor [C, H, W]."""

_WITHOUT_LAYER = "gbp"
"""What explains a network that has no layer for class activation maps."""


class _Options(TypedDict, total=False):
    k: int
    checkpoint: str | Path | None
    spec: InputSpec | None
    names: Sequence[str] | None


@overload
def explain(  # type: ignore[overload-overlap]  # a path, too, is a sequence of strings
    model: str | nn.Module,
    image: Picture,
    classes: Sequence[str | int] | None = None,
    method: str | Method | None = None,
    refine: str | Refiner = "var_scaled",
    **options: Unpack[_Options],
) -> Explanation: ...


@overload
def explain(
    model: str | nn.Module,
    image: Sequence[Picture],
    classes: Sequence[str | int] | None = None,
    method: str | Method | None = None,
    refine: str | Refiner = "var_scaled",
    **options: Unpack[_Options],
) -> list[Explanation]: ...


def explain(
    model: str | nn.Module,
    image: Picture | Sequence[Picture],
    classes: Sequence[str | int] | None = None,
    method: str | Method | None = None,
    refine: str | Refiner = "var_scaled",
    *,
    k: int = 4,
    checkpoint: str | Path | None = None,
    spec: InputSpec | None = None,
    names: Sequence[str] | None = None,
) -> Explanation | list[Explanation]:
    """Explain why a network decides for one class and not for another.

    Args:
        model: An alias, any timm name, or a network of your own; it is left as it is.
        image: One picture (file, PIL image, array [H, W, 3] of bytes, or normalised tensor
            [C, H, W]), or several: a list of them, or a batch [B, C, H, W].
        classes: The classes that compete, by name, WordNet id or number, mixed; None for the
            network's first choice and its strongest competitors. A single one meets the strongest
            others.
        method: Alias or object; None is "gradcam", or guided backpropagation where the network has
            no layer for class activation maps.
        refine: Alias of a refiner, or an object.
        k: How many classes compete where fewer than two are named; at most all that there are.
        checkpoint: Local file with the weights of a named model.
        spec: How pictures become the network's input; None asks the network.
        names: Names of the network's classes, by number; None asks its weights.

    Returns:
        The explanation, or a list of them for several pictures.

    Raises:
        VarExpError: one sentence with the fix: no such class, method, model or picture; a network
            that the method cannot act on, or whose preprocessing is unknown.
    """
    network, called = _network(model, checkpoint)
    question = _Question(network, called, classes, method, refine, k, spec, names)
    if isinstance(image, list | tuple) or (isinstance(image, Tensor) and image.ndim == 4):
        return [question.ask(each) for each in image]
    return question.ask(cast(Picture, image))


class _Question:
    """What is asked of every picture."""

    def __init__(
        self,
        network: nn.Module,
        called: str,
        classes: Sequence[str | int] | None,
        method: str | Method | None,
        refine: str | Refiner,
        k: int,
        spec: InputSpec | None,
        names: Sequence[str] | None,
    ) -> None:
        if isinstance(classes, str | int):
            classes = [classes]
        self.network = network
        self.called = called
        self.spec = spec
        self._asked = classes
        self._given_names = names
        self._k = k
        self._method = method
        self._checked: tuple[str, Method] | None = None
        self._refine = refine
        self._refiner: Refiner = from_alias("refine", refine) if isinstance(refine, str) else refine
        self._device = next(iter(network.parameters()), torch.zeros(())).device

    def ask(self, picture: Picture) -> Explanation:
        """Explain one picture."""
        shown, images, name = self._prepared(picture)
        seen, logits = describe(self.network, images)
        known = self._names(logits.shape[1])
        competing = self._competing(known, logits)
        alias, method = self._method_for(images)
        maps = method.attribute(self.network, images, competing, ids=[name or "picture"])
        refined = refined_by(self._refiner, maps, logits.gather(1, competing))
        competition = self._refiner if isinstance(self._refiner, VAR) else VAR.scaled()
        numbers = competing[0].tolist()
        return Explanation(
            classes=numbers,
            names=[known.names[number] for number in numbers],
            probabilities=by_head(logits, seen.head)[0, numbers].cpu(),
            base=maps[0].cpu(),
            maps=refined[0].cpu(),
            shares=competition.distribution(maps)[0].mean(1).cpu(),
            shared=shared_evidence(maps, competition)[0].cpu(),
            image=shown,
            network=self.called,
            method=alias,
            refine=self._refine if isinstance(self._refine, str) else type(self._refiner).__name__,
            picture=name,
            competition=competition,
            competes_itself=competition is self._refiner,
        )

    def _prepared(self, picture: Picture) -> tuple[Tensor, Tensor, str]:
        """The picture as people and as the network see it, and its name."""
        if isinstance(picture, Tensor):
            if picture.ndim != 3 or not picture.is_floating_point():
                raise ConfigError(
                    f"a tensor must be a normalised picture [C, H, W] of floats, got "
                    f"{picture.dtype} {list(picture.shape)}; pass a file or a PIL image instead, "
                    "or normalise it as the network expects."
                )
            images = picture.detach().clone()[None].to(self._device).contiguous()
            return self._displayed(picture.detach().cpu().float()), images, ""
        rgb, name = _read(picture)
        spec = self._spec()
        sample = Sample(Geometry.of(spec).picture(rgb), torch.tensor([PREDICTED]), None, name)
        (batch,) = collate([sample], spec)
        # in the memory layout of a run, whose kernels then give the same digits
        return sample.image, batch.images.to(self._device).contiguous(), name

    def _displayed(self, image: Tensor) -> Tensor:
        """A normalised tensor as people see it: in its own range where nobody knows the scale."""
        try:
            return to_display(image[None], self._spec())[0].float() / 255
        except (ConfigError, RuntimeError):  # no description, or other than three channels
            grey = image if len(image) == 3 else image.mean(0, keepdim=True).expand(3, -1, -1)
            low, high = grey.min(), grey.max()
            return (grey - low) / (high - low).clamp_min(1e-12)

    def _spec(self) -> InputSpec:
        if self.spec is None:
            try:
                self.spec = input_spec(self.network)
            except ConfigError as error:
                raise ConfigError(
                    f"nobody says how {self.called} expects its pictures; give "
                    "spec=var_exp.InputSpec(size=224, mean=(…), std=(…)), say it once with "
                    "var_exp.models.declare, or pass a normalised tensor [C, H, W]."
                ) from error
        return self.spec

    def _names(self, count: int) -> ClassNames:
        given = self._given_names or class_names(self.network)
        if given is not None and len(given) != count:
            raise ConfigError(
                f"{len(given)} names were given for the {count} classes of {self.called}; give one "
                "for each."
            )
        return names_of_classes(count, given)

    def _competing(self, known: ClassNames, logits: Tensor) -> Tensor:
        """Numbers of the K classes, [1, K]."""
        count = logits.shape[1]
        if count < 2:
            raise ConfigError(f"{self.called} has {count} class; two must compete.")
        if self._asked is None:
            asked = logits.argmax(1, keepdim=True)
        else:
            asked = torch.tensor([known.numbers(self._asked)], device=logits.device)
            if len(set(asked[0].tolist())) < asked.shape[1]:
                raise ConfigError("a class was named twice; name each once.")
        if asked.shape[1] > 1:
            return asked
        return TopK(min(self._k, count))(logits, asked)

    def _method_for(self, images: Tensor) -> tuple[str, Method]:
        """Name and object; checked once against the network."""
        if self._checked is None:
            asked = self._method
            if asked is None:
                try:
                    return self._keep("gradcam", get_method("gradcam"), images)
                except UnsupportedModel:
                    return self._keep(_WITHOUT_LAYER, get_method(_WITHOUT_LAYER), images)
            found = get_method(asked) if isinstance(asked, str) else asked
            name = asked if isinstance(asked, str) else type(asked).__name__
            if not found.class_specific:
                raise ConfigError(
                    f"{name} gives all classes the same map, so they cannot compete; use another "
                    "method, such as gradcam."
                )
            return self._keep(name, found, images)
        return self._checked

    def _keep(self, name: str, method: Method, images: Tensor) -> tuple[str, Method]:
        method.check(self.network, images)
        self._checked = name, method
        return self._checked


def _network(model: str | nn.Module, checkpoint: str | Path | None) -> tuple[nn.Module, str]:
    """The network and what it is called."""
    if isinstance(model, str):
        network = load_model(model, checkpoint=checkpoint)
        return network, network_name(network) or model
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model must be a name or a torch module, got {type(model).__name__}; give an alias, a "
            "timm name, or the network itself."
        )
    if checkpoint is not None:
        raise ConfigError("checkpoint= goes with the name of a model; load it into your own.")
    return model, network_name(model) or type(model).__name__


def _read(picture: str | Path | Image.Image | np.ndarray) -> tuple[Image.Image, str]:
    """The picture in RGB, and its name."""
    if isinstance(picture, Image.Image):
        return as_rgb(picture, "the image"), Path(getattr(picture, "filename", "") or "").name
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ConfigError(
                f"an array must be [H, W, 3] of bytes, got {picture.dtype} {list(picture.shape)}; "
                "pass a PIL image, or a normalised tensor [C, H, W]."
            )
        return Image.fromarray(picture), ""
    if not isinstance(picture, str | Path):
        raise ConfigError(
            f"a picture must be a file, a PIL image, an array or a tensor, got "
            f"{type(picture).__name__}."
        )
    refuse_address(str(picture))
    return read_picture(Path(picture).expanduser()), Path(picture).name
