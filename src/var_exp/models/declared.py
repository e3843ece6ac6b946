"""What a network says of itself: its input, its head, its classes and their names.

It says so in `pretrained_cfg`, the dictionary in which timm's networks carry what belongs to their
weights; `declare` writes there for networks of other sources, and copies keep it. Networks of
Hugging Face also have a `config`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args

import torch
from torch import Tensor, nn

from var_exp.types import ConfigError, InputSpec, Logits

Head: TypeAlias = Literal["softmax", "sigmoid"]
"""How logits become probabilities: classes that exclude each other, or independent labels."""

Network = TypeVar("Network", bound=nn.Module)


def declare(
    model: Network,
    *,
    size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    crop_pct: float | None = None,
    crop_mode: Literal["center", "squash", "border"] | None = None,
    fixed_size: bool | None = None,
    head: Head | None = None,
    class_names: Sequence[str] | None = None,
    name: str | None = None,
) -> Network:
    """Say of a network what it takes and gives, as far as it is known; the rest stays.

    Args:
        model: Gets or keeps a dictionary `pretrained_cfg`; nothing else is altered.
        size: Side of the square pictures in pixels, or (height, width).
        mean: Per channel, subtracted from a picture in [0, 1].
        std: Per channel, divides afterwards.
        interpolation: How photographs are resized: "bilinear" or "bicubic".
        crop_pct: Share of the resized short side that the crop keeps.
        crop_mode: How the square is cut; see `InputSpec`.
        fixed_size: Whether it refuses every other size.
        head: "softmax", or "sigmoid" for labels that do not exclude each other.
        class_names: Names of its classes, by number.
        name: What it is called.

    Returns:
        The same network.

    Raises:
        ConfigError: another head.
    """
    if head is not None and head not in get_args(Head):
        raise ConfigError(f"head must be softmax or sigmoid, got '{head}'; choose one of these.")
    told = {
        "mean": None if mean is None else tuple(mean),
        "std": None if std is None else tuple(std),
        "interpolation": interpolation,
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
        "fixed_input_size": fixed_size,
        "head": head,
        "label_names": None if class_names is None else tuple(class_names),
        "architecture": name,
    }
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        channels = len(mean) if mean is not None else (first_channels(model) or 3)
        told["input_size"] = (channels, height, width)
    known = {key: value for key, value in told.items() if value is not None}
    model.pretrained_cfg = {**told_by(model), **known}  # type: ignore[assignment]  # timm's place
    return model


def input_spec(model: nn.Module) -> InputSpec:
    """What a model expects to see, as it says itself.

    Raises:
        ConfigError: it does not say, or contradicts itself.
    """
    said = told_by(model)
    lacking = [key for key in ("input_size", "mean", "std") if not said.get(key)]
    if lacking:
        raise ConfigError(
            f"the input of {type(model).__name__} is unknown, since it does not say its "
            f"{' and '.join(lacking)}; build it with load_model, say it with "
            "var_exp.models.declare, or pass an InputSpec of your own."
        )
    mean, std = tuple(map(float, said["mean"])), tuple(map(float, said["std"]))
    if len(mean) != len(std):
        raise ConfigError(
            f"{type(model).__name__} names {len(mean)} means and {len(std)} standard deviations; "
            "name one for each channel."
        )
    built = built_for(model)
    height, width = built or said["input_size"][-2:]
    any_size = getattr(getattr(model, "patch_embed", None), "strict_img_size", True) is False
    return InputSpec(
        size=height,
        width=None if width == height else width,
        mean=mean,
        std=std,
        interpolation=said.get("interpolation") or "bicubic",
        crop_pct=said.get("crop_pct") or 1.0,
        crop_mode=said.get("crop_mode") or "center",
        fixed_size=not any_size and bool(built or said.get("fixed_input_size")),
    )


def crop_share(side: int, resized: int) -> float:
    """Share that a crop keeps of a picture resized to these pixels, as `declare` takes it.

    A hair less than side / resized where the quotient side / share, which is rounded down, would
    otherwise fall short of them.
    """
    share = side / resized
    return share if math.floor(side / share) == resized else math.nextafter(share, 0)


def class_names(model: nn.Module) -> tuple[str, ...] | None:
    """Names of a model's classes by number, where it or its weights' file says them."""
    names = told_by(model).get("label_names")
    if names is not None:
        return tuple(names)
    labels = getattr(getattr(model, "config", None), "id2label", None)  # Hugging Face's
    if not isinstance(labels, Mapping) or not labels:
        return None
    found = tuple(str(labels[number]) for number in sorted(labels))
    unnamed = tuple(f"LABEL_{number}" for number in range(len(found)))
    return None if found == unnamed else found


def classes_of(model: nn.Module) -> int | None:
    """How many classes a network says it has; None where it does not. One logit makes two."""
    for said in (model, getattr(model, "config", None)):
        for key in ("num_classes", "num_labels"):
            count = getattr(said, key, None)
            if isinstance(count, int) and count > 0:
                return max(count, 2)
    return None


def network_name(model: nn.Module) -> str | None:
    """What the network calls itself, such as "tf_efficientnet_lite0"; None where it does not."""
    name = told_by(model).get("architecture")
    return None if name is None else str(name)


def head_of(model: object) -> Head:
    """How a network's logits become probabilities, as it says; "softmax" where it does not."""
    said = told_by(model).get("head")
    if said is not None:
        return cast(Head, said)
    problem = getattr(getattr(model, "config", None), "problem_type", None)  # Hugging Face's
    return "sigmoid" if problem == "multi_label_classification" else "softmax"


def probabilities(logits: Logits, head: Head) -> Tensor:
    """Probabilities [B, N] of logits, float32 at least: they sum to 1 with a softmax head only."""
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return precise.sigmoid() if head == "sigmoid" else precise.softmax(1)


def first_channels(model: nn.Module) -> int | None:
    """Channels of the pictures, by the first convolution; None without one."""
    said = getattr(getattr(model, "config", None), "num_channels", None)  # Hugging Face's
    if isinstance(said, int):
        return said
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    first = next(convolutions, None)
    return None if first is None else first.in_channels


def built_for(model: nn.Module) -> tuple[int, int] | None:
    """Height and width that a network of one size was built for, whatever its weights say."""
    patches = getattr(model, "patch_embed", None)
    strict = getattr(patches, "strict_img_size", False)
    sizes = (
        getattr(patches, "img_size", None) if strict else None,  # timm's
        # timm's, where not only the patches depend on it
        getattr(model, "img_size", None) if told_by(model).get("fixed_input_size") else None,
        getattr(model, "image_size", None),  # torchvision's
    )
    for size in sizes:
        if isinstance(size, int):
            return size, size
        if isinstance(size, tuple | list) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None


def told_by(model: object) -> Mapping[str, Any]:
    """All that a network says in timm's dictionary; empty where it has none."""
    said = getattr(model, "pretrained_cfg", None)
    return said if isinstance(said, Mapping) else {}
