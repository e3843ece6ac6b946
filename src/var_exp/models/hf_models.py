"""Image classifiers of Hugging Face's transformers, with their preprocessing and their labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from var_exp.models.declared import Head, crop_share, declare
from var_exp.models.frozen import returning_logits
from var_exp.models.hub import WAYS_OUT, answered, in_short
from var_exp.types import ConfigError, MissingWeights

_PIL = {2: "bilinear", 3: "bicubic"}  # PIL's numbers


def hf_model(
    name: str,
    pretrained: bool = True,
    head: Head | None = None,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Load any network of `AutoModelForImageClassification`; it returns logits [B, N].

    Its image processor says how pictures become its input, its configuration names the classes.

    Args:
        name: On the hub, such as "google/vit-base-patch16-224", or a folder that was saved.
        pretrained: False builds it from its configuration, with random weights.
        head: "softmax" or "sigmoid"; None takes what the configuration says (`problem_type`).
        options: Further arguments of `from_pretrained`, such as `attn_implementation`.

    Raises:
        ConfigError: transformers is not installed, or builds no classifier from this.
        MissingWeights: name is neither a folder nor to be had.
    """
    transformers = import_transformers()
    options = dict(options or {})
    classifiers, configurations = (
        transformers.AutoModelForImageClassification,
        transformers.AutoConfig,
    )
    check_at_hand(name, classifiers if pretrained else configurations)
    try:
        model: nn.Module = (
            classifiers.from_pretrained(name, **options)
            if pretrained
            else classifiers.from_config(configurations.from_pretrained(name), **options)
        )
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ConfigError(
            f"transformers builds no image classifier from '{name}' ({in_short(error)}); name one "
            "of AutoModelForImageClassification."
        ) from error
    declare(model, head=head, name=Path(name).name)
    declare_preprocessing(model, name)
    return returning_logits(model).eval().requires_grad_(False)


def import_transformers() -> Any:
    """The library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import transformers  # here, since it is an extra and takes seconds
    except ImportError as error:
        raise ConfigError(
            "this network needs Hugging Face's transformers; pip install 'var_exp[hf]'."
        ) from error
    return transformers


def check_at_hand(name: str, reader: Any) -> None:
    """Refuse what is neither a folder, nor cached, nor on a hub that answers.

    transformers would ask the hub about cached files too, and repeat its questions for most of a
    minute where there is no network.

    Raises:
        MissingWeights: it is neither local, nor cached, nor does the hub answer.
    """
    if Path(name).is_dir():
        return
    if Path(name).is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise MissingWeights(f"there is no folder '{name}'; {WAYS_OUT}.")
    try:
        answered(name, "config.json")
    except Exception as error:  # each version of the hub's client brings its own network errors
        try:
            reader.from_pretrained(name, local_files_only=True)
        except Exception:
            raise MissingWeights(
                f"'{name}' is no folder, is not in the local cache and cannot be downloaded "
                f"({in_short(error)}); {WAYS_OUT}."
            ) from error


def declare_preprocessing(model: nn.Module, name: str) -> None:
    """Say how pictures become the network's input, as its image processor does it.

    What the processor does beyond resizing, cropping and one normalisation is not said, so that
    `input_spec` asks for it.
    """
    transformers = import_transformers()
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(name)
    except (OSError, ValueError, KeyError):  # saved without one
        return
    twice = getattr(processor, "rescale_offset", None) or getattr(processor, "include_top", None)
    resample = _PIL.get(int(getattr(processor, "resample", None) or 0))
    standard = getattr(processor, "rescale_factor", 1 / 255) == 1 / 255
    geometry = _geometry(processor)
    if twice or resample is None or geometry is None or not standard:
        return
    channels = len(processor.image_mean or (0, 0, 0))
    normalises = getattr(processor, "do_normalize", True)
    declare(
        model,
        **geometry,
        interpolation=resample,
        mean=processor.image_mean if normalises else [0.0] * channels,
        std=processor.image_std if normalises else [1.0] * channels,
    )


def _geometry(processor: Any) -> dict[str, Any] | None:
    """What `declare` says of size and crop; None where the processor does something else."""
    size, crop = processor.size, getattr(processor, "crop_size", None)
    short, height, width = (_side(size, key) for key in ("shortest_edge", "height", "width"))
    if getattr(processor, "do_center_crop", None) and crop is not None:
        down, across = _side(crop, "height"), _side(crop, "width")
        if down is None or across is None:
            return None
        if short is not None:  # of other crops timm resizes the side that fits
            share = crop_share(down, short)
            return _said(down, across, share, "center") if down == across else None
        if height is None or width is None or down * width != across * height:
            return None
        return _said(down, across, crop_share(down, height), "squash")
    kept = getattr(processor, "crop_pct", None)
    if short is not None and kept is not None:
        # as ConvNeXt: from 384 px on, both sides are resized and nothing is cut away
        whole = short >= 384
        return _said(short, short, 1.0, "squash") if whole else _said(short, short, kept, "center")
    return None if height is None or width is None else _said(height, width, 1.0, "squash")


def _said(height: int, width: int, crop_pct: float, crop_mode: str) -> dict[str, Any]:
    return {"size": (height, width), "crop_pct": crop_pct, "crop_mode": crop_mode}


def _side(size: Any, key: str) -> int | None:
    found = size.get(key) if isinstance(size, Mapping) else getattr(size, key, None)
    return None if found is None else int(found)
