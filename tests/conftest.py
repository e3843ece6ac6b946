"""What several test rooms share: composing the configuration as the command line does."""

from collections.abc import Callable

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from var_exp.config import open_key
from var_exp.registry import conf_dir


@pytest.fixture
def composed() -> Callable[..., DictConfig]:
    """Compose `conf/<root>.yaml` with overrides, outside of a Hydra run."""

    def compose_root(*overrides: str, root: str = "evaluate") -> DictConfig:
        title = ["title=test"] if root == "evaluate" else []  # else a name of the Hydra run
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose(root, overrides=[*title, *map(open_key, overrides)])

    return compose_root
