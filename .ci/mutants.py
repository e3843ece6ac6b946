"""Change the code that numbers rest on in one place at a time; do the tests of its room notice?

    python .ci/mutants.py                # every room, a tenth of its mutants
    python .ci/mutants.py refine 1.0     # one room, all of them
    python .ci/mutants.py refine 0.1 7   # a tenth, another one than without the 7

mutmut makes the mutants of Python, in a copy of this checkout that is thrown away; what stands in
error messages is left out. One that runs out of time is tried again in a process of its own: a fork
may wait for a thread that it does not have. Of the report's script each operator and number is
changed here. Prints how many of each room the tests killed, and what survived.

What survives since it changes nothing. In Python: `strict=` where the lists are of one length by
construction, `encoding=` of what is ASCII, the type of a mask or of whole numbers, the device where
there is but one, an argument that is taken and not read, a divisor where the quotient is 0 or not
used, resizing to the same size, what only makes it faster. The default of an argument is seen
by tests that read signatures (`tests/metrics/test_options.py`), which mutmut's stand-ins hide; what
several processes agree on, by `tests/cli`. In the script, 8 of its 127 mutants: a loop that goes
one too far (`<` → `<=` in lines 21, 57, 68, 82 and 84), for beyond its end an array reads as what
is neither more nor less, and is not written; `>` → `>=` where the largest is sought (36, 60); the
unit of maps that are all 0 (39).
"""

import importlib
import os
import random
import re
import resource
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[1]
_MEMORY = 16 << 30  # bytes of a mutant in a process of its own: an endless loop may ask for all
SCRIPT = "competition.js"
ROOMS = {  # what is changed, and the tests that are to notice
    "refine": (["refine/*.py"], ["tests/refine"]),
    "metrics": (["metrics/*.py"], ["tests/metrics"]),
    "engine": (
        [f"engine/{name}.py" for name in ("gradients", "chunks", "noise", "norms", "perturb")]
        + ["engine/relevance/rules.py"],
        ["tests/engine"],
    ),
    "results": (
        [f"results/{name}.py" for name in ("aggregate", "intervals", "significance", "comparison")],
        [
            f"tests/results/test_{name}.py"
            for name in ("aggregate", "intervals", "significance", "comparison", "verdicts")
        ],
    ),
    "data": (
        ["seeds.py", "data/layouts.py", "data/datamodule.py", "data/confidence.py"],
        ["tests/test_seeds.py"]
        + [f"tests/data/test_{name}.py" for name in ("layouts", "datamodule", "confidence")],
    ),
}
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = {mutated}
do_not_mutate_patterns = ['raise \\w+', '^\\s+f?"']
process_isolation = "forkserver" # a fork of a process that has run autograd cannot run it
timeout_multiplier = 8.0
pytest_add_cli_args = ["-m", "not slow", "-W", "default", "-p", "no:xdist"]
pytest_add_cli_args_test_selection = {tests}
also_copy = ["conf", "evaluate.py", "train.py", "docs", "README.md", "benchmarks"]
"""
TOKENS = (
    r">=|<=|===|\+=|-=|&&|\|\||>>|(?<![=-])>(?!=)|<(?!=)|\+(?![+=])|(?<![-e])-(?![-=])"
    r"|\*\*|\*|/|\b\d+\b"
)
OTHERS = {
    **{">=": ">", "<=": "<", ">": ">=", "<": "<=", "===": "!==", ">>": "<<"},
    **{"&&": "||", "||": "&&", "+=": "-=", "-=": "+="},
    **{"+": "-", "-": "+", "**": "*", "*": "/", "/": "*"},
}


def of_python(room: str, share: float, seed: int) -> Counter[str]:
    """Mutants of a room by what became of them; names the survivors."""
    mutated, tests = ROOMS[room]
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        for name in ("src", "tests", "conf", "docs", "benchmarks"):
            shutil.copytree(ROOT / name, copy / name)
        for name in ("pyproject.toml", "README.md", "evaluate.py", "train.py"):
            shutil.copy(ROOT / name, copy)
        files = [f"src/var_exp/{name}" for name in mutated]
        with (copy / "pyproject.toml").open("a") as file:
            file.write(CONFIG.format(mutated=files, tests=tests))

        def mutmut(*words: str) -> str:
            return subprocess.run(
                [sys.executable, "-m", "mutmut", *words],
                cwd=copy,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                check=False,
                capture_output=True,
                text=True,
            ).stdout

        def ends() -> dict[str, str]:
            lines = [
                line.strip().split(": ") for line in mutmut("results", "--all", "1").split("\n")
            ]
            return {line[0]: line[1] for line in lines if len(line) == 2}

        mutmut("run", "no.such.mutant")  # makes them all, and finds the tests of each
        names = sorted(name for name in ends() if name.startswith("var_exp"))
        chosen = sorted(random.Random(seed).sample(names, max(1, round(share * len(names)))))
        mutmut("run", "--max-children", "1", *chosen)
        found = {name: end for name, end in ends().items() if name in chosen}
        if set(found.values()) <= {"not checked"}:
            sys.exit("the tests do not run in the copy; see mutmut run there.")
        for name in [name for name, end in found.items() if end == "timeout"]:
            found[name] = alone(copy / "mutants", name, tests)
        for name, end in found.items():
            if end not in ("killed", "timeout"):
                print(f"{end}: {mutmut('show', name)}", flush=True)
        print(f"{room}: {len(chosen)} of {len(names)} tried")
    return Counter(found.values())


def alone(folder: Path, name: str, tests: list[str]) -> str:
    """What becomes of a mutant in a process of its own."""
    options = ["-xq", "-m", "not slow", "-W", "default", "-p", "no:xdist", "-p", "no:cacheprovider"]
    given = {"MUTANT_UNDER_TEST": name, "PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=folder,
            env=os.environ | given,
            check=False,
            capture_output=True,
            timeout=600,
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_AS, (_MEMORY, _MEMORY)),
        )
    except subprocess.TimeoutExpired:
        return "timeout"
    return {0: "survived", 1: "killed"}.get(done.returncode, f"exit {done.returncode}")


def in_a_fork(script: Path) -> str:
    """What the tests do with another script; an endless loop runs out of the processor's time."""
    child = os.fork()
    if child == 0:
        os.environ["VAR_EXP_SCRIPT"] = str(script)
        os.chdir(ROOT)
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))  # they take 10 s
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        options = ["-xq", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "default"]
        os._exit(int(pytest.main([*options, "tests/report/test_live.py"]) != 0))
    status = os.waitpid(child, 0)[1]
    return "timeout" if os.WIFSIGNALED(status) else "killed" if status else "survived"


def of_the_script(share: float, seed: int) -> Counter[str]:
    """Mutants of the arithmetic of the report's page."""
    path = ROOT / "src" / "var_exp" / "report" / SCRIPT
    text = path.read_text()
    code = re.sub(r"//.*|/\*[\s\S]*?\*/", lambda found: " " * len(found[0]), text)
    counted: Counter[str] = Counter()
    for module in ("var_exp.report.live", "var_exp.metrics", "py_mini_racer"):
        importlib.import_module(module)  # once for all forks
    tokens = list(re.finditer(TOKENS, code))
    for token in random.Random(seed).sample(tokens, max(1, round(share * len(tokens)))):
        other = OTHERS.get(token[0]) or str(int(token[0]) + 1)
        mutant = text[: token.start()] + other + text[token.end() :]
        with TemporaryDirectory() as folder:
            (Path(folder) / SCRIPT).write_text(mutant)
            end = in_a_fork(Path(folder) / SCRIPT)
        counted[end] += 1
        line = text.count("\n", 0, token.start()) + 1
        print(f"{end}: {SCRIPT}:{line} {token[0]} → {other}", flush=True)
    return counted


if __name__ == "__main__":
    share = float(sys.argv[2]) if len(sys.argv) > 2 else 0.1
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    for room in [sys.argv[1]] if len(sys.argv) > 1 else [*ROOMS, SCRIPT]:
        counts = of_the_script(share, seed) if room == SCRIPT else of_python(room, share, seed)
        killed = counts["killed"] + counts["timeout"]
        print(f"{room}: {killed} of {sum(counts.values())} killed {dict(counts)}", flush=True)
