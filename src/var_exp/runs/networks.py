"""`model=<any timm name>` on the command line, and what a run calls its network.

Hydra knows the files of `conf/model` alone. A name of timm's that the command line gives is stored
beside them before Hydra looks, so that it can be swept and overridden like an alias.
"""

from collections.abc import Iterable
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from var_exp.conf_files import aliases, conf_dir


def offer_networks(words: Iterable[str]) -> None:
    """Store a configuration for every `model=NAME` that is a name of timm's and no alias.

    Args:
        words: Of the command line.
    """
    named = [word.partition("=")[2] for word in words if word.startswith("model=")]
    wanted = [name.strip() for names in named for name in names.split(",")]
    unknown = {name for name in wanted if name and name not in aliases("model")}
    if not unknown:
        return
    import timm

    for name in unknown & {*timm.list_models(), *timm.list_pretrained()}:
        ConfigStore.instance().store(group="model", name=name, node=_node(name), provider="timm")


def network_names() -> list[str]:
    """Every name that `model=` takes: the aliases, then timm's."""
    import timm

    return [*aliases("model"), *timm.list_models()]


def _node(name: str) -> dict[str, Any]:
    """As a file of `conf/model` would say it."""
    return {
        "defaults": [{"override /data@_global_.data": "imagenet"}],
        "_target_": "var_exp.models.timm_model",
        "name": name,
        "pretrained": True,
        "checkpoint": None,
    }


def network_label(choice: str, name: object) -> str:
    """What the network of a run is called: its alias, or the name that replaces the alias's own.

    Args:
        choice: Alias or name that was chosen for `model=`.
        name: The option `model.name`; None where it has none.
    """
    file = conf_dir() / "model" / f"{choice}.yaml"
    own = (yaml.safe_load(file.read_text()) or {}).get("name") if file.is_file() else None
    return str(choice if name is None or name == own else name)


def _network(choice: str, *, _root_: DictConfig) -> str:
    return network_label(choice, OmegaConf.select(_root_, "model.name"))


OmegaConf.register_new_resolver("network", _network, replace=True)
