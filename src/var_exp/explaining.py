"""Why this class, and not that one? One picture, a few classes, one answer.

why = var_exp.explain("efficientnet_lite2", "cat.jpg", ["tabby", "Egyptian cat"])
print(why)           # Egyptian cat 0.60 rather than tabby 0.10 (…)
why.save("why.png")
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack, cast, overload

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from var_exp.classes import ClassNames, TopK
from var_exp.data.imagenet_classes import names_of_classes
from var_exp.explanation import Explanation
from var_exp.methods import Method, get_method
from var_exp.models import (
    RegionScores,
    class_names,
    describe,
    input_spec,
    load_model,
    network_name,
)
from var_exp.models import probabilities as by_head
from var_exp.models.region import pixel_logits
from var_exp.refine.base import Refiner, refined_by
from var_exp.refine.shared import shared_evidence
from var_exp.refine.var import VAR
from var_exp.registry import from_alias
from var_exp.seen_picture import Picture, Region, SeenPicture, seen_picture
from var_exp.types import ConfigError, InputSpec, UnsupportedModel

_WITHOUT_LAYER = "gbp"
"""What explains a network that has no layer for class activation maps."""

_OF_REGION = "hirescam"
"""What explains a region: GradCAM averages the gradient over the picture, and with it the place."""


class _Options(TypedDict, total=False):
    k: int
    checkpoint: str | Path | None
    spec: InputSpec | None
    names: Sequence[str] | None
    region: Region | None


@overload
def explain(  # type: ignore[overload-overlap]  # a path, too, is a sequence of strings
    model: str | nn.Module,
    image: Picture,
    classes: Sequence[str | int] | None = None,
    method: str | Method | None = None,
    refine: str | Refiner | None = None,
    **options: Unpack[_Options],
) -> Explanation: ...


@overload
def explain(
    model: str | nn.Module,
    image: Sequence[Picture],
    classes: Sequence[str | int] | None = None,
    method: str | Method | None = None,
    refine: str | Refiner | None = None,
    **options: Unpack[_Options],
) -> list[Explanation]: ...


def explain(
    model: str | nn.Module,
    image: Picture | Sequence[Picture],
    classes: Sequence[str | int] | None = None,
    method: str | Method | None = None,
    refine: str | Refiner | None = None,
    *,
    k: int = 4,
    checkpoint: str | Path | None = None,
    spec: InputSpec | None = None,
    names: Sequence[str] | None = None,
    region: Region | None = None,
) -> Explanation | list[Explanation]:
    """Explain why a network decides for one class and not for another.

    Args:
        model: An alias, any timm name, or a network of your own; it is left as it is.
        image: One picture (file, PIL image, array [H, W, 3] of bytes, or normalised tensor
            [C, H, W]), or several: a list of them, or a batch [B, C, H, W].
        classes: The classes that compete, by name, WordNet id or number, mixed; None for the
            network's first choice and its strongest competitors. A single one meets the strongest
            others.
        method: Alias or object; None is "gradcam", or "hirescam" for a region, or guided
            backpropagation where the network has no layer for class activation maps.
        refine: Alias of a refiner, or an object; None is "var_scaled", or "var_by_class" for RISE
            and ScoreCAM (`Method.refiner`).
        k: How many classes compete where fewer than two are named; at most all that there are.
        checkpoint: Local file with the weights of a named model.
        spec: How pictures become the network's input; None asks the network.
        names: Names of the network's classes, by number; None asks its weights.
        region: Where to ask a network that classifies pixels: a mask [H, W] of the picture, (row,
            column) of one pixel, or "predicted", where it puts the first of the classes; the
            classes compete by their mean logit there. None for a classifier of whole pictures.

    Returns:
        The explanation, or a list of them for several pictures.

    Raises:
        VarExpError: one sentence with the fix: no such class, method, model or picture; a network
            that the method cannot act on, or whose preprocessing is unknown.
    """
    network, called = _network(model, checkpoint)
    question = _Question(network, called, classes, method, refine, k, spec, names, region)
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
        refine: str | Refiner | None,
        k: int,
        spec: InputSpec | None,
        names: Sequence[str] | None,
        region: Region | None,
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
        self._region = region
        self._checked: tuple[str, Method] | None = None
        self._refine = None if refine is None else _refiner(refine)
        self._device = next(iter(network.parameters()), torch.zeros(())).device

    def ask(self, picture: Picture) -> Explanation:
        """Explain one picture."""
        seen = seen_picture(picture, self._spec, self._device)
        region = self._seen_region(seen)
        network = self.network if region is None else RegionScores(self.network, region)
        takes, logits = describe(network, seen.images)
        known = self._names(logits.shape[1])
        competing = self._competing(known, logits)
        alias, method = self._method_for(network, seen.images)
        maps = method.attribute(network, seen.images, competing, ids=[seen.name or "picture"])
        refiner_alias, refiner = self._refine or _refiner(method.refiner)
        refined = refined_by(refiner, maps, logits.gather(1, competing))
        competition = refiner if isinstance(refiner, VAR) else VAR.scaled()
        numbers = competing[0].tolist()
        return Explanation(
            classes=numbers,
            names=[known.names[number] for number in numbers],
            probabilities=by_head(logits, takes.head)[0, numbers].cpu(),
            base=maps[0].cpu(),
            maps=refined[0].cpu(),
            shares=competition.distribution(maps)[0].mean(1).cpu(),
            shared=shared_evidence(maps, competition)[0].cpu(),
            image=seen.shown,
            network=self.called,
            method=alias,
            refine=refiner_alias,
            picture=seen.name,
            competition=competition,
            competes_itself=competition is refiner,
            region=None if region is None else region.cpu(),
        )

    def _seen_region(self, seen: SeenPicture) -> Tensor | None:
        """The region that is asked about, [H, W] of what the network sees; None for all of it."""
        if self._region is None:
            return None
        if not isinstance(self._region, str):
            return seen.within(self._region)
        if self._region != "predicted":
            raise ConfigError(
                f"region must be a mask, (row, column) or 'predicted', got '{self._region}'."
            )
        pixels = pixel_logits(self.network, seen.images)
        predicted = pixels.argmax(1, keepdim=True)
        known = self._names(pixels.shape[1])
        asked = known.numbers(self._asked) if self._asked else []
        first = asked[0] if asked else int(predicted.flatten().mode().values)
        if not (predicted == first).any():
            raise ConfigError(
                f"{self.called} predicts {known.names[first]} at no pixel; name first a class that "
                "it does, or give a mask."
            )
        inside = (predicted == first).double()
        return interpolate(inside, seen.images.shape[2:], mode="nearest-exact")[0, 0] > 0

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

    def _method_for(self, network: nn.Module, images: Tensor) -> tuple[str, Method]:
        """Name and object; checked once against each network."""
        if self._checked is not None and network is self.network:
            return self._checked
        asked = self._method
        if asked is None:
            usual = "gradcam" if self._region is None else _OF_REGION
            try:
                return self._keep(usual, get_method(usual), network, images)
            except UnsupportedModel:
                return self._keep(_WITHOUT_LAYER, get_method(_WITHOUT_LAYER), network, images)
        found = get_method(asked) if isinstance(asked, str) else asked
        name = asked if isinstance(asked, str) else type(asked).__name__
        if not found.class_specific:
            raise ConfigError(
                f"{name} gives all classes the same map, so they cannot compete; use another "
                "method, such as gradcam."
            )
        return self._keep(name, found, network, images)

    def _keep(
        self, name: str, method: Method, network: nn.Module, images: Tensor
    ) -> tuple[str, Method]:
        method.check(network, images)
        self._checked = name, method
        return self._checked


def _refiner(refine: str | Refiner) -> tuple[str, Refiner]:
    """Name and object."""
    if isinstance(refine, str):
        return refine, from_alias("refine", refine)
    return type(refine).__name__, refine


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
