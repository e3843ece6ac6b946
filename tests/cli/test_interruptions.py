"""Killed at any moment or stopped with Ctrl-C, a run says so in one line and ends the same.

The long mode kills more often, at other moments:

    VAR_EXP_KILLS=30 pytest tests/cli/test_interruptions.py -k kills -s
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from var_exp.conf_files import conf_dir

pytestmark = pytest.mark.slow

ROOT = conf_dir().parent
KILLS = int(os.environ.get("VAR_EXP_KILLS", "4"))
QUICK = ("logger=none", "pictures=0", "trainer.accelerator=cpu", "controls=false", "batch_size=1")

# Python imports a module of this name by itself, in each of the processes of a run.
DEADLY = """
import os, pathlib, signal, sqlite3

kind, after, rank = os.environ["DIES"].split(",")
left = int(after)

def step(deadly):
    global left
    left -= deadly
    if deadly and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

class Connection(sqlite3.Connection):
    def execute(self, text, *given):
        step(text == "COMMIT" and kind == "before commit")
        cursor = super().execute(text, *given)
        step(text == "COMMIT" and kind == "after commit")
        return cursor

def replace(draft, target, replace=pathlib.Path.replace):
    step(kind == f"before {pathlib.Path(target).name}")
    path = replace(draft, target)
    step(kind == f"after {pathlib.Path(target).name}")
    return path

if os.environ.get("LOCAL_RANK", "0") == rank:
    connect = sqlite3.connect
    sqlite3.connect = lambda *given, **named: connect(*given, **named, factory=Connection)
    pathlib.Path.replace = replace
"""
REPORT = ("before scores.csv", "after scores.csv", "before report.html", "after report.html",
          "before curves.csv", "after curves.csv", "before summary.csv")  # fmt: skip


@pytest.fixture
def start(python, tmp_path):
    """Starts a command in a process group of its own."""

    def begin(*words, script="evaluate.py", dies=None, python=python, **named):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
        if dies:
            environment["DIES"] = dies
            environment["PYTHONPATH"] = f"{tmp_path}:{environment.get('PYTHONPATH', '')}"
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | named
        program = script if script == "-m" else str(ROOT / script)
        given |= {"cwd": tmp_path, "env": environment, "start_new_session": True}
        return subprocess.Popen([python, program, *words], **given)

    return begin


def wait_for(process, happened):
    for _ in range(3000):
        if happened():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    pytest.fail("nothing happens")


def interrupted(process):
    """Ctrl-C reaches all processes of a command; returns what was said."""
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    return err


def is_importing(process):
    return "libtorch_cpu" in Path(f"/proc/{process.pid}/maps").read_text()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("evaluate.py", ["logger=none"]),
        ("evaluate.py", ["-m", "method=gbp,ig", "logger=none"]),
        ("train.py", []),
        ("-m", ["var_exp", "explain", "none.jpg"]),
        ("-m", ["var_exp", "sweep", "."]),
    ],
)
def test_ctrl_c_while_packages_are_imported(start, tmp_path, script, words):
    process = start(*words, script=script, python=sys.executable)
    wait_for(process, lambda: is_importing(process))
    assert interrupted(process) == "stopped; the same command goes on.\n"
    # nothing of a run yet, but what Hydra makes before it
    assert {file.suffix for file in tmp_path.rglob("*") if file.is_file()} <= {".log", ".yaml"}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sweep_that_ctrl_c_stopped_goes_on(start, tmp_path, workers):
    words = ["-m", "seed=0,1", *QUICK, "data.count=120", f"workers={workers}"]
    words += ["metric=[grid_pointing_game]", f"hydra.sweep.dir={tmp_path}/sweep"]
    process = start(*words)
    wait_for(process, lambda: list(tmp_path.glob("sweep/*/store.sqlite-wal")))
    told = interrupted(process)
    assert told.splitlines()[-1].startswith("stopped")
    assert told.splitlines()[-1].endswith("; the same command goes on.")
    assert len(told.splitlines()) == 1
    again = start(*words)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert "2 of 2 runs merged" in out
    assert len(list(tmp_path.glob("sweep/*/summary.csv"))) == 2


def children(process):
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


@pytest.mark.ddp
@pytest.mark.parametrize("moment", ["starting", "at work"])
def test_ctrl_c_with_two_processes_is_one_line_and_leaves_none(start, tmp_path, moment):
    """The second is not interrupted while Python itself starts, and does not say so too."""
    words = [*QUICK, "data.count=400", "metric=[grid_pointing_game]", "hydra.run.dir=run"]
    process = start(*words, "trainer=ddp", "trainer.devices=2", python=sys.executable)
    if moment == "starting":
        wait_for(process, lambda: children(process))
    else:
        wait_for(process, lambda: len(list(tmp_path.glob("run/store*.sqlite-wal"))) == 2)
    (second,) = children(process)
    told = [line for line in interrupted(process).splitlines() if "distributed" not in line]
    assert told == ["stopped; the same command goes on."]
    for _ in range(600):  # it may still be leaving
        if not Path(f"/proc/{second}").exists():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the other process is still there")


def test_ctrl_c_with_a_dashboard_offline(start, tmp_path):
    words = [word for word in QUICK if word != "logger=none"]
    words += ["data.count=400", "metric=[grid_pointing_game]", "hydra.run.dir=run"]
    process = start(*words, "logger=wandb")
    store = tmp_path / "run" / "store.sqlite-wal"
    wait_for(process, lambda: store.exists() and store.stat().st_size > 60_000)  # samples are done
    told = interrupted(process).splitlines()[-1]
    assert re.fullmatch(r"stopped at \d+ of 100; the same command goes on\.", told)
    again = start(*words, "logger=wandb")
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert "of 100 samples are done" in out
    assert "wandb sync" in out


def test_ctrl_c_in_training(start, tmp_path):
    words = ["recipe.pictures=100000", "recipe.pool=16", "recipe.batch_size=8", "workers=1"]
    said = tmp_path / "said"
    with said.open("w") as err:
        process = start(*words, "hydra.run.dir=.", script="train.py", stderr=err)
        wait_for(process, lambda: "GPU available" in said.read_text())
        time.sleep(3)  # it trains
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 130, said.read_text()
    assert said.read_text().splitlines()[-1] == "stopped; the same command begins again."
    assert "Traceback" not in said.read_text()


def deaths():
    """When to be killed: at work, as one of two processes, and while the report is written."""
    chance = random.Random(KILLS)
    at_work, ranks = KILLS // 4 or 1, KILLS // 2
    for number in range(at_work):
        moment = ("before", "after")[number % 2]
        yield f"{moment} commit,{chance.randint(1, 4)},0", 1
    for number in range(ranks):
        yield f"{chance.choice(('before', 'after'))} commit,{chance.randint(1, 4)},{number % 2}", 2
    for _ in range(KILLS - at_work - ranks):
        yield f"{chance.choice(REPORT)},1,0", 1


@pytest.mark.ddp
def test_kills_at_work_of_single_processes_and_in_the_report_lose_nothing(start, tmp_path):
    words = [*QUICK, f"data.count={16 * KILLS}", "metric=[grid_pointing_game,insertion_auc]"]
    words += ["metric.insertion_auc.steps=2"]
    whole = start(*words, "hydra.run.dir=whole")
    out, err = whole.communicate(timeout=600)
    assert whole.returncode == 0, out + err
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    words += ["hydra.run.dir=broken"]
    for death, count in deaths():
        spread = ["trainer=ddp", f"trainer.devices={count}"] if count > 1 else []
        for _ in range(60):
            process = start(*words, *spread, dies=death)
            said = "".join(process.communicate(timeout=600))
            if process.returncode != 2:
                break
            assert "another process is at work" in said  # of the one that was killed
            time.sleep(0.5)
        print(f"{death}: exit {process.returncode}", flush=True)
        assert process.returncode == (143 if death.endswith(",1") else -signal.SIGKILL), said
        assert not (tmp_path / "broken" / "summary.csv").exists()
    for _ in range(60):
        last = start(*words)
        said = "".join(last.communicate(timeout=600))
        if last.returncode != 2:
            break
        time.sleep(0.5)
    assert last.returncode == 0, said
    for name in ("scores.csv", "curves.csv", "summary.csv"):
        broken, known = (tmp_path / run / name for run in ("broken", "whole"))
        assert broken.read_bytes() == known.read_bytes()
    print(f"{KILLS} kills, tables the same")
