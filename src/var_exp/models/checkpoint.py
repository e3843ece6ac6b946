"""Weights in a local file, whoever wrote it: read without running code, and what goes with them.

Read are safetensors, torch state dicts, and the checkpoints of Lightning and timm. What goes with
the weights are the names of the classes and the input that the model expects: in the file itself
when `train.py` wrote it, or beside it: `mine.classes.txt` (a name per line), or the `config.json`
that timm saves for the hub. All of it comes from whoever made the file, so it is checked before it
is believed (`var_exp.models.metadata`).
"""

import argparse
import json
import logging
import pathlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from var_exp.files import no_file
from var_exp.models.metadata import INPUT, check_names, read_about, read_hub_config
from var_exp.models.packaged import in_timm_names

UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, SafetensorError, UnpicklingError)
"""What reading a file that holds no weights may raise; the text says what is wrong with it."""

ABOUT = "var_exp"
"""Where a file says what goes with its weights: key of its metadata or of its dictionary."""

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # timm, too, prefers averages
_HARMLESS: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
]  # beside timm's weights
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Weights by the names that the file gives them, and what goes with them.

    Attributes:
        state: Tensors by name.
        class_names: Name of each class, by number; None when nobody says.
        config: What timm's `pretrained_cfg` should say, as far as the file knows better.
    """

    state: Mapping[str, Tensor]
    class_names: Sequence[str] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def of(self, model: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the one model in the file that has these names and shapes.

        A wrapper may have put one prefix before all of them, such as Lightning's "model." or the
        "module." of several processes; what does not begin with it belongs to something else.

        Args:
            model: The state of a model as it was built.

        Raises:
            ValueError: several models fit, or none, or the weights are no finite real numbers.
        """
        first = min(model, key=len)
        prefixes = [
            key.removesuffix(first) for key in self.state if f".{key}".endswith(f".{first}")
        ]
        known = {prefix: sum(prefix + name in self.state for name in model) for prefix in prefixes}
        best = [prefix for prefix in known if known[prefix] == max(known.values())]
        if len(best) > 1:
            raise ValueError(f"it holds several models that fit: {', '.join(sorted(best))}")
        prefix = best[0] if best else ""
        found = {
            key.removeprefix(prefix): tensor
            for key, tensor in self.state.items()
            if key.startswith(prefix)
        }
        found = in_timm_names(found, model)
        _check_weights(found, model)
        return found

    def classes(self, classifier: str | Sequence[str] | None) -> int | None:
        """Number of classes, from the head that timm calls `classifier`; None when it is not there.

        Raises:
            ValueError: there are more or fewer names than that.
        """
        head = classifier if isinstance(classifier, str | None) else classifier[0]
        sizes = {
            len(tensor)
            for key, tensor in self.state.items()
            if head and f".{key}".endswith((f".{head}.weight", f".{head}.bias")) and tensor.ndim
        }
        count = sizes.pop() if len(sizes) == 1 else None
        if self.class_names is not None and count not in (None, len(self.class_names)):
            raise ValueError(
                f"its head has {count} classes, and {len(self.class_names)} names go with it"
            )
        return count


def read_checkpoint(file: Path, trust_pickle: bool = False) -> Checkpoint:
    """Read a file of weights.

    Args:
        file: safetensors (by its ending), or what `torch.save` wrote.
        trust_pickle: Run the code that a pickle may hold, where it holds more than weights.

    Raises:
        OSError: and the others of `UNREADABLE`: it cannot be read, or holds no weights.
    """
    if reason := no_file(file):
        raise ValueError(reason)
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            told = (opened.metadata() or {}).get(ABOUT, "{}")
    else:
        content = _unpickle(file, trust_pickle)
        state, told = _unwrapped(content), "{}"
        if isinstance(content, Mapping) and isinstance(content.get(ABOUT), str):
            told = content[ABOUT]
    return Checkpoint(state, **{**_beside(file), **read_about(told, "the file")})


def about(model: nn.Module, class_names: Sequence[str]) -> str:
    """What goes with a model's weights, as JSON for `ABOUT` in its file."""
    said: Mapping[str, Any] = model.pretrained_cfg  # type: ignore[assignment]  # timm's
    config = {key: said[key] for key in INPUT if key in said}
    return json.dumps({"class_names": list(class_names), "config": config})


def write_checkpoint(file: Path, model: nn.Module, class_names: Sequence[str]) -> None:
    """Write a model's weights and what goes with them as safetensors."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, file, {ABOUT: about(model, class_names)})


def _unpickle(file: Path, trust_pickle: bool) -> Any:
    if reason := _no_weights(file):
        raise ValueError(reason)
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file brings any
        if not isinstance(error, UnpicklingError) or "Unsupported global" not in str(error):
            raise ValueError(
                "it is damaged or no file that torch.save wrote; download or save it again"
            ) from error
        if not trust_pickle:
            found = re.search(r"GLOBAL (\S+)", str(error))
            named = f", such as {found[1][:60]}" if found else ""
            raise ValueError(
                f"it holds objects beside the weights{named}; if you trust who made it, "
                "model.trust_pickle=true runs the code in it"
            ) from error
    _log.warning("'%s' is a pickle: the code in it runs now, since trust_pickle=true.", file)
    return torch.load(file, map_location="cpu", weights_only=False)


def _no_weights(file: Path) -> str | None:
    """What a file is that a download left in place of weights; None where it may be weights."""
    with file.open("rb") as opened:
        head = opened.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "the file is empty; download it again"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git-LFS pointer, not the file itself; fetch that with: git lfs pull"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, which a failed download left; download the file again"
    if text.startswith((b"{", b"[")) and b"\0" not in head:
        return "it is JSON, perhaps the error of a failed download; download the file again"
    return None


def _unwrapped(content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the model itself, whatever wraps it.

    Where no usual key holds them, those of every entry that is one, with its key before the names:
    `Checkpoint.of` takes the one that fits.
    """
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and (state := _state(content.get(key))):
            return state
    if state := _state(content):
        return state
    entries = content.items() if isinstance(content, Mapping) else ()
    states = {str(key): state for key, entry in entries if (state := _state(entry))}
    if not states:
        raise ValueError("it is no state dict")
    return {
        f"{key}.{name}": tensor for key, state in states.items() for name, tensor in state.items()
    }


def _state(entry: Any) -> dict[str, Tensor] | None:
    """Tensors by name, if that is what an entry is."""
    if isinstance(entry, nn.Module):  # only in a pickle that is trusted
        entry = entry.state_dict()
    if not isinstance(entry, Mapping):
        return None
    state = {str(key): value for key, value in entry.items() if isinstance(value, Tensor)}
    return state if state and len(state) == len(entry) else None


def _check_weights(found: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> None:
    """Refuse weights of another network, and what are no finite real numbers.

    Raises:
        ValueError: the first thing that is wrong.
    """
    missing = [name for name in model if name not in found]
    if missing:
        raise ValueError(
            f"another network: it lacks {len(missing)} of {len(model)} weights, such as "
            f"{missing[0]}"
        )
    more = [name for name in found if name not in model]
    if more:
        raise ValueError(f"another network: it has {len(more)} weights too many, such as {more[0]}")
    for name, own in model.items():
        tensor = found[name]
        if tensor.shape != own.shape:
            raise ValueError(
                f"another network: {name} is {list(tensor.shape)} in the file and "
                f"{list(own.shape)} in the network"
            )
        if own.is_floating_point() and not tensor.is_floating_point():
            raise ValueError(
                f"{name} is of type {str(tensor.dtype).removeprefix('torch.')}, no real numbers"
            )
        if own.is_floating_point() and bool((own.isfinite() & ~tensor.to(own).isfinite()).any()):
            raise ValueError(f"{name} holds NaN or infinite numbers, as a failed training leaves")


def _beside(file: Path) -> dict[str, Any]:
    """What the files beside it say."""
    names, config = file.with_suffix(".classes.txt"), file.with_name("config.json")
    told: dict[str, Any] = {}
    if config.is_file():
        told |= read_hub_config(config.read_text(encoding="utf-8-sig"))
    if names.is_file():
        try:
            lines = names.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{names.name} beside it is no UTF-8; save it as that") from error
        told["class_names"] = check_names(lines, names.name)
    return told
