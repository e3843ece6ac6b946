"""Weights in a local file, whoever wrote it: read without running code, and what goes with them.

Read are safetensors, torch state dicts, and the checkpoints of Lightning and timm. What goes with
the weights are the names of the classes and the input that the model expects: in the file itself
when `train.py` wrote it, or beside it: `mine.classes.txt` (a name per line), or the `config.json`
that timm saves for the hub.
"""

import argparse
import json
import logging
import pathlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

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
_INPUT = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")
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

    def of(self, names: Collection[str]) -> dict[str, Tensor]:
        """Weights of the one model in the file whose parameters have these names.

        A wrapper may have put one prefix before all of them, such as Lightning's "model." or the
        "module." of several processes; what does not begin with it belongs to something else.

        Raises:
            ValueError: several models fit.
        """
        first = min(names, key=len)
        prefixes = [
            key.removesuffix(first) for key in self.state if f".{key}".endswith(f".{first}")
        ]
        known = {prefix: sum(prefix + name in self.state for name in names) for prefix in prefixes}
        best = [prefix for prefix in known if known[prefix] == max(known.values())]
        if len(best) > 1:
            raise ValueError(f"it holds several models that fit: {', '.join(sorted(best))}")
        prefix = best[0] if best else ""
        return {
            key.removeprefix(prefix): tensor
            for key, tensor in self.state.items()
            if key.startswith(prefix)
        }

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
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            told = (opened.metadata() or {}).get(ABOUT, "{}")
    else:
        content = _unpickle(file, trust_pickle)
        state, told = _unwrapped(content), "{}"
        if isinstance(content, Mapping) and isinstance(content.get(ABOUT), str):
            told = content[ABOUT]
    return Checkpoint(state, **{**_beside(file), **json.loads(told)})


def about(model: nn.Module, class_names: Sequence[str]) -> str:
    """What goes with a model's weights, as JSON for `ABOUT` in its file."""
    said: Mapping[str, Any] = model.pretrained_cfg  # type: ignore[assignment]  # timm's
    config = {key: said[key] for key in _INPUT if key in said}
    return json.dumps({"class_names": list(class_names), "config": config})


def write_checkpoint(file: Path, model: nn.Module, class_names: Sequence[str]) -> None:
    """Write a model's weights and what goes with them as safetensors."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, file, {ABOUT: about(model, class_names)})


def _unpickle(file: Path, trust_pickle: bool) -> Any:
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError:
        if not trust_pickle:
            raise
    _log.warning("'%s' is a pickle: the code in it runs now, since trust_pickle=true.", file)
    return torch.load(file, map_location="cpu", weights_only=False)


def _unwrapped(content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the model itself, whatever wraps it."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping | nn.Module):
            content = content[key]
            break
    if isinstance(content, nn.Module):  # only a pickle that is trusted
        content = content.state_dict()
    if not isinstance(content, Mapping):
        raise ValueError("it is no state dict")
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not state or len(state) < len(content):
        raise ValueError("it is no state dict")
    return state


def _beside(file: Path) -> dict[str, Any]:
    """What the files beside it say."""
    names, config = file.with_suffix(".classes.txt"), file.with_name("config.json")
    told: dict[str, Any] = {}
    if config.is_file():
        said = json.loads(config.read_text(encoding="utf-8"))
        if isinstance(said, dict) and isinstance(said.get("pretrained_cfg"), dict):
            told["config"] = {k: v for k, v in said["pretrained_cfg"].items() if k in _INPUT}
            if said.get("label_names"):
                told["class_names"] = list(said["label_names"])
    if names.is_file():
        told["class_names"] = names.read_text(encoding="utf-8").splitlines()
    return told
