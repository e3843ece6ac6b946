"""Peak memory of whole runs: ten times the pictures, four times the competing classes.

    python benchmarks/memory.py

Every run is `evaluate.py` in a process of its own; its peak is the most resident memory that the
operating system saw (Linux), which holds Python and PyTorch too. The ratios are to the first run.
What follows `--` is passed on, such as `-- model=critters_vit trainer=cpu`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT = 1.1
EVALUATE = Path(__file__).parents[1] / "evaluate.py"


def peak(arguments: list[str]) -> float:
    """Most resident memory of one run, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(EVALUATE), *arguments, f"hydra.run.dir={folder}/run"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return used.ru_maxrss / 1024


def main() -> None:
    """Run each and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100, help="of the smaller run")
    parser.add_argument("options", nargs="*", help="of every run, after --")
    options = parser.parse_args()
    common = ["logger=none", *options.options]
    few, many = (f"data.count={count}" for count in (options.pictures, 10 * options.pictures))
    ways = {
        f"{options.pictures} pictures, K=4": [few, "classes=top_k", "classes.k=4"],
        f"{10 * options.pictures} pictures, K=4": [many, "classes=top_k", "classes.k=4"],
        f"{options.pictures} pictures, K=16": [few, "classes=top_k", "classes.k=16"],
    }
    print(f"{'':24} {'MiB':>7} {'ratio':>6}")
    first = worst = 0.0
    for name, arguments in ways.items():
        found = peak([*arguments, *common])
        first = first or found
        worst = max(worst, found / first)
        print(f"{name:24} {found:7.0f} {found / first:6.3f}", flush=True)
    print(f"at most {worst:.3f} (limit {LIMIT})")


if __name__ == "__main__":
    main()
