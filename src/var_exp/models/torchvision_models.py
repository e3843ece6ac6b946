"""torchvision's classifiers by their names, with the preprocessing and classes of their weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import torch
import torchvision
from torch import nn

from var_exp.conf_files import did_you_mean
from var_exp.models.checkpoint import UNREADABLE, read_checkpoint
from var_exp.models.declared import Head, crop_share, declare
from var_exp.models.hub import ANSWER_SECONDS, WAYS_OUT, in_short
from var_exp.types import ConfigError, MissingWeights


def torchvision_names() -> list[str]:
    """Names of torchvision's image classifiers."""
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def torchvision_model(
    name: str,
    pretrained: bool = True,
    checkpoint: str | Path | None = None,
    weights: str = "DEFAULT",
    num_classes: int | None = None,
    head: Head | None = None,
    trust_pickle: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build one of torchvision's classifiers.

    Args:
        name: torchvision's name, such as "vit_b_16".
        pretrained: False gives random weights, unless `checkpoint` is given.
        checkpoint: Local file with weights; comes before everything else.
        weights: Which of its published weights, such as "IMAGENET1K_V1"; also without them, they
            say how pictures become the input.
        num_classes: Classes of the model; None takes those of the weights.
        head: "softmax" or "sigmoid"; None is softmax.
        trust_pickle: As in `timm_model`.
        options: Further arguments of torchvision's builder.

    Raises:
        ConfigError: no such model, weights or option.
        MissingWeights: the weights cannot be had, or do not fit the model.
    """
    known = torchvision_names()
    if name not in known:
        raise ConfigError(
            f"torchvision has no classifier '{name}'{did_you_mean(name, known)}; take a name of "
            "torchvision.models.list_models()."
        )
    published = _published(name, weights)
    read = None
    if checkpoint is not None:
        try:
            read = read_checkpoint(Path(checkpoint), trust_pickle)
        except UNREADABLE as error:
            raise MissingWeights(
                f"'{checkpoint}' holds no weights of {name} ({in_short(error)}); check "
                "model.checkpoint."
            ) from error
        names = read.class_names
        num_classes = len(names) if names is not None else num_classes
    from_hub = pretrained and read is None
    if from_hub:
        _check_at_hand(name, published.url)
    sizes = {} if num_classes is None else {"num_classes": num_classes}
    try:
        model: nn.Module = torchvision.models.get_model(
            name, weights=published if from_hub else None, **sizes, **(options or {})
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"torchvision cannot build {name} so ({in_short(error)}); check model.num_classes and "
            "model.options."
        ) from error
    try:
        if read is not None:
            model.load_state_dict(read.of(model.state_dict()))
    except UNREADABLE as error:
        raise MissingWeights(
            f"'{checkpoint}' does not hold the weights of {name} ({in_short(error)}); check "
            "model.checkpoint, model.name, and that model.num_classes is that of the file."
        ) from error
    categories = published.meta["categories"] if num_classes is None else None
    seen = published.transforms()
    return declare(
        model.eval().requires_grad_(False),
        size=seen.crop_size[0],
        mean=seen.mean,
        std=seen.std,
        interpolation=seen.interpolation.value,
        crop_pct=crop_share(seen.crop_size[0], seen.resize_size[0]),
        head=head,
        class_names=read.class_names if read is not None and read.class_names else categories,
        name=name,
    )


def _published(name: str, weights: str) -> Any:
    """The weights of that name, which know their transforms, whether or not they are loaded."""
    known = torchvision.models.get_model_weights(name)
    try:
        return known[weights]
    except KeyError:
        raise ConfigError(
            f"torchvision has no weights '{weights}' of {name}; choose from "
            f"{', '.join(['DEFAULT', *(each.name for each in known)])}."
        ) from None


def _check_at_hand(name: str, url: str) -> None:
    """Refuse weights that are neither cached nor to be downloaded, within seconds."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if cached.is_file():
        return
    try:
        with urlopen(Request(url, method="HEAD"), timeout=ANSWER_SECONDS):
            return
    except (OSError, ValueError) as error:
        raise MissingWeights(
            f"the weights of {name} are not in the local cache and cannot be downloaded "
            f"({in_short(error)}); {WAYS_OUT}."
        ) from error
