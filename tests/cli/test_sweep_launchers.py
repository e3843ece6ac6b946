"""A sweep through submitit, as on a cluster: a run that is killed costs the sweep only itself."""

import csv
import os
import subprocess

import pytest

from var_exp.conf_files import conf_dir

pytestmark = pytest.mark.slow

KILLED = """
import os
import signal
from dataclasses import dataclass

from var_exp.methods.gradient import Gradient


@dataclass(frozen=True)
class Killed(Gradient):
    def check(self, model, image):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_of_a_submitit_sweep_is_named_and_the_others_are_merged(python, tmp_path):
    (tmp_path / "my_method.py").write_text(KILLED)
    (folder := tmp_path / "conf" / "method").mkdir(parents=True)
    (folder / "killed.yaml").write_text("_target_: my_method.Killed")
    arguments = ["-m", "hydra/launcher=slurm_local", "method=killed,gradient", "data.count=8"]
    arguments += ["logger=none", "pictures=0", "hydra.sweep.dir=sweep", "--config-dir=conf"]
    done = subprocess.run(
        [python, str(conf_dir().parent / "evaluate.py"), *arguments],
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert "1 of 2 runs merged" in done.stdout
    assert "failed: method=killed: it did not finish" in done.stdout
    assert "Traceback" not in done.stderr
    with (tmp_path / "sweep" / "sweep.csv").open() as file:
        assert {line["method"] for line in csv.DictReader(file)} == {"gradient"}
    assert (tmp_path / "sweep" / "sweep.png").stat().st_size > 3000
