"""Which run this is: what its numbers depend on, hashed, recorded in `run.json`, and compared.

The record of a run is everything that its scores depend on apart from the hardware: options,
weights, data, code and versions of the packages. Two runs with the same record give the same bytes
in `scores.csv` on the same hardware. How work is spread (`SPREAD`) is not part of it: a run may go
on with another number of processes.

Folders are named by hashes of the options, so that the same command finds its run again.
"""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from var_exp.runs.naming import deciding_options
from var_exp.runs.scoring_code import code_hash
from var_exp.types import BadData, Sample, SampleDataset

_PACKAGE = Path(__file__).parents[1]
_PACKAGES = (
    *("var_exp", "torch", "torchvision", "timm", "lightning", "captum", "torchmetrics", "numpy"),
)
_LOOKED_AT = 16  # samples whose pixels are part of the data's hash


def record_of(
    root: Mapping[str, Any], model: nn.Module, dataset: SampleDataset, maps: Sequence[Path] = ()
) -> dict[str, Any]:
    """Everything that the scores of a run depend on, apart from the hardware.

    Args:
        root: Checked configuration.
        model: With its weights.
        dataset: In its layout.
        maps: Files that the maps are read from; none where they are computed.
    """
    options = deciding_options(root)
    read = {"maps": content_hash(maps)} if maps else {}
    return read | {
        "options": options,
        "weights": weights_hash(model),
        "data": data_hash(dataset),
        "code": code_hash(options),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
    }


def weights_hash(model: nn.Module) -> str:
    """Hash of all parameters and buffers, by name."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        _add(digest, name, tensor)
    return digest.hexdigest()


def data_hash(dataset: SampleDataset) -> str:
    """Hash of ids, labels and class names, of the sizes of the files, and of some samples' pixels.

    Not of all pixels: that would take as long as reading all the data.
    """
    digest = hashlib.blake2b(digest_size=8)
    count = len(dataset)
    digest.update(repr(list(dataset.class_names)).encode())
    for place in range(count):
        digest.update(repr((dataset.sample_id(place), dataset.label(place))).encode())
    for file in dataset.files():
        digest.update(repr((file.name, file.stat().st_size)).encode())
    for place in sorted({int(p) for p in np.linspace(0, count - 1, min(count, _LOOKED_AT))}):
        try:
            sample: Sample | None = dataset[place]
        except BadData:
            sample = None  # what becomes of it is for the run to say
        for name in ("image", "classes", "regions", "scope", "competitors", "without"):
            _add(digest, name, getattr(sample, name, None))
    return digest.hexdigest()


def content_hash(files: Sequence[Path]) -> str:
    """Hash of the names of files and of all that they hold."""
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, hashlib.blake2b).hexdigest()
        digest.update(f"{path.name} {content}".encode())
    return digest.hexdigest()


def _add(digest: "hashlib.blake2b", name: str, tensor: Tensor | None) -> None:
    if tensor is None:
        digest.update(f"{name} none".encode())
        return
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    flat = tensor.detach().cpu().contiguous().flatten()
    digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
