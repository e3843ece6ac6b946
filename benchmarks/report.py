"""What the report costs: its share of the time of a run, and its size.

    python benchmarks/report.py                      # the demo: 200 grids
    python benchmarks/report.py layout.count=1000 data.count=4000

Time from the last score to the end of `evaluate` (statistics, maps of the gallery, the page, files)
over the time of the whole run, both in this process; the arguments are those of `evaluate.py`. The
limits are 5 % and 10 MB.
"""

import sys
import tempfile
import time
from pathlib import Path

from hydra import compose, initialize_config_dir

from var_exp import evaluation
from var_exp.registry import conf_dir
from var_exp.runs.arguments import open_key

PARTS = ("results_of", "gallery", "by_class", "write_rows", "write_report")


def timed(name: str, seconds: dict[str, float]) -> None:
    """Let a function of the module add its time up."""
    work = getattr(evaluation, name)

    def run(*args: object, **kwargs: object) -> object:
        begin = time.perf_counter()
        try:
            return work(*args, **kwargs)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begin

    setattr(evaluation, name, run)


def main() -> int:
    """Print seconds and shares; 1 when a limit is broken."""
    seconds: dict[str, float] = {}
    for name in ("_conclude", *PARTS):
        timed(name, seconds)
    options = ["title=benchmark", "logger=none", *map(open_key, sys.argv[1:])]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("evaluate", overrides=options)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        evaluation.evaluate(cfg, Path(folder))
        total = time.perf_counter() - begin
        size = (Path(folder) / "report.html").stat().st_size
    print(f"\nrun {total:.1f} s, report.html {size / 1e6:.2f} MB")
    for name in ("_conclude", *PARTS):
        label = "after the last score" if name == "_conclude" else f"  {name}"
        print(f"{label:24}{seconds[name]:8.2f} s {100 * seconds[name] / total:6.1f} %")
    return int(seconds["_conclude"] / total > 0.05 or size > 10e6)


if __name__ == "__main__":
    sys.exit(main())
