"""How much faster two processes are than one on the same work.

    python benchmarks/scaling.py

Both are whole runs with one thread per process; timed is what lies between the first batch and the
last on the slowest process, without the start of Python. They run in turn, round after round, so
that other work on the machine slows both alike; the figure is the median of the ratios. Two free
cores are needed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 1.8
ANSWER = "seconds between the first batch and the last: "


def run(processes: int, pictures: int) -> float:
    """Seconds of one run, in processes of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--worker", folder]
        command += ["--processes", str(processes), "--pictures", str(pictures)]
        done = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
    answers = [line for line in done.stdout.splitlines() if line.startswith(ANSWER)]
    if done.returncode or not answers:
        raise SystemExit(f"a run failed:\n{done.stderr[-2000:]}")
    return float(answers[0].removeprefix(ANSWER))


def work(processes: int, pictures: int, folder: Path) -> None:
    """One run, in each of its processes: Lightning starts this file again for the others."""
    from hydra import compose, initialize_config_dir

    from var_exp import evaluation
    from var_exp.modules.attribution import AttributionModule
    from var_exp.registry import conf_dir

    class Timed(AttributionModule):
        """Says how long the batches took."""

        def on_test_start(self) -> None:
            self.trainer.strategy.barrier()
            self.started = time.perf_counter()

        def on_test_end(self) -> None:
            self.trainer.strategy.barrier()
            if self.trainer.is_global_zero:
                print(f"{ANSWER}{time.perf_counter() - self.started}", flush=True)

    evaluation.AttributionModule = Timed
    options = ["title=scaling", "logger=none", f"data.count={pictures}", "pictures=0"]
    options += [f"trainer={'ddp' if processes > 1 else 'cpu'}", "trainer.accelerator=cpu"]
    options += [f"trainer.devices={processes}"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        evaluation.evaluate(compose("evaluate", overrides=options), folder)


def main() -> None:
    """Run one and two processes in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.processes, options.pictures, options.worker)
        return
    print(f"{'':8} {'1 process':>10} {f'{options.processes} processes':>12} {'speedup':>8}")
    speedups = []
    for number in range(options.rounds):
        one, several = (run(n, options.pictures) for n in (1, options.processes))
        speedups.append(one / several)
        print(f"round {number + 1:2} {one:9.1f}s {several:11.1f}s {one / several:8.2f}", flush=True)
    print(f"median speedup {statistics.median(speedups):.2f} (limit {LIMIT})")


if __name__ == "__main__":
    main()
