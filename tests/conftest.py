"""What several test rooms share: the configuration as users compose it, commands, a browser."""

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from warm_python import warm_python

import var_exp.runs.config  # noqa: F401 (registers the schemas of the roots)
from var_exp.conf_files import conf_dir
from var_exp.runs.arguments import open_key


def pytest_configure() -> None:
    """Let the commands of tests hear Ctrl-C, also where the tests run in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def composed() -> Callable[..., DictConfig]:
    """Compose `conf/<root>.yaml` with overrides, outside of a Hydra run."""

    def compose_root(*overrides: str, root: str = "evaluate") -> DictConfig:
        title = ["title=test"] if root == "evaluate" else []  # else a name of the Hydra run
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose(root, overrides=[*title, *map(open_key, overrides)])

    return compose_root


@pytest.fixture(scope="session")
def python() -> Iterator[str]:
    """A `python` for the commands of tests; where it can be, one that has imported already."""
    if sys.platform != "linux":
        yield sys.executable
        return
    with tempfile.TemporaryDirectory() as folder, warm_python(Path(folder)) as python:
        yield python


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright; tests that need one are skipped without."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium on the path")
    quiet = ["disable-background-networking", "disable-component-update", "disable-sync"]
    quiet += ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=chromium, args=[f"--{option}" for option in quiet]
        )
        yield opened
        opened.close()
