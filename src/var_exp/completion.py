"""What a shell may offer behind `var-exp`: commands, flags, aliases, and Hydra's options.

    eval "$(var-exp --shell-completion install=bash)"

The script asks `var-exp --shell-completion query=bash`, the line in `COMP_LINE`. For `evaluate`
and `train` Hydra answers, from the configuration alone: nothing heavy is imported.
"""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

from var_exp.conf_files import aliases, conf_dir
from var_exp.parsers import PARSERS, accept_hydras_flags

FLAG = ("--shell-completion", "-sc")
HYDRA = ("evaluate", "train")
"""Commands whose arguments Hydra reads."""

_FLAGS = ("--multirun", "--cfg", "--help", "--config-dir")  # of Hydra, those that are typed
_ALIASES = {"--model": "model", "--method": "method", "--methods": "method", "--refine": "refine"}

_BASH = r"""_var_exp_completion() {
    local typed="${COMP_LINE:0:$COMP_POINT}" IFS=$'\n'
    local word="${typed##* }"
    COMPREPLY=($(COMP_LINE="$typed" command var-exp --shell-completion query=bash 2>/dev/null))
    if [[ $word == *=* && $COMP_WORDBREAKS == *=* ]]; then  # bash replaces what follows the sign
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
}
complete -o nospace -o default -F _var_exp_completion var-exp
"""
_ZSH = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }\n"
_ZSH += f"autoload -Uz bashcompinit && bashcompinit\n{_BASH}"
_FISH = """complete -c var-exp -a '(COMP_LINE=(commandline -cp) command var-exp \
--shell-completion query=fish 2>/dev/null)'
"""
SCRIPTS = {
    "bash": _BASH,
    "zsh": _ZSH,
    "fish": _FISH,
}
"""What `install` prints, by shell."""


def main(what: str) -> int:
    """Answer `install=SHELL` or `query=SHELL`; returns the exit code."""
    ask, _, shell = what.partition("=")
    if ask not in ("install", "query") or shell not in SCRIPTS:
        print(
            "error: --shell-completion takes install=SHELL, where SHELL is one of: "
            f"{', '.join(SCRIPTS)}.",
            file=sys.stderr,
        )
        return 2
    if ask == "install":
        print(SCRIPTS[shell], end="")
        return 0
    for found in candidates(os.environ.get("COMP_LINE", "")):
        goes_on = found.endswith(("=", ".", "/")) or "[" in found or shell == "fish"
        print(found if goes_on else f"{found} ")
    return 0


def candidates(line: str) -> list[str]:
    """What the last word of a command line can become, in whole words.

    Args:
        line: Up to the cursor, from the name of the program on. A space at its end begins a word.
    """
    try:
        words = shlex.split(line)
    except ValueError:  # within quotes
        return []
    if not words or line[-1:].isspace():
        words.append("")
    _, *before, last = words
    if not before:
        offered: Iterator[str] = iter((*HYDRA, *PARSERS, "--help", FLAG[0]))
    elif before[0] in HYDRA:
        offered = _of_hydra(before[0], before[1:], last)
    elif before[0] in PARSERS:
        offered = _of_parser(PARSERS[before[0]](), before, last)
    else:
        offered = iter(())
    return sorted({word for word in offered if word.startswith(last)})


def _of_hydra(command: str, before: Sequence[str], last: str) -> Iterator[str]:
    """Groups, their aliases, options and their values."""
    if last.startswith("-"):
        yield from _FLAGS
        return
    listed = re.fullmatch(r"([\w/]+=)(\[?(?:[^,\]]*,)*)([^,\]]*)", last)  # key=a,b or key=[a,b
    key, taken, word = listed.groups() if listed else ("", "", last)
    # Hydra splits at spaces, also at those within a word
    known = [word for word in before if " " not in word]
    with suppress(Exception):  # a line that does not compose yet; a shell wants no traceback
        for found in _hydra(command, " ".join([*known, key + word])):
            if not found.endswith("._target_="):
                yield key + taken + found.removeprefix(key)


def _hydra(command: str, line: str) -> list[str]:
    """What Hydra's own completion finds in the configuration of a command."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin

    accept_hydras_flags()
    import var_exp.runs.schema  # noqa: F401  # the roots, which the files name

    loader = ConfigLoaderImpl(create_config_search_path(str(conf_dir())))
    return DefaultCompletionPlugin(loader)._query(config_name=command, line=line)


def _of_parser(parser: argparse.ArgumentParser, before: Sequence[str], last: str) -> Iterator[str]:
    """Flags, and aliases where a flag or a place takes one."""
    flags = [flag for action in parser._actions for flag in action.option_strings]
    latest = next((word for word in reversed(before) if word in flags), "")
    takes_more = before[-1] == latest or latest == "--methods"
    if last.startswith("-"):
        yield from (flag for flag in flags if flag.startswith("--"))
    elif latest in _ALIASES and takes_more:
        yield from aliases(_ALIASES[latest])
    elif parser.prog.endswith("support"):
        yield from (f"model={name}" for name in aliases("model"))
    elif len(before) == 1:  # the first place
        yield from (name for action in parser._actions for name in action.choices or ())
