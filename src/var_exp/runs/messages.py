"""What Hydra, Lightning and W&B say of a wrong command, in a sentence of ours that ends in the fix.

`TABLE` is the one place for that; a new version's new words get a line here. (What Captum says is
about a model, so `var_exp.methods.captum` turns it into `UnsupportedModel`.)
"""

import re
import shlex
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeAlias

import yaml
from hydra.errors import MissingConfigException

from var_exp.conf_files import aliases, conf_dir, did_you_mean
from var_exp.runs.networks import network_names
from var_exp.text import printable

Words: TypeAlias = str | Callable[[re.Match[str]], str]

_HYDRA_OPTIONS = ("run.dir", "sweep.dir", "sweep.subdir", "job.name", "job.chdir", "verbose")


def _ambiguous(found: re.Match[str]) -> str:
    key, values = found.groups()
    return (
        f"{key}={values} names several values; add -m to run each of them, or write "
        f"'{key}=[{values}]' where one run takes several."
    )


def _wrong_type(found: re.Match[str]) -> str:
    key, value, kind = found[1], found[2], found[3]
    wanted = {"Integer": "a whole number", "Float": "a number"}
    wanted |= dict.fromkeys(("Boolean", "bool"), "true or false")
    return f"{key} must be {wanted.get(kind, kind)}, got '{value}'; give {key}=… accordingly."


def _missing_equal(found: re.Match[str]) -> str:
    return f"the argument '{_shown(found[1])}' has no value; write {_shown(found[1])}=…"


TABLE: Sequence[tuple[str, Words]] = (
    # Hydra
    (r"Ambiguous value for argument '\+*([^=']+)=([^']*)'", _ambiguous),
    (r"Error parsing override '([^'=]+)' missing EQUAL", _missing_equal),
    (
        r"Error merging override \+*([^=]+)=\S*[: ]+Value '(.*?)' (?:of type '\w+' could not be "
        r"converted to|is not a valid) (\w+)",
        _wrong_type,
    ),
    (
        r"Only one of --run, --multirun, --cfg, --info and --shell_completion",
        "--cfg and --info show one run, and -m asks for several; leave -m out and choose one of "
        "the values.",
    ),
    (
        r"Additional config directory '(.*)' not found",
        lambda found: f"there is no folder '{found[1]}'; check --config-dir.",
    ),
    (
        r"Could not delete '(.*?)'\. No match|Error merging override ~(\S+?): ValueError",
        lambda found: (
            f"{found[1] or found[2]} cannot be left out with ~; write "
            f"{found[1] or found[2]}=…, with [] where none of several is meant."
        ),
    ),
    (
        r"Could not delete from config\. '(.*?)' does not exist",
        lambda found: f"there is no option '{found[1]}' to leave out with ~; check its spelling.",
    ),
    (
        r"An item is already at '(.*?)'|(\w+) appears more than once in the final defaults",
        lambda found: (
            f"{found[1] or found[2]} is there already; write {found[1] or found[2]}=… without +."
        ),
    ),
    (
        r"Environment variable '(.*?)' not found",
        lambda found: (
            f"there is no variable {found[1]} of the environment to be put in for "
            f"${{oc.env:{found[1]}}}; set it, or give what stands in its place: "
            f"${{oc.env:{found[1]},VALUE}}."
        ),
    ),
    (
        r"Cannot find primary config '(.*?)'",
        lambda found: (
            f"there is no configuration '{found[1]}'; leave --config-name out, or name the folder "
            "that holds it with --config-dir."
        ),
    ),
    (
        r"Interpolation key '(.*?)' not found",
        lambda found: (
            f"there is no option '{found[1]}' to be put in for ${{{found[1]}}}; check its spelling."
        ),
    ),
    # Lightning
    (
        r"No supported gpu backend found|MPSAccelerator can not run|CUDAAccelerator can not run",
        "there is no GPU that PyTorch can use here (trainer.accelerator); set "
        "trainer.accelerator=cpu, or auto, which takes what is there.",
    ),
    (
        r"You requested gpu: .* But your machine only has: (\[.*?\])",
        lambda found: (
            f"trainer.devices asks for more GPUs than are here ({found[1]}); ask for fewer."
        ),
    ),
    (
        r"`devices` selected with `CPUAccelerator` should be",
        "on a CPU trainer.devices must be a number of processes, no list and not -1; set "
        "trainer.devices=1.",
    ),
    (
        r"invalid accelerator name: `accelerator='(.*?)'`. Available names are: (.*)\.",
        lambda found: (
            f"there is no trainer.accelerator={found[1]}"
            f"{did_you_mean(found[1], ['gpu', *found[2].split(', ')])}; choose auto, cpu, gpu, or "
            f"one of: {found[2]}."
        ),
    ),
    (
        r"invalid strategy name: `strategy='(.*?)'`",
        lambda found: (
            f"there is no trainer.strategy={found[1]}"
            f"{did_you_mean(found[1], ['auto', 'ddp'])}; choose auto or ddp."
        ),
    ),
    (
        r"You set `--ntasks=(\d+)` in your SLURM",
        lambda found: (
            f"SLURM_NTASKS={found[1]} does not say how many processes a node has; give "
            "SLURM --ntasks-per-node instead of --ntasks, or unset SLURM_NTASKS where this is no "
            "job of several processes."
        ),
    ),
    (
        r"You set `(devices|num_nodes)=(\d+)`? in Lightning, but the number of (?:tasks per node|"
        r"nodes) configured in SLURM `(--[a-z-]+)=(\d+)`",
        lambda found: (
            f"trainer.{found[1]}={found[2]} and SLURM's {found[3]}={found[4]} must be "
            "the same number; change one of them."
        ),
    ),
    (
        r"EADDRINUSE|[Aa]ddress already in use",
        "the port that the processes meet at is taken; set MASTER_PORT to another number.",
    ),
    # W&B
    (
        r"(?:API key must|api_key not configured|API key is invalid|permission denied)",
        "W&B refuses the key; log in anew (wandb login), or set WANDB_MODE=offline or logger=none.",
    ),
)
"""Words that occur in a message, and what stands in its place."""


def translated(error: BaseException) -> str | None:
    """Our sentence for another package's error; None where the table does not have it."""
    text = " ".join(f"{error} {error.__cause__ or ''}".split())
    for pattern, words in TABLE:
        if found := re.search(pattern, text):
            return words if isinstance(words, str) else words(found)
    return None


def refused_by_hydra(error: Exception, keys: Sequence[str]) -> str:
    """Hydra's refusal of a command in one sentence, with the nearest name that exists.

    Args:
        error: What Hydra or OmegaConf raised.
        keys: Options of the root.
    """
    text = str(error)
    network = re.search(r"Could not (?:find|load) 'model/(.+?)'", text)
    if isinstance(error, MissingConfigException) and network:
        return _no_model(network.group(1))
    missing = re.search(r"Could not (?:find|load) '(.+)/([^/']*)'", text)
    if isinstance(error, MissingConfigException) and missing:
        group, option = missing.groups()
        # Hydra's options hold those of the user's --config-dir too
        known = list(error.options or aliases(group))
        return (
            f"there is no {group}={option}{did_you_mean(option, known)}; "
            f"choose one of: {', '.join(known)}."
        )
    if unknown := re.search(r"Could not override '([^']*)'", text):
        return unknown_option(unknown.group(1), keys)
    if ours := translated(error):
        return ours
    override = getattr(error, "override", None) or getattr(error.__cause__, "override", None)
    if override:  # Hydra's grammar does not take it
        return _unreadable(_shown(str(override)))
    if error.__cause__ is not None:
        text = f"{text}: {str(error.__cause__).splitlines()[0]}"
    return " ".join(text.split()).partition(" See https://hydra.cc")[0]


def _unreadable(argument: str) -> str:
    """An argument that Hydra's grammar does not take, and how it might."""
    argument = printable(argument)
    key, _, value = argument.partition("=")
    if not re.fullmatch(r"[~+]*[\w.@/-]+", key):
        return f"cannot read the argument '{argument}'; write OPTION=VALUE, such as method=gbp."
    quoted = f"""{key}="{value.replace('"', "")}\""""
    return (
        f"cannot read the argument '{argument}'; close its brackets and quotes, or put the whole "
        f"value into quotes: {shlex.quote(quoted)}."
    )


def _no_model(asked: str) -> str:
    """A network that nobody knows; the file of its weights, perhaps."""
    if Path(asked).suffix in (".pt", ".pth", ".ckpt", ".safetensors", ".bin"):
        return (
            f"model= takes the name of a network, got the file '{asked}'; name the network that "
            "these weights belong to: model=NAME model.checkpoint=FILE."
        )
    return (
        f"there is no model={asked}{did_you_mean(asked, network_names())}; choose one of: "
        f"{', '.join(aliases('model'))}, or any name of timm.list_models()."
    )


def unknown_option(key: str, known: Sequence[str]) -> str:
    """A sentence for an option that does not exist, with the nearest that does."""
    if not key.startswith("hydra."):
        return f"there is no option '{key}'{did_you_mean(key, list(known))}; options: " + (
            f"{', '.join(known)}."
        )
    launchers = {name: _launcher_options(name) for name in aliases("hydra/launcher")}
    owners = [name for name, options in launchers.items() if key in options]
    chosen = [word.partition("=")[2] for word in sys.argv if word.startswith("hydra/launcher=")]
    if owners and not set(owners) & set(chosen):
        return f"'{key}' is an option of hydra/launcher={owners[-1]}; add that."
    options = [f"hydra.{name}" for name in _HYDRA_OPTIONS]
    options += [option for name in chosen or launchers for option in launchers.get(name, [])]
    by_last = {option.rpartition(".")[2]: option for option in options}  # what sets them apart
    near = get_close_matches(key.rpartition(".")[2], by_last, n=1)
    hint = f" (did you mean '{by_last[near[0]]}'?)" if near else ""
    return f"there is no option '{key}'{hint}; --cfg hydra lists Hydra's."


def _launcher_options(name: str) -> list[str]:
    node = yaml.safe_load((conf_dir() / "hydra" / "launcher" / f"{name}.yaml").read_text()) or {}
    return [f"hydra.launcher.{key}" for key in node if not key.startswith("_")]


def _shown(override: str) -> str:
    """An override as the user wrote it: `open_key` puts ++ before it."""
    return override.removeprefix("++")
