"""What a file says of its weights: the input that they expect and the names of the classes.

It comes from whoever made the file. A claimed input of 100,000 px would take 43 GB, a deviation of
0 would make every score undefined: all of it is checked before it is believed.
"""

import json
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

from var_exp.text import printable

INPUT = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")
"""What timm's `pretrained_cfg` says of the input, of which a file may know better."""

_MOST_CHANNELS = 64
_MOST_PIXELS = 4096  # of a side; the largest that timm's weights expect is 1024


def read_about(text: str, where: str) -> dict[str, Any]:
    """Names and input from the JSON that `checkpoint.about` wrote.

    Args:
        text: The JSON.
        where: Who says so, in words for the error.

    Raises:
        ValueError: it is no such JSON, or says what cannot be.
    """
    told = _parse(text, where)
    found: dict[str, Any] = {}
    if "config" in told:
        found["config"] = check_input(told["config"], where)
    if "class_names" in told:
        found["class_names"] = check_names(told["class_names"], where)
    return found


def read_hub_config(text: str) -> dict[str, Any]:
    """Names and input from the `config.json` that timm saves; {} where it is another program's.

    Raises:
        ValueError: it says what cannot be.
    """
    where = "config.json"
    try:
        said = _parse(text, where)
    except ValueError:
        return {}
    if not isinstance(said.get("pretrained_cfg"), dict):
        return {}
    found: dict[str, Any] = {"config": check_input(said["pretrained_cfg"], where)}
    if said.get("label_names"):
        found["class_names"] = check_names(said["label_names"], where)
    return found


def check_names(names: object, where: str) -> list[str]:
    """Names of classes, as they can be shown.

    Raises:
        ValueError: they are no names, or none.
    """
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        raise ValueError(f"{where} names no classes")
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"{where} has a class without a name")
    return [printable(name.strip()) for name in names]


def check_input(config: object, where: str) -> dict[str, Any]:
    """The part of a configuration that is about the input.

    Raises:
        ValueError: it says what cannot be.
    """
    if not isinstance(config, dict):
        raise ValueError(f"{where} must say the input by name, got {str(config)[:40]!r}")
    told = {key: config[key] for key in INPUT if config.get(key) is not None}
    for key, value in told.items():
        fits, rule = _RULES[key]
        if not fits(value):
            raise ValueError(f"{where} says {key}={str(value)[:40]}, which must be {rule}")
    channels = told.get("input_size", [3])[0]
    for key in ("mean", "std"):
        if key in told and len(told[key]) != channels:
            raise ValueError(
                f"{where} says {key}={str(told[key])[:40]}, which must be {channels} numbers, one "
                "for each channel"
            )
    return told


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"what {where} says of the weights is no JSON ({error})") from error
    if not isinstance(told, dict):
        raise ValueError(f"what {where} says of the weights has no names")
    return told


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _each(value: object, fits: Callable[[Any], bool]) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and 1 <= len(value) <= _MOST_CHANNELS
        and all(fits(each) for each in value)
    )


def _is_size(value: object) -> bool:
    return (
        _each(value, lambda side: isinstance(side, int) and 1 <= side <= _MOST_PIXELS)
        and len(value) == 3  # type: ignore[arg-type]  # it is a sequence
        and value[0] <= _MOST_CHANNELS  # type: ignore[index]
    )


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "input_size": (_is_size, f"[channels, height, width], with sides of at most {_MOST_PIXELS} px"),
    "mean": (
        lambda v: _each(v, lambda m: _number(m) and abs(m) <= 10),
        "a number about 0.5 for each channel",
    ),
    "std": (
        lambda v: _each(v, lambda s: _number(s) and 1e-3 <= s <= 100),
        "a number above 0, such as 0.25, for each channel",
    ),
    "interpolation": (lambda v: v in ("bilinear", "bicubic"), "bilinear or bicubic"),
    "crop_pct": (lambda v: _number(v) and 0.05 <= v <= 1, "a share between 0.05 and 1"),
    "crop_mode": (lambda v: v in ("center", "squash", "border"), "center, squash or border"),
}
