"""Which pictures a model is sure of; kept in a file, so that the next run need not ask again.

The grid pointing game takes pictures that are classified correctly with a softmax confidence of at
least 0.99, so that the model certainly sees the class it is asked about.

Source: Rao et al., "Towards Better Understanding Attribution Methods", CVPR 2022.
"""

import json
import logging
import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile

import torch
from rich.progress import track
from torch import nn

from var_exp.data.datamodule import SampleModule
from var_exp.types import BadData, ConfigError, InputSpec, SampleDataset

_PROBES = 8  # pictures whose pixels stand for those of all
_BATCH = 32
_log = logging.getLogger(__name__)


def confidences(
    dataset: SampleDataset, model: nn.Module, spec: InputSpec, workers: int | None = 0
) -> list[float]:
    """Probability of each sample's label; 0 where another class is likelier or nothing is readable.

    Asked once for each content of data, weights and preprocessing, on a GPU when there is one; the
    answers are kept in the folder `VAR_EXP_CACHE` (`~/.cache/var_exp` by default).

    Raises:
        ConfigError: samples whose classes are not the model's.
    """
    if dataset.members is not None:
        raise ConfigError(
            "layout.confidence needs data with the model's own classes; leave it out, or use "
            "data=imagenet."
        )
    ids = [dataset.sample_id(index) for index in range(len(dataset))]
    file = _cache() / f"confidence-{_key(dataset, ids, model, spec)}.json"
    found = _read(file)
    if found is None:
        found = _ask(dataset, model, spec, workers)
        _write(file, found)
    return [found.get(name, 0.0) for name in ids]


def _ask(
    dataset: SampleDataset, model: nn.Module, spec: InputSpec, workers: int | None
) -> dict[str, float]:
    """Confidence by sample id."""
    home = next(iter(model.parameters())).device
    device = torch.device("cuda") if torch.cuda.is_available() else home
    module = SampleModule(dataset, spec, _BATCH, workers)
    found: dict[str, float] = {}
    model.to(device)
    try:
        for loaded in track(module.test_dataloader(), "confidence", transient=True):
            for batch in module.on_before_batch_transfer(loaded, 0):
                with torch.no_grad():
                    probabilities = model(batch.images.to(device)).float().softmax(1).cpu()
                if probabilities.shape[1] != len(dataset.class_names):
                    raise ConfigError(
                        f"the model has {probabilities.shape[1]} classes and the data "
                        f"{len(dataset.class_names)}; choose data= and model= that belong together."
                    )
                best, first = probabilities.max(1)
                right = first == batch.classes[:, 0]
                found.update(zip(batch.ids, (best * right).tolist(), strict=True))
    finally:
        model.to(home)
    return found


def _key(dataset: SampleDataset, ids: Sequence[str], model: nn.Module, spec: InputSpec) -> str:
    """Fingerprint of all that decides the answers."""
    digest = blake2b(digest_size=16)
    labels = [dataset.label(index) for index in range(len(dataset))]
    digest.update(repr((ids, labels, spec, model)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    for index in range(0, len(ids), max(1, len(ids) // _PROBES)):
        try:
            digest.update(dataset[index].image.numpy().tobytes())
        except BadData as error:
            digest.update(str(error).encode())
    return digest.hexdigest()


def _cache() -> Path:
    given = os.environ.get("VAR_EXP_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "var_exp"


def _read(file: Path) -> dict[str, float] | None:
    try:
        found: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
        valid = all(0 <= float(value) <= 1 for value in found.values())
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None  # it is asked anew
    return found if valid else None


def _write(file: Path, found: dict[str, float]) -> None:
    """Write the file whole or not at all; a folder that takes none costs the next run its time."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as opened:
            json.dump(found, opened)
        Path(opened.name).replace(file)
    except OSError as error:
        _log.warning("the confidences cannot be kept in '%s' (%s); set VAR_EXP_CACHE.", file, error)
