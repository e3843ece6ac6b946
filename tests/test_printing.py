import logging
import os
import subprocess
import sys

import pytest

from var_exp.conf_files import conf_dir
from var_exp.printing import printing

ROOT = conf_dir().parent


def unread(*words, python=sys.executable, **named):
    """Run a command whose output nobody reads; returns exit code and errors."""
    read, write = os.pipe()
    os.close(read)
    try:
        command = [python, *words]
        given = {"stdout": write, "stderr": subprocess.PIPE} | named
        done = subprocess.run(command, cwd=ROOT, timeout=300, check=False, **given)
    finally:
        os.close(write)
    return done.returncode, (done.stderr or b"").decode()


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate.py", "--help"],
        ["train.py", "--cfg", "job"],
        ["-m", "var_exp"],
        ["-m", "var_exp", "--shell-completion", "install=bash"],
    ],
)
def test_a_reader_that_goes_away_ends_a_command_without_a_word(words):
    assert unread(*words) == (1, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["evaluate.py", "dry_run=true"], ["-m", "var_exp", "support", "model=critters_cnn"]]
)
def test_a_reader_that_goes_away_while_a_command_works(words, python):
    assert unread(*words, python=python) == (1, "")


@pytest.mark.slow
def test_a_sweep_ends_too(tmp_path, python):
    words = ["-m", "seed=0,1", "logger=none", "data.count=8", "pictures=0"]
    told = unread("evaluate.py", *words, f"hydra.sweep.dir={tmp_path}", python=python)
    assert told == (1, "")
    assert not list(tmp_path.glob("*/failed.txt"))  # no run of it failed
    assert not (tmp_path / "1").exists()


def test_the_end_of_another_pipe_is_an_error():
    script = (
        "import os\nfrom var_exp.printing import printing\n"
        "read, write = os.pipe()\nos.close(read)\n"
        "with printing():\n    os.write(write, b'x')\n"
    )
    code, told = unread("-c", script, stdout=subprocess.DEVNULL)
    assert code == 1
    assert "BrokenPipeError" in told


def test_a_command_whose_output_is_closed_ends_as_it_would():
    with printing():
        assert not logging.raiseExceptions
    assert logging.raiseExceptions
    script = (
        "import sys; sys.stdout = None\nfrom var_exp.__main__ import main; sys.exit(main(['-h']))"
    )
    assert unread("-c", script) == (0, "")


def test_a_character_that_the_terminal_does_not_know_is_no_error():
    script = (
        "from var_exp.printing import printing\nwith printing():\n    print('0.32 \\u2192 0.94')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"0.32 ? 0.94\n"
