"""The sweep file makes commands that `evaluate.py` takes, expanded by W&B's own code, offline."""

from itertools import product
from pathlib import Path

import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from var_exp.conf_files import conf_dir
from var_exp.runs.config import check
from var_exp.runs.schema import GIVEN, EvaluateConfig

SWEEP = yaml.safe_load((conf_dir() / "wandb_sweep.yaml").read_text())


def command(chosen):
    """What the agent runs for one choice of the parameters (`wandb_agent.Agent`)."""
    given = {"args": {name: {"value": value} for name, value in chosen.items()}}
    known = {
        "env": ["/usr/bin/env"],
        "interpreter": ["python"],
        "program": [SWEEP["program"]],
        **create_sweep_command_args(given),
    }
    return [part for macro in SWEEP["command"] for part in known[macro[2:-1]]]


def test_every_run_of_the_sweep_is_a_command_that_is_taken(composed):
    values = [node.get("values") or [node["value"]] for node in SWEEP["parameters"].values()]
    choices = [dict(zip(SWEEP["parameters"], each, strict=True)) for each in product(*values)]
    assert len(choices) == 12
    for chosen in choices:
        env, python, program, *options = command(chosen)
        assert [env, python, program] == ["/usr/bin/env", "python", "evaluate.py"]
        assert (conf_dir().parent / Path(program)).is_file()
        root = check(composed(*options), EvaluateConfig, GIVEN)
        assert root["refine"]["var"]["temperature"] == chosen["refine.var.temperature"]
        assert root["data"]["count"] == 400


def test_what_bayes_improves_is_what_a_run_logs():
    metric, variant = SWEEP["metric"]["name"].split("/")
    default = yaml.safe_load((conf_dir() / "evaluate.yaml").read_text())["defaults"]
    (metrics,) = [entry["metric"] for entry in default if "metric" in entry]
    (refiners,) = [entry["refine"] for entry in default if "refine" in entry]
    assert metric in metrics
    assert variant in refiners
