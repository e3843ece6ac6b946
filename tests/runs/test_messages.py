"""Other packages' words become sentences of ours, and arguments stand where Hydra wants them."""

import re
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from var_exp.runs.arguments import arranged, open_key
from var_exp.runs.messages import TABLE, refused_by_hydra, translated, unknown_option
from var_exp.text import printable
from var_exp.types import ConfigError

SAID = {  # as the packages say it
    "Ambiguous value for argument 'method=gbp,ig'\n1. To use it as a list": "add -m",
    "Error parsing override 'method'\nmissing EQUAL at '<EOF>'": "'method' has no value",
    "Error merging override seed=x Value 'x' of type 'str' could not be converted to Integer": (
        "seed must be a whole number, got 'x'"
    ),
    "Only one of --run, --multirun, --cfg, --info and --shell_completion can be": "leave -m out",
    "Additional config directory '/tmp/nowhere' not found": "check --config-dir",
    "Error merging override hydra.job.chdir=maybe: Value 'maybe' is not a valid bool (type str)": (
        "hydra.job.chdir must be true or false, got 'maybe'"
    ),
    "Could not delete 'metric'. No match in the defaults list": "metric cannot be left out",
    "Error merging override ~title: ValueError raised while resolving interpolation: HydraConfig "
    "was not set": "title cannot be left out",
    "Could not delete from config. 'nope' does not exist.": "no option 'nope' to leave out",
    "Could not append to config. An item is already at 'seed'.\nEither": "write seed=… without +",
    "data appears more than once in the final defaults list": "write data=… without +",
    "KeyError raised while resolving interpolation: \"Environment variable 'NOPE' not found\"": (
        "no variable NOPE of the environment"
    ),
    "Cannot find primary config 'nope'. Check that it's in your config": "leave --config-name out",
    "Interpolation key 'nope' not found": "there is no option 'nope'",
    "No supported gpu backend found!": "trainer.accelerator=cpu",
    "You requested gpu: [0, 1]\n But your machine only has: [0]": "more GPUs than are here ([0])",
    "trainer: `devices` selected with `CPUAccelerator` should be an int > 0.": "on a CPU",
    "You selected an invalid accelerator name: `accelerator='cup'`. Available names are: auto, "
    "cuda, tpu, mps, cpu.": "did you mean 'cpu'",
    "You selected an invalid strategy name: `strategy='dpp'`.": "did you mean 'ddp'",
    "You set `--ntasks=4` in your SLURM bash script, but": "--ntasks-per-node instead of --ntasks",
    "You set `devices=2` in Lightning, but the number of tasks per node configured in SLURM "
    "`--ntasks-per-node=4` does not match": "must be the same number",
    "The server socket has failed to listen (errno: 98 - Address already in use)": "MASTER_PORT",
    "API key must be 40 characters long, yours was 5": "W&B refuses the key",
}


@pytest.mark.parametrize("said", SAID)
def test_each_line_of_the_table_ends_in_the_fix(said):
    told = translated(RuntimeError(said))
    assert SAID[said] in told
    assert "\n" not in told


def test_every_line_of_the_table_is_tried():
    tried = [
        [bool(re.search(pattern, " ".join(said.split()))) for said in SAID] for pattern, _ in TABLE
    ]
    assert all(map(any, tried))
    assert translated(RuntimeError("some other words")) is None


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("hydra.launcher.partion", "did you mean 'hydra.launcher.partition'"),
        ("hydra.swep.dir", "did you mean"),
        ("hydra.launcher.partition", "is an option of hydra/launcher=slurm; add that"),
        ("modl", "did you mean 'model'"),
    ],
)
def test_the_nearest_name_of_hydras_options(key, hint, monkeypatch):
    monkeypatch.setattr("sys.argv", ["evaluate.py"])
    assert hint in unknown_option(key, ["model", "data"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("-m method=a,b", "method=a,b -m"),
        ("logger=none -m method=a,b", "logger=none method=a,b -m"),
        ("--config-dir mine seed=3 -cn x", "seed=3 --config-dir mine -cn x"),
        ("--cfg=job seed=3 --info plugins title=x", "seed=3 title=x --cfg=job --info plugins"),
        ("--info seed=3", "seed=3 --info"),
        ("--multi seed=1,2 ~logger", "seed=1,2 ~logger --multi"),
    ],
)
def test_flags_may_stand_anywhere(given, expected):
    assert arranged(given.split()) == expected.split()


def test_an_unknown_flag_is_named():
    with pytest.raises(ConfigError, match=r"no flag --multrun \(did you mean '--multirun'\?\)"):
        arranged(["--multrun"])


@pytest.mark.parametrize("word", ["metric=[[]]", "metric=[a,[b]]", "refine={a:1}"])
def test_what_is_no_name_where_a_file_is_chosen(word):
    with pytest.raises(ConfigError, match=f"{word.partition('=')[0]}= takes names, got"):
        arranged([word])


@pytest.mark.parametrize("word", ["data.root=", "hydra.run.dir= ", "title="])
def test_the_empty_value_of_an_unset_variable_is_refused(word):
    with pytest.raises(ConfigError, match=rf"^{word.partition('=')[0]}= has no value"):
        arranged([word])
    assert arranged([f'{word}""']) == [open_key(f'{word}""')]  # an empty text that is meant


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("seed=range(3", """'seed="range(3"'"""),
        ("model.checkpoint=it's", """'model.checkpoint="it'"'"'s"'"""),
        ("title=a\nb\x07", r"""'title="a\nb\x07"'"""),
        ("'=", "write OPTION=VALUE"),
        ("${oc.env:HOME}=x", "write OPTION=VALUE"),
    ],
)
def test_what_hydras_grammar_does_not_take(argument, expected):
    parser = OverridesParser.create()
    with pytest.raises(HydraException) as refused:
        parser.parse_overrides([argument])
    told = refused_by_hydra(refused.value, ["seed"])
    argument = printable(argument)
    assert told.startswith(f"cannot read the argument '{argument}'")
    assert expected in told
    if "quotes: " in told:  # what is advised can be typed, and is read
        (typed,) = shlex.split(told.partition("into quotes: ")[2].removesuffix("."))
        (read,) = parser.parse_overrides([typed])
        assert read.value() == argument.partition("=")[2]


def test_lists_of_a_sweep_are_names():
    assert arranged(["metric=[a],[b]", "-m"]) == ["metric=[a],[b]", "-m"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("model.checkpoint=a=3.ckpt", '++model.checkpoint="a=3.ckpt"'),
        ("hydra.run.dir=runs/lr=0.1", 'hydra.run.dir="runs/lr=0.1"'),
        ('model.checkpoint="a=3.ckpt"', '++model.checkpoint="a=3.ckpt"'),
        ("model.checkpoint=a=3,plain", '++model.checkpoint="a=3",plain'),
        ("+x={a: b=c}", "+x={a: b=c}"),
        ("method=gbp", "method=gbp"),
    ],
)
def test_an_equals_sign_in_a_value_is_quoted(given, expected):
    assert open_key(given) == expected
