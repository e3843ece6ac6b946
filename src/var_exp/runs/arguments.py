"""The words of a command line as Hydra takes them: in its order, with its signs and quotes."""

import re
from collections.abc import Sequence

from var_exp.conf_files import conf_dir, did_you_mean
from var_exp.errors import ConfigError

_VALUE = "a value"
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_FLAGS: dict[str, str | tuple[str, ...]] = {  # of Hydra, and what may follow
    **dict.fromkeys(("-m", "--multirun", "-r", "--run", "-h", "--help", "--hydra-help"), ()),
    **dict.fromkeys(("--version", "--resolve", "-sc", "--shell-completion"), ()),
    **dict.fromkeys(("-c", "--cfg", "-p", "--package", "-cp", "--config-path"), _VALUE),
    **dict.fromkeys(("-cn", "--config-name", "-cd", "--config-dir"), _VALUE),
    **{"--experimental-rerun": _VALUE, "-i": _INFO, "--info": _INFO},
}


def arranged(arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra takes them: overrides first, flags such as -m behind.

    Raises:
        ConfigError: a flag that does not exist, an option without a value, or what is no name where
            names are wanted.

    Examples:
        >>> arranged(["logger=none", "-m", "method=a,b", "--config-dir", "mine", "model.x=1"])
        ['logger=none', 'method=a,b', '++model.x=1', '-m', '--config-dir', 'mine']
    """
    overrides, flags, waiting = [], [], list(arguments)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-"):
            _check_value(word)
            _check_names(word)
            overrides.append(open_key(word))
            continue
        name = word.partition("=")[0]
        if not any(flag.startswith(name) and len(name) > 1 for flag in _FLAGS):
            raise ConfigError(
                f"there is no flag {name}{did_you_mean(name, list(_FLAGS))}; options go without "
                f"dashes, such as method=gbp."
            )
        flags.append(word)
        takes = next(takes for flag, takes in _FLAGS.items() if flag.startswith(name))
        if waiting and "=" not in word and (takes == _VALUE or waiting[0] in takes):
            flags.append(waiting.pop(0))
    return overrides + flags


def _check_value(word: str) -> None:
    """Refuse an empty value, such as a shell leaves of a variable that is not set."""
    key, equals, value = word.partition("=")
    if equals and key and not value.strip():
        raise ConfigError(
            f"{key}= has no value; write {key}=…, leave it out, or, where an empty text is meant, "
            f"""'{key}=""'."""
        )


def _check_names(word: str) -> None:
    """Refuse what is no name where a file of a group is chosen."""
    key, _, value = word.partition("=")
    if key == "classes" and value.startswith("["):
        raise ConfigError(
            f"classes= takes a rule, got {value}; to name the classes that compete: "
            f"classes=named 'classes.names={value}'."
        )
    if (conf_dir() / key).is_dir() and re.search(r"(?<!\$)\{|\[[^\]]*\[", value):
        raise ConfigError(
            f"{key}= takes names, got {value}; choose with {key}=NAME, several of a group that "
            f"takes several with {key}=[NAME,NAME], and set options one by one: {key}.OPTION=…."
        )


def open_key(argument: str) -> str:
    """Let `node.option=value` set any option, also one that the YAML file does not list.

    Hydra would refuse it and advise `+node.option`, which it then takes however it is misspelt;
    `check` knows which options there are. A value with an equals sign in it, as Lightning names its
    checkpoints, gets the quotes that Hydra wants.

    Examples:
        >>> open_key("method.steps=8"), open_key("method=ig"), open_key("hydra.run.dir=x")
        ('++method.steps=8', 'method=ig', 'hydra.run.dir=x')
        >>> open_key("model.checkpoint=runs/epoch=3-step=100.ckpt")
        '++model.checkpoint="runs/epoch=3-step=100.ckpt"'
    """
    key, equals, value = argument.partition("=")
    if "=" in value and not re.search(r"""["'\[\]{}()\\$]""", value):
        value = ",".join(f'"{each}"' if "=" in each else each for each in value.split(","))
    is_option = re.fullmatch(r"(?!hydra\.)\w+\.[\w.]+", key) and equals
    return f"++{key}={value}" if is_option else f"{key}{equals}{value}"
