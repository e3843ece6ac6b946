"""The command `var-exp`, also `python -m var_exp`: everything, from any folder.

Heavy imports wait until a command is known, so that help and mistakes are answered at once.
"""

import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from var_exp.completion import FLAG
from var_exp.completion import main as complete
from var_exp.conf_files import conf_dir, did_you_mean
from var_exp.errors import VarExpError
from var_exp.interruption import INTERRUPTED, STOPPED, on_ctrl_c
from var_exp.kept_memory import keep_freed_memory
from var_exp.parsers import explain_parser, figures_parser, support_parser, sweep_parser
from var_exp.printing import printing

if TYPE_CHECKING:
    from pathlib import Path

    from omegaconf import DictConfig

_USAGE = """\
Why this class, and not that one? Class-competition attribution (VAR), measured honestly.

usage: var-exp COMMAND …

  explain PICTURE [CLASS …]   why this class and not that one, on one picture
  evaluate [OPTION=VALUE …]   attribute, let the classes compete, measure: a whole data set
  train [OPTION=VALUE …]      train a model from scratch, or fine-tune one
  sweep FOLDER …              several runs side by side: tables, tests, one page
  figures KIND RUN …          figures for a paper from finished runs
  support model=NAME …        which methods act on a network, and what checked them

for example

  var-exp explain photo.jpg tabby 'Egyptian cat' --model efficientnet_lite2 -o why.png
  var-exp evaluate                                 # the benchmark that ships with the package
  var-exp evaluate data=folder data.root=photos model=resnet50
  var-exp evaluate -m method=gbp,gradcam,ig        # a sweep; one page at its end

var-exp COMMAND --help says more of each. Completion of words with the tab key:
  eval "$(var-exp --shell-completion install=bash)"    # or zsh, fish
"""


@printing()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the command line names; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_USAGE, end="")
        return 0 if words else 2
    name, *rest = words
    if name in FLAG:
        return complete(" ".join(rest))
    if name not in _COMMANDS:
        known = list(_COMMANDS)
        guess = did_you_mean(name, known)
        print(f"error: there is no command '{name}'{guess}; {', '.join(known)}.", file=sys.stderr)
        return 2
    sys.argv = [f"var-exp {name}", *rest]  # Hydra and argparse read it there
    try:
        with on_ctrl_c():
            return _COMMANDS[name](rest) or 0
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough
        print(STOPPED, file=sys.stderr)
        return INTERRUPTED


@contextmanager
def _imports() -> Iterator[None]:
    """Ctrl-C ends the program at once while it imports: there is no work yet.

    A KeyboardInterrupt would end in a long traceback, or in whatever a package makes of it. What
    packages make stays, so nobody looks for garbage among it, now or later (docs/speed.md).
    """
    gc.disable()
    try:
        with on_ctrl_c(_leave):
            yield
    finally:
        gc.freeze()
        gc.enable()


def _leave(number: int, frame: FrameType | None) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # one line, of several processes
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{STOPPED}\n".encode())
    os._exit(INTERRUPTED)


@printing()
def evaluate(arguments: Sequence[str] = ()) -> None:
    """One run, or with -m a sweep; the options are on the command line."""
    _compose("evaluate", "EvaluateConfig", "var_exp.runs.evaluation")


@printing()
def train(arguments: Sequence[str] = ()) -> None:
    """One training; likewise."""
    _compose("train", "TrainConfig", "var_exp.training.from_scratch")


def _compose(name: str, schema_name: str, module: str) -> None:
    """Run the function of that name behind Hydra, with the configuration of the package."""
    with _imports():
        import hydra

        from var_exp.runs import schema
        from var_exp.runs.config import check, command, run
        from var_exp.runs.networks import offer_networks
    asked = getattr(schema, schema_name)

    def job(cfg: "DictConfig", folder: "Path") -> Any:
        check(cfg, asked, schema.GIVEN, without_import=True)
        with _imports():
            begin = getattr(importlib.import_module(module), name)
        return begin(cfg, folder)

    def task(cfg: "DictConfig") -> Any:
        return run(job, cfg)

    def composed() -> Any:
        offer_networks(sys.argv[1:])
        return hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(task)()

    command(composed, asked)


def _sweep(arguments: Sequence[str]) -> int:
    sweep_parser().parse_args(arguments)  # help and mistakes, before the heavy imports
    with _imports():
        from var_exp.sweep import main as merge
    return merge(arguments)


def _figures(arguments: Sequence[str]) -> int:
    figures_parser().parse_args(arguments)
    with _imports():
        from var_exp.figures import main as draw
    return draw(arguments)


def _support(arguments: Sequence[str]) -> int:
    support_parser().parse_args(arguments)
    with _imports():
        from var_exp.support.__main__ import main as report
    return report(arguments)


def _explain(arguments: Sequence[str]) -> int:
    options = explain_parser().parse_args(arguments)
    with _imports():
        from pathlib import Path

        from var_exp.explaining import explain
    out = Path(options.out or f"{Path(options.picture).stem}_why.png")
    keep_freed_memory()
    try:
        why = explain(
            options.model,
            options.picture,
            options.classes or None,
            options.method,
            options.refine,
            k=options.k,
            checkpoint=options.checkpoint,
        )
        print(why)
        print(f"written to {why.save(out)}")
    except BrokenPipeError:
        raise
    except (VarExpError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


_COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "explain": _explain,
    "evaluate": evaluate,
    "train": train,
    "sweep": _sweep,
    "figures": _figures,
    "support": _support,
}

if __name__ == "__main__":
    sys.exit(main())
