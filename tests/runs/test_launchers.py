"""A launcher that cannot start says why; a run that is lost costs the others nothing."""

import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from submitit import Job
from submitit.core.utils import FailedJobError, UncompletedJobError

import var_exp.runs.evaluation  # noqa: F401  # names of folders, which the configuration asks for
from var_exp.conf_files import aliases, conf_dir
from var_exp.runs.config import command
from var_exp.runs.launchers import (
    LAUNCHER_ERROR,
    list_as_typed,
    refusal,
    wait_for_every_run,
    when_it_gives_up,
)
from var_exp.runs.schema import EvaluateConfig
from var_exp.types import BadData

SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch):
    """The arguments are those of pytest."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])


@pytest.fixture(autouse=True)
def _no_hydra_run_stays_behind(monkeypatch):
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)


def configured(alias, *overrides):
    """The launcher's node as a sweep sees it."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose(
            "evaluate",
            overrides=[f"hydra/launcher={alias}", *overrides],
            return_hydra_config=True,
        )
    HydraConfig.instance().set_config(cfg)
    return cfg.hydra.launcher


def test_a_sweep_lists_its_runs_as_they_were_typed(caplog):
    from hydra._internal.core_plugins.basic_launcher import log

    list_as_typed()
    with caplog.at_level("INFO"):
        log.info("\t#0 : method=gbp ++data.count=40 ++model.note=a++b")
    assert caplog.messages == ["\t#0 : method=gbp data.count=40 model.note=a++b"]


@pytest.mark.parametrize("alias", aliases("hydra/launcher"))
def test_each_launcher_takes_every_option_of_its_yaml(alias):
    every = map(configured, ("submitit_slurm", "submitit_local", "joblib"))
    options = {launcher._target_: set(launcher) for launcher in every}
    node = configured(alias)
    known = options[node._target_]
    assert known
    assert set(node) <= known
    Plugins.instance()._instantiate(node)


@pytest.mark.parametrize(
    ("alias", "extra"), [("slurm", "slurm"), ("slurm_local", "slurm"), ("parallel", "parallel")]
)
def test_a_missing_extra_is_one_sentence_with_the_command(monkeypatch, capsys, alias, extra):
    node = configured(alias)
    monkeypatch.setattr(Plugins.instance(), "class_name_to_class", {})
    with pytest.raises(SystemExit) as left:
        command(lambda: Plugins.instance()._instantiate(node), EvaluateConfig)
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert told == f"error: this launcher needs one more package; pip install 'var_exp[{extra}]'.\n"


def test_what_slurm_refuses_is_one_sentence_and_what_we_do_not_know_is_none():
    said = FailedJobError("sbatch: error: invalid partition specified: gpuu\nsbatch: error: x")
    assert "invalid partition specified: gpuu sbatch: error: x" in refusal(said)
    assert refusal(RuntimeError('Could not detect "srun", are you indeed on a slurm cluster?'))
    assert refusal(FailedJobError("Job (task=0) failed during processing")) is None
    assert refusal(RuntimeError("anything else")) is None


def test_submitits_launchers_wait_for_every_run(monkeypatch):
    def lost(job):
        raise UncompletedJobError("killed")

    monkeypatch.setattr(Job, "results", lost)
    wait_for_every_run("hydra._internal.core_plugins.basic_launcher.BasicLauncher")
    assert Job.results is lost
    wait_for_every_run(SUBMITIT)
    (nothing,) = Job.results(None)
    assert (nothing.status, nothing.return_value) == (JobStatus.COMPLETED, None)
    monkeypatch.setattr(Job, "results", lambda job: ["result"])
    wait_for_every_run(SUBMITIT)
    assert Job.results(None) == ["result"]


def test_a_sweep_is_concluded_when_its_launcher_gives_up(monkeypatch, tmp_path, capsys):
    shown, concluded = [], []

    def conclude():
        concluded.append(1)
        raise BadData("no run in there")

    monkeypatch.setattr(sys, "excepthook", lambda *error: shown.append(error))
    when_it_gives_up(tmp_path, conclude)
    error = RuntimeError("a worker died")
    sys.excepthook(RuntimeError, error, None)
    assert (concluded, shown) == ([1], [])
    assert "a worker died" in (tmp_path / LAUNCHER_ERROR).read_text()
    assert f"the same command with hydra.sweep.dir={tmp_path} finishes" in capsys.readouterr().err
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert (concluded, len(shown)) == ([1], 1)
