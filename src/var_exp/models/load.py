"""From a name to a frozen model in eval mode: alias of `conf/model`, or any name of timm's.

Names of torchvision and of Hugging Face lead to files of their own.

Weights are taken from the first of: an explicit checkpoint file, a file that ships with the
package, the local cache, a download from the hub. All are loaded strictly. A local file also says
how many classes the model has.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import nn

from var_exp.conf_files import aliases
from var_exp.models.checkpoint import UNREADABLE, Checkpoint, read_checkpoint
from var_exp.models.declared import Head, declare
from var_exp.models.hf_models import hf_model
from var_exp.models.hub import WAYS_OUT, from_hub, in_short
from var_exp.models.packaged import packaged_weights
from var_exp.models.torchvision_models import torchvision_model, torchvision_names
from var_exp.registry import from_alias
from var_exp.types import ConfigError, MissingWeights

_SHIPPED = Path(__file__).parent / "weights"


def load_model(
    name: str, /, pretrained: bool = True, checkpoint: str | Path | None = None, **options: Any
) -> nn.Module:
    """Load a model for attribution: eval mode, all parameters frozen.

    Args:
        name: Alias (see `list_models`); any timm name, with or without its weights' tag; a name of
            torchvision that timm does not have, such as "vit_b_16"; or a classifier of Hugging
            Face's transformers, as "owner/name" or the folder that holds one.
        pretrained: False gives random weights, unless `checkpoint` is given.
        checkpoint: Local file with weights, see `var_exp.models.checkpoint`.
        options: Replace those of the alias's YAML file; see `timm_model`, `torchvision_model` and
            `hf_model`.

    Raises:
        ConfigError: no such model, or an option it does not have.
        MissingWeights: the weights cannot be had, or do not fit the model.
    """
    if name in aliases("model"):
        if checkpoint is not None:
            options["checkpoint"] = checkpoint
        model: nn.Module = from_alias("model", name, pretrained=pretrained, **options)
        return model
    if name in torchvision_names() and not timm.is_model(name):
        return torchvision_model(name, pretrained, checkpoint, **options)
    if checkpoint is None and ("/" in name or Path(name, "config.json").is_file()):
        return hf_model(name, pretrained, **options)
    return timm_model(name, pretrained, checkpoint, **options)


def timm_model(
    name: str,
    pretrained: bool = True,
    checkpoint: str | Path | None = None,
    num_classes: int | None = None,
    trust_pickle: bool = False,
    shipped: str | None = None,
    packaged: str | None = None,
    embed_layer: Callable[..., nn.Module] | None = None,
    options: Mapping[str, Any] | None = None,
    channels_last: bool = False,
    head: Head | None = None,
) -> nn.Module:
    """Build a timm model and give it its weights; the target of the files in `conf/model`.

    Args:
        name: timm's name.
        pretrained: False gives random weights, unless `checkpoint` is given.
        checkpoint: Local file with weights; comes before everything else.
        num_classes: Classes of the model; None takes what the file's head or timm's name says.
        trust_pickle: Read also a checkpoint that holds Python objects beside the weights, which
            runs whatever code is in it: only for files of people you trust.
        shipped: File of this package with the weights, for a model that is not on the hub.
        packaged: Another Python package that holds the weights.
        embed_layer: Replaces the patch embedding of a vision transformer.
        options: Further arguments of `timm.create_model`.
        channels_last: Keep images and features in channels-last memory, which most convolutions
            are faster in; results differ by rounding (docs/speed.md).
        head: "softmax", or "sigmoid" for labels that do not exclude each other; None is softmax.

    Raises:
        ConfigError: no such model, or an option it does not have.
        MissingWeights: the weights cannot be had, or do not fit the model.
    """
    _check_name(name)
    file = _weights_file(pretrained, checkpoint, shipped, packaged)
    read = None
    if file is not None:
        with _explained(file, name):
            read = read_checkpoint(file, trust_pickle)
            num_classes = _classes_of(read, name, num_classes)
    arguments = {"num_classes": num_classes, "embed_layer": embed_layer, **(options or {})}
    if file is None and pretrained:
        model = _create_with_hub_weights(name, arguments)
    else:
        model = _create(name, arguments)
    if file is not None and read is not None:
        with _explained(file, name):
            model.load_state_dict(read.of(model.state_dict()))
        _tell(model, read)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    size = arguments.get("img_size")  # timm's configuration keeps that of the published weights
    return declare(model.eval().requires_grad_(False), size=size, head=head)


def _check_name(name: str) -> None:
    known = {*timm.list_models(), *timm.list_pretrained()}
    if name in known:
        return
    close = get_close_matches(name, [*aliases("model"), *sorted(known)], n=1)
    guess = f" (did you mean '{close[0]}'?)" if close else ""
    raise ConfigError(
        f"there is no model '{name}'{guess}; known are {', '.join(aliases('model'))}, "
        "every name of timm.list_models() and torchvision.models.list_models(), and Hugging "
        "Face's classifiers (owner/name, or a folder)."
    )


def _weights_file(
    pretrained: bool, checkpoint: str | Path | None, shipped: str | None, packaged: str | None
) -> Path | None:
    """The local file that holds the weights; None leaves them random or to the hub."""
    if checkpoint is not None:
        return Path(checkpoint)
    if pretrained and packaged:
        return packaged_weights(packaged)
    return _SHIPPED / shipped if pretrained and shipped else None


def _create(name: str, arguments: Mapping[str, Any], pretrained: bool = False) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **arguments)
    except TypeError as error:
        raise ConfigError(
            f"timm cannot build {name} with the options {sorted(arguments)} ({error}); "
            "check model.options."
        ) from error
    return model


def _create_with_hub_weights(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    published = timm.get_pretrained_cfg(name)
    if published is None or not published.hf_hub_id:
        raise MissingWeights(f"no weights of {name} are published on the hub; {WAYS_OUT}.")
    classes = arguments["num_classes"]
    if classes not in (None, published.num_classes):
        raise MissingWeights(
            f"the published weights of {name} are for {published.num_classes} classes, got "
            f"num_classes={classes}; leave num_classes out, or {WAYS_OUT}."
        )
    try:
        file = from_hub(published.hf_hub_id, published.hf_hub_filename or "model.safetensors")
    except Exception as error:  # each version of the hub's client brings its own network errors
        raise MissingWeights(
            f"the weights of {name} are not in the local cache and cannot be downloaded "
            f"({in_short(error)}); {WAYS_OUT}."
        ) from error
    overlay = {"pretrained_cfg_overlay": {"state_dict": load_file(file)}}  # timm adapts the names
    return _create(name, {**arguments, **overlay}, pretrained=True)


@contextmanager
def _explained(file: Path, name: str) -> Iterator[None]:
    """What goes wrong with a file of weights, as one sentence."""
    try:
        yield
    except UNREADABLE as error:
        raise MissingWeights(
            f"'{file}' does not hold the weights of {name} ({in_short(error)}); check "
            "model.checkpoint, model.name, and that model.num_classes is that of the file."
        ) from error


def _classes_of(read: Checkpoint, name: str, given: int | None) -> int | None:
    """How many classes: as many as the file names, else as given, else as its head has."""
    published = timm.get_pretrained_cfg(name)
    in_head = read.classes(published.classifier if published is not None else None)
    if read.class_names is not None:
        return len(read.class_names)
    return in_head if given is None else given


def _tell(model: nn.Module, read: Checkpoint) -> None:
    """Let a model know what goes with its weights."""
    names = read.class_names
    known = {"label_names": tuple(names)} if names is not None else {}
    model.pretrained_cfg = {**model.pretrained_cfg, **read.config, **known}  # type: ignore[dict-item, assignment]  # timm's
