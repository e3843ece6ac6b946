"""What a network takes and gives: what it says of itself, and what one forward pass shows.

A network says it in `pretrained_cfg`, the dictionary in which timm's networks carry what belongs to
their weights; `declare` writes there for networks of other sources, and copies keep it. Networks of
Hugging Face also have a `config`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args

import torch
from torch import Tensor, nn

from var_exp.models.frozen import frozen, weights_type
from var_exp.models.outputs import logits_of, raw_logits
from var_exp.types import ConfigError, Images, InputSpec, Logits, UnsupportedModel

Head: TypeAlias = Literal["softmax", "sigmoid"]
"""How logits become probabilities: classes that exclude each other, or independent labels."""

FORWARD_FAILURES = (
    *(RuntimeError, AssertionError, ValueError, TypeError, IndexError, AttributeError),
    *(KeyError, NotImplementedError),
)
"""What somebody's network may raise on pictures that it cannot take."""

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Description:
    """What a network takes and gives, seen in a forward pass.

    Attributes:
        channels: Of its pictures.
        height: Of its pictures, in pixels.
        width: Likewise.
        dtype: Type that it computes in: that of its weights.
        output: What it returns, in words: "logits [B, N]", "one logit", or what holds them.
        head: Whether the classes compete in a softmax or each has a sigmoid of its own. One logit
            counts as two classes in a softmax.
        num_classes: N, of the logits that are explained.
        class_names: By number; None when nobody says.
    """

    channels: int
    height: int
    width: int
    dtype: torch.dtype
    output: str
    head: Head
    num_classes: int
    class_names: tuple[str, ...] | None


def describe(model: nn.Module, images: Images) -> tuple[Description, Logits]:
    """Run a network on pictures as they will be given to it, and say what it takes and gives.

    Args:
        model: Not altered.
        images: [B, C, H, W] floating point, normalised.

    Returns:
        The description, and the logits [B, N] of these pictures.

    Raises:
        UnsupportedModel: it cannot take these pictures, and why; or it returns no logits.
        ConfigError: it names more or fewer classes than it has.
    """
    with frozen(model), torch.no_grad(), _returned(model) as returned:
        logits = run_or_refuse(model, images)
        output = returned[0] if returned else logits
    names = class_names(model)
    if names is not None and len(names) != logits.shape[1]:
        raise ConfigError(
            f"the model has {logits.shape[1]} classes and names {len(names)}; give it one name for "
            "each class."
        )
    one_logit = raw_logits(output).shape[1] == 1
    kind = "logits [B, N]" if isinstance(output, Tensor) else type(output).__name__
    return (
        Description(
            channels=images.shape[1],
            height=images.shape[2],
            width=images.shape[3],
            dtype=weights_type(model) or images.dtype,
            output="one logit" if one_logit else kind,
            head="softmax" if one_logit else head_of(model),
            num_classes=logits.shape[1],
            class_names=names,
        ),
        logits,
    )


@contextmanager
def _returned(model: nn.Module) -> Iterator[list[Any]]:
    """What a network itself returns, in a list; inside `frozen`, which takes the logits out."""
    returned: list[Any] = []
    if isinstance(model, torch.jit.ScriptModule):  # takes no hooks
        yield returned
        return
    handle = model.register_forward_hook(
        lambda _model, _inputs, output: returned.append(output), prepend=True
    )
    try:
        yield returned
    finally:
        handle.remove()


def run_or_refuse(model: nn.Module, images: Images) -> Logits:
    """Logits of some pictures; call it inside `frozen`.

    Raises:
        UnsupportedModel: the network cannot take these pictures, in one sentence with the cause.
    """
    try:
        return logits_of(model(images))
    except FORWARD_FAILURES as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UnsupportedModel(_cause(model, images, error)) from error


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
    said = {
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
        said["input_size"] = (channels, height, width)
    known = {key: value for key, value in said.items() if value is not None}
    model.pretrained_cfg = {**_said(model), **known}  # type: ignore[assignment]  # timm's place
    return model


def input_spec(model: nn.Module) -> InputSpec:
    """What a model expects to see, as it says itself.

    Raises:
        ConfigError: it does not say, or contradicts itself.
    """
    said = _said(model)
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
    height, width = said["input_size"][-2:]
    patches = getattr(model, "patch_embed", None)
    return InputSpec(
        size=height,
        width=None if width == height else width,
        mean=mean,
        std=std,
        interpolation=said.get("interpolation") or "bicubic",
        crop_pct=said.get("crop_pct") or 1.0,
        crop_mode=said.get("crop_mode") or "center",
        fixed_size=bool(said.get("fixed_input_size", False))
        and getattr(patches, "strict_img_size", True),
    )


def class_names(model: nn.Module) -> tuple[str, ...] | None:
    """Names of a model's classes by number, where it or its weights' file says them."""
    names = _said(model).get("label_names")
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
    name = _said(model).get("architecture")
    return None if name is None else str(name)


def head_of(model: object) -> Head:
    """How a network's logits become probabilities, as it says; "softmax" where it does not."""
    said = _said(model).get("head")
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


def _said(model: object) -> Mapping[str, Any]:
    said = getattr(model, "pretrained_cfg", None)
    return said if isinstance(said, Mapping) else {}


def _cause(model: nn.Module, images: Tensor, error: BaseException) -> str:
    """Why a network cannot take some pictures, in one sentence with the fix."""
    channels, (given, height, width) = first_channels(model), images.shape[1:]
    name = type(model).__name__
    if channels not in (None, given):
        return (
            f"{name} takes pictures of {channels} channels, got {given}; use data of {channels} "
            f"channels, or build the model for {given} (in timm: in_chans={given})."
        )
    said = _said(model).get("input_size")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .")[:200]
    expected = ""
    if said and tuple(said[-2:]) != (height, width):
        expected = f"it says it takes {said[-2]} x {said[-1]}; "
    return (
        f"{name} cannot take pictures of {height} x {width} px ({expected}{reason}); use "
        "layout.cell=rescaled, layout=single, or another model."
    )
