"""One, two and three processes score every sample once, and the same."""

import os
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from warm_python import worker_of

from var_exp.conf_files import conf_dir
from var_exp.results.rows import read_rows
from var_exp.runs.evaluation import evaluate

pytestmark = [pytest.mark.slow, pytest.mark.ddp]

# Seven grids: neither two nor three processes share them evenly, nor do batches of two. In batches
# of four there is nothing to do for the third process.
SMALL = ("title=test", "logger=none", "trainer.accelerator=cpu", "data.count=28", "batch_size=2",
         "metric=[grid_pointing_game,insertion_auc]", "metric.insertion_auc.steps=3",
         "pictures=0")  # fmt: skip
METHODS = {
    "deterministic": ["method=gbp", "batch_size=4"],
    "stochastic": ["method=smoothgrad", "method.samples=2"],
}


def in_processes(python, count, folder, options):
    """Run the command in several processes."""
    spread = ["trainer=ddp", f"trainer.devices={count}", f"hydra.run.dir={folder}"]
    done = subprocess.run(
        [python, str(conf_dir().parent / "evaluate.py"), *SMALL, *options, *spread],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done


def scores(folder):
    rows = read_rows(folder / "scores.csv")
    found = {(r.sample_id, r.class_index, r.metric, r.variant.name): r.score for r in rows}
    assert len(found) == len(rows) == 7 * 4 * 2 * 9
    return found


@pytest.mark.parametrize(("kind", "count"), [("stochastic", 2), ("deterministic", 3)])
def test_processes_give_the_scores_of_one(composed, python, tmp_path, kind, count):
    one, several = tmp_path / "one", tmp_path / "several"
    one.mkdir()
    evaluate(composed(*SMALL, *METHODS[kind], "trainer=cpu"), one)
    in_processes(python, count, several, METHODS[kind])
    assert list(scores(one)) == list(scores(several))
    assert scores(one) == pytest.approx(scores(several), abs=1e-6)


def test_a_run_goes_on_with_another_number_of_processes(composed, python, tmp_path, monkeypatch):
    one, stopped = tmp_path / "one", tmp_path / "stopped"
    one.mkdir()
    stopped.mkdir()
    start = composed(*SMALL, *METHODS["stochastic"], "trainer=cpu")
    evaluate(start, one)

    class Dying(sqlite3.Connection):
        commits = 0

        def execute(self, statement, *given):
            Dying.commits += statement == "COMMIT"
            if Dying.commits == 2:
                raise KeyboardInterrupt
            return super().execute(statement, *given)

    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=Dying))
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            evaluate(start, stopped)
    done = in_processes(python, 3, stopped, METHODS["stochastic"])
    assert "2 of 7 samples are done" in done.stdout
    assert list(scores(one)) == list(scores(stopped))
    assert scores(one) == pytest.approx(scores(stopped), abs=1e-6)


@pytest.mark.parametrize("which", ["first", "second"])
def test_sigterm_to_one_of_several_processes_stops_all_and_the_run_goes_on(python, tmp_path, which):
    folder = tmp_path / "run"
    words = [*SMALL, "method=ig", "method.steps=32", "data.count=40", "batch_size=1"]
    words += ["metric=[grid_pointing_game]"]
    words = [word for word in words if "insertion_auc.steps" not in word]
    words += ["trainer=ddp", "trainer.devices=2", f"hydra.run.dir={folder}"]
    command = [python, str(conf_dir().parent / "evaluate.py"), *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as run:
        second = None
        for _ in range(3000):
            time.sleep(0.1)
            if not (folder / "store.rank1.sqlite").exists():
                continue
            first = worker_of(python, run.pid)
            if children := Path(f"/proc/{first}/task/{first}/children").read_text().split():
                second = int(children[0])
                break
        assert second, "it does not begin"
        time.sleep(0.5)
        os.kill(first if which == "first" else second, signal.SIGTERM)
        told = run.communicate(timeout=120)[1]
    assert run.returncode == 143, told
    assert "stopped by SIGTERM after a finished batch; the same command goes on" in told
    for _ in range(100):  # one of them may still be leaving
        alive = Path(f"/proc/{second}/stat")
        if not alive.exists() or ") Z " in alive.read_text():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the other process is still at work")
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "samples are done" in again.stdout


def test_what_a_process_cannot_read_is_said_and_ends_all(python, tmp_path):
    """Lightning would have the first one killed, without a word of why."""
    for place in range(4):
        pixels = np.random.default_rng(place).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{place}.png")
    broken = tmp_path / "3.png"  # of the second process
    broken.write_bytes(broken.read_bytes()[:200])
    words = ["model=critters_cnn", "data=folder", f"data.root={tmp_path}", "data.on_error=fail"]
    words += ["metric=[sparseness]", "controls=false", "pictures=0", "batch_size=1", "logger=none"]
    words += ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
    done = subprocess.run(
        [python, str(conf_dir().parent / "evaluate.py"), *words],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    (told,) = [line for line in done.stderr.splitlines() if "distributed" not in line]
    assert re.match(r"error: cannot read picture '.*3\.png'", told)
