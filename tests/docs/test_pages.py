"""What the pages promise: their commands run as written, and they build without a warning."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from var_exp.conf_files import conf_dir

pytestmark = pytest.mark.slow
ROOT = conf_dir().parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page):
    """Fenced blocks of a page: (language, text)."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def with_commands():
    return [page for page in PAGES if any(language == "bash" for language, _ in blocks(page))]


@pytest.fixture
def checkout(tmp_path, python):
    """A folder that looks like a fresh checkout in which the environment is already installed."""
    for entry in ROOT.iterdir():
        if entry.name not in (".venv", ".git", "runs", "wandb", "site"):
            (tmp_path / entry.name).symlink_to(entry)
    (commands := tmp_path / ".venv" / "bin").mkdir(parents=True)
    for entry in (Path(sys.prefix) / "bin").iterdir():
        if entry.name not in ("python", "var-exp"):
            (commands / entry.name).symlink_to(entry)
    (commands / "python").symlink_to(python)
    (commands / "var-exp").write_text(f'#!/bin/sh\nexec {python} -m var_exp "$@"\n')
    (commands / "var-exp").chmod(0o755)
    (tmp_path / ".venv" / "ready").touch()
    return tmp_path


@pytest.mark.parametrize("page", with_commands(), ids=lambda page: page.name)
def test_every_command_of_a_page_runs_as_written(page, checkout):
    """In order: a block that names a file in its first lines is written, a bash block is run.

    `make test` is left out, being what runs this test. Blocks in other languages need data or a
    machine that cannot be shipped.
    """
    closed = "http://127.0.0.1:9"
    environment = os.environ | {
        "PATH": os.pathsep.join((str(checkout / ".venv" / "bin"), os.environ["PATH"])),
        "HF_HOME": str(checkout / "cache"),
        "HTTP_PROXY": closed,
        "HTTPS_PROXY": closed,
    }
    if page.name != "README.md":
        environment["WANDB_MODE"] = "disabled"  # the other pages are about the rest
    for language, text in blocks(page):
        if file := re.match(r"(?:# @.*\n)?# (\S+\.(?:py|ya?ml))\n", text):
            (checkout / file[1]).parent.mkdir(parents=True, exist_ok=True)
            (checkout / file[1]).write_text(text, encoding="utf-8")
        elif language == "bash":
            script = re.sub(r"^make test\b.*\n", "", text, flags=re.M)
            done = subprocess.run(
                ["bash", "-euxo", "pipefail", "-c", script],
                cwd=checkout,
                env=environment,
                capture_output=True,
                text=True,
                timeout=600,
            )
            assert done.returncode == 0, done.stderr[-3000:]


def test_the_commands_of_the_readme_the_tutorial_and_the_how_to_are_found():
    assert {"README.md", "tutorial.md", "own.md"} <= {page.name for page in with_commands()}


def test_the_site_builds_without_a_warning(tmp_path):
    command = [shutil.which("mkdocs", path=Path(sys.executable).parent), "build", "--strict"]
    done = subprocess.run(
        [*command, "--config-file", ROOT / "mkdocs.yml", "--site-dir", tmp_path / "site"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("VAR", "load_model", "grid_pointing_game", "class_gradients"):
        assert f"{name}</" in reference or f">{name}<" in reference, name


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f" {page.name}\n" in navigation, page.name
