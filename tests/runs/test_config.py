"""Every mistake in a command ends in one sentence that names the fix, with exit code 2."""

import errno
import subprocess
import sys

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import OmegaConf

from var_exp.registry import build
from var_exp.runs.config import FAILED, check, command, run
from var_exp.runs.schema import GIVEN, EvaluateConfig
from var_exp.types import AlreadyFinished, ConfigError


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch):
    """The arguments are those of pytest."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])


def sentence(capsys, composed, *overrides):
    """What the user reads when Hydra itself refuses the command."""
    with pytest.raises(SystemExit) as left:
        command(lambda: composed(*overrides), EvaluateConfig)
    assert left.value.code == 2
    told = capsys.readouterr().err.strip()
    assert "\n" not in told
    return told


def test_default_configuration_has_no_problem(composed):
    root = check(composed(), schema=EvaluateConfig, given=GIVEN)
    assert root["method"]["_target_"] == "var_exp.methods.guided_backprop.GuidedBackprop"
    assert list(root["refine"]) == ["var"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("method=gpb", "there is no method=gpb (did you mean 'gbp'?); choose one of: a"),
        ("refine=[vra]", "there is no refine=vra (did you mean 'var'?); choose one of: cgi"),
        ("modl=critters_cnn", "there is no option 'modl' (did you mean 'model'?); options: data"),
        ("batchsize=3", "there is no option 'batchsize' (did you mean 'batch_size'?)"),
        ("hydra/launcher=slrm", "there is no hydra/launcher=slrm (did you mean 'slurm'?)"),
        ("hydra.launcher.x=1", "there is no option 'hydra.launcher.x'; --cfg hydra lists Hydra's."),
        ("batch_size=many", "batch_size must be a whole number, got 'many'; give"),
    ],
)
def test_what_hydra_refuses_is_one_sentence(capsys, composed, override, expected):
    assert expected in sentence(capsys, composed, override)


def test_aliases_of_the_users_own_folder_are_named_too(capsys, composed, tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("_target_: mine.Mine")
    own = f"hydra.searchpath=[file://{tmp_path}]"
    assert composed(own, "method=mine").method._target_ == "mine.Mine"
    told = sentence(capsys, composed, own, "method=mien")
    assert "there is no method=mien (did you mean 'mine'?); choose one of: " in told
    assert "gbp" in told


def test_a_metric_of_the_users_own_must_say_its_place(composed, tmp_path):
    (tmp_path / "metric").mkdir()
    (tmp_path / "metric" / "mine.yaml").write_text("_target_: mine.Mine")
    own = f"hydra.searchpath=[file://{tmp_path}]"
    with pytest.raises(ConfigError, match=r"\('mine.Mine'\); begin .* # @package metric\."):
        check(composed(own, "metric=[grid_pointing_game,mine]"), EvaluateConfig, GIVEN)


def test_classes_are_found_in_the_folder_of_the_command(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_classes.py").write_text("def make(): return 3")
    command(lambda: None, EvaluateConfig)
    assert build({"_target_": "own_classes.make"}) == 3
    assert sys.path[-1] == str(tmp_path)  # so that nothing there hides a package


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("method.activation=relu", "method: there is no option 'activation' (did you mean"),
        ("+method.activation=relu", "method: there is no option 'activation' (did you mean"),
        ("+batchsize=3", "there is no option 'batchsize' (did you mean 'batch_size'?)"),
        ("refine.tau=3", "'tau' is not among the chosen refine members (var)"),
        ("refine.var.temprature=3", "refine.var: there is no option 'temprature' (did you mean"),
        ("refine.var.temperature=hot", "refine.var: option 'temperature' must be float, got 'hot'"),
        ("refine.vra.tau=3", "'vra' is not among the chosen refine members (var)"),
        ("trainer.acelerator=gpu", "trainer: there is no option 'acelerator' (did you mean"),
        ("layout.cell=half", "layout: option 'cell' must be"),
        ("data=folder", "data: option 'root' must be given; add data.root=…"),
        ("~seed", "seed is left out; write seed=…."),
    ],
)
def test_what_a_class_does_not_take_is_one_sentence(composed, override, expected):
    with pytest.raises(ConfigError) as refused:
        check(composed(override), schema=EvaluateConfig, given=GIVEN)
    assert str(refused.value).startswith(expected)
    assert "\n" not in str(refused.value)


def test_a_part_that_is_left_out_is_said(composed):
    sentence = r"^data: nothing says what it is \(_target_\); choose one with data=NAME\.$"
    with pytest.raises(ConfigError, match=sentence):
        check(composed("~data", "+data.count=8"), schema=EvaluateConfig, given=GIVEN)
    with pytest.raises(ConfigError, match=sentence):
        build(composed("~data").data, where="data")


def test_all_mistakes_are_told_at_once(composed):
    with pytest.raises(ConfigError) as refused:
        check(
            composed("+method.x=1", "+layout.y=2", "+refine.var.z=3"),
            schema=EvaluateConfig,
            given=GIVEN,
        )
    assert [line.split(":")[0] for line in str(refused.value).splitlines()] == [
        "layout",
        "method",
        "refine.var",
    ]


def test_data_follow_the_model_unless_the_user_chooses(composed):
    assert composed("model=vit_b16").data._target_ == "var_exp.data.imagenet.ImageNet"
    assert "critters" in composed("model=vit_b16", "data=critters").data._target_
    assert "critters" in composed("model=critters_vit").data._target_


def test_a_run_that_sigterm_stopped_does_not_exit_with_0(monkeypatch, tmp_path, capsys):
    """Lightning's exception is a SystemExit without a code."""
    hydra = {"runtime": {"output_dir": str(tmp_path)}, "mode": RunMode.MULTIRUN}
    monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": hydra}))

    def stopped(cfg, folder):
        raise SIGTERMException

    with pytest.raises(SystemExit) as left:
        run(stopped, OmegaConf.create())
    assert left.value.code == 128 + 15
    assert "stopped by SIGTERM" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())  # it did not fail


def runs_as(monkeypatch, tmp_path, mode, error):
    """Let a job end with an error, alone or in a sweep."""
    hydra = {"runtime": {"output_dir": str(tmp_path)}, "mode": mode}
    monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": hydra}))

    def job(cfg, folder):
        raise error

    return run(job, OmegaConf.create())


@pytest.mark.parametrize("mode", [RunMode.RUN, RunMode.MULTIRUN])
def test_a_finished_run_is_left_as_it_is(monkeypatch, tmp_path, capsys, mode):
    (tmp_path / FAILED).write_text("an older failure")
    assert runs_as(monkeypatch, tmp_path, mode, AlreadyFinished("there it is")) is None
    assert capsys.readouterr().out == "there it is\n"
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_sentence(monkeypatch, tmp_path, capsys):
    full = OSError(errno.ENOSPC, "No space left on device", "scores.csv.part")
    with pytest.raises(SystemExit) as left:
        runs_as(monkeypatch, tmp_path, RunMode.RUN, full)
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: cannot write scores.csv.part (No space left on device); make")
    runs_as(monkeypatch, tmp_path, RunMode.MULTIRUN, full)
    assert (tmp_path / FAILED).read_text() == told.removeprefix("error: ").strip()


def test_other_errors_of_the_system_are_not_taken_for_a_full_disk(monkeypatch, tmp_path):
    with pytest.raises(ConnectionError):
        runs_as(monkeypatch, tmp_path, RunMode.RUN, ConnectionError(errno.ECONNRESET, "gone"))


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as left:
        command((tmp_path / "file" / "run").mkdir, EvaluateConfig)
    assert left.value.code == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_misspelt_option_is_answered_before_the_imports_that_take_seconds(tmp_path):
    script = (
        "import sys\n"
        "from var_exp.__main__ import main\n"
        "try:\n"
        "    main(['evaluate', 'method=rise', 'method.mask=8', 'refine.var.tua=1'])\n"
        "except SystemExit as ended:\n"
        "    assert ended.code == 2\n"
        "heavy = {'torch', 'lightning', 'timm', 'scipy', 'matplotlib', 'wandb', 'captum'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n"
    for said in ("method: there is no option 'mask' (did you mean 'masks'?)", "'tua'", "'tau'"):
        assert said in done.stderr


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_a_number_of_this_process_that_is_none_is_refused_before_lightning(
    monkeypatch, capsys, name
):
    for other in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "x")
    monkeypatch.delitem(sys.modules, "lightning")  # else it says which process this is
    with pytest.raises(SystemExit) as left:
        command(lambda: pytest.fail("it begins all the same"), EvaluateConfig)
    assert left.value.code == 2
    told = f"error: the variable {name}=x of the environment must be the number of this process"
    assert capsys.readouterr().err.startswith(told)
    monkeypatch.setenv(name, "1")
    command(lambda: None, EvaluateConfig)
