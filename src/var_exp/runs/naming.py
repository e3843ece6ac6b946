"""What a run is called: a hash of the options that its scores depend on.

So the same command finds its run again. Imports nothing heavy: Hydra asks for the name at once.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

SPREAD = ("dry_run", "workers", "trainer.devices", "trainer.num_nodes", "trainer.strategy")
"""Options that say only how work is spread; no score depends on them."""


def deciding_options(root: Mapping[str, Any]) -> dict[str, Any]:
    """Options by dotted key, without those that say only how work is spread.

    Examples:
        >>> deciding_options({"seed": 0, "workers": 2, "trainer": {"devices": 2, "precision": 16}})
        {'seed': 0, 'trainer.precision': 16}
    """
    return {key: value for key, value in flat(root) if not _spreads(key)}


def short_hash(known: object) -> str:
    """Name of something that JSON can hold, 12 hexadecimal digits, whatever the order of keys."""
    text = json.dumps(known, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def flat(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested dictionaries by dotted key; an empty dictionary is a leaf."""
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from flat(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def _spreads(key: str) -> bool:
    return any(key == option or key.startswith(f"{option}.") for option in SPREAD)


def _run_name(*, _root_: DictConfig) -> str:
    """Folder of a run: a hash of the options that its scores depend on."""
    keys = [str(key) for key in _root_ if key != "hydra"]
    root: Any = OmegaConf.to_container(OmegaConf.masked_copy(_root_, keys), resolve=True)
    return short_hash(deciding_options(root))


def _sweep_name(overrides: list[str], params: Any) -> str:
    """Folder of a sweep: a hash of what was asked for on the command line."""
    asked = [word for word in overrides if not _spreads(word.lstrip("+").partition("=")[0])]
    given = OmegaConf.to_container(params) if OmegaConf.is_config(params) else params
    return short_hash([sorted(asked), given])


# The cache hands the name of the sweep on to its jobs, whose overrides are others.
OmegaConf.register_new_resolver("run_name", _run_name)
OmegaConf.register_new_resolver("sweep_name", _sweep_name, use_cache=True)
