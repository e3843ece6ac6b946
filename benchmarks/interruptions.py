"""Kill a run again and again, start it again each time, and compare what it ends with.

    python benchmarks/interruptions.py --kills 24 --processes 1

SIGKILL and SIGTERM come at random moments: a third of them anywhere, also while the program starts;
a third once batches are being scored; a third hit a transaction itself, between its writes and its
commit or right after the commit. Of several processes, the first one or all are killed. The same
command then goes on. At the end the tables must be those of a run that nobody killed, byte for
byte, without a row lost or doubled.
"""

import argparse
import csv
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
OPTIONS = ("logger=none", "batch_size=1", "pictures=1", "trainer.accelerator=cpu")
REFUSED = 2
INSIDE = """
import os, runpy, signal, sqlite3, sys
moment, after, script, *arguments = sys.argv[1:]
commits = 0

class Deadly(sqlite3.Connection):
    def execute(self, text, *given):
        global commits
        commits += text == "COMMIT"
        deadly = text == "COMMIT" and commits == int(after)
        if deadly and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        cursor = super().execute(text, *given)
        if deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return cursor

connect = sqlite3.connect
sqlite3.connect = lambda *given, **named: connect(*given, **named, factory=Deadly)
sys.argv = [script, *arguments]
runpy.run_path(script, run_name="__main__")
"""


def main() -> int:
    """Run, kill, compare; 0 when nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with TemporaryDirectory() as folder:
        whole, broken = Path(folder, "whole"), Path(folder, "broken")
        if start(whole, options, 1).wait() != 0:
            return 1
        kills, before = 0, 0
        while True:
            ended, how = attempt(broken, options, chance, kills)
            if ended == REFUSED:  # orphans of the killed process are still at work
                time.sleep(1)
                continue
            kills += ended != 0
            done = committed(broken)
            print(f"{kills:3d}  {how:26s} exit {ended:4d}  samples done {done}", flush=True)
            if (broken / "summary.csv").exists():
                break
            if done < before:
                sys.exit("samples were lost")
            before = done
        same = all(
            (whole / name).read_bytes() == (broken / name).read_bytes()
            for name in ("scores.csv", "summary.csv")
        )
        rows = list(csv.DictReader((broken / "scores.csv").open()))
        keys = {tuple(row[k] for k in ("sample_id", "class", "metric", "variant")) for row in rows}
        print(
            f"{kills} kills, {len(rows)} rows, {len(rows) - len(keys)} of them twice, tables "
            f"{'the same' if same else 'NOT the same'}"
        )
        return int(not same or len(keys) != len(rows) or kills < options.kills)


def attempt(
    folder: Path, options: argparse.Namespace, chance: random.Random, kills: int
) -> tuple[int, str]:
    """Start the run once and kill it, or let it end when it has been killed often enough."""
    if kills >= options.kills:
        return start(folder, options, options.processes).wait(), "not killed"
    if kills % 3 == 2:
        moment, after = chance.choice(("before", "after")), chance.randint(1, 4)
        process = start(folder, options, options.processes, moment, str(after))
        return process.wait(), f"SIGKILL {moment} commit {after}"
    kind = chance.choice((signal.SIGKILL, signal.SIGTERM))
    process = start(folder, options, options.processes)
    how = f"{kind.name} anywhere"
    if kills % 3 == 0:
        wait_for_commits(folder / "store.sqlite-wal", process)
        how = f"{kind.name} at work"
    try:
        return process.wait(chance.uniform(0, 1 if kills % 3 == 0 else 12)), "ended by itself"
    except subprocess.TimeoutExpired:
        if options.processes > 1 and chance.random() < 0.5:
            os.killpg(process.pid, kind)
            how += ", all"
        else:
            process.send_signal(kind)
        return process.wait(), how


def wait_for_commits(file: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the store has been written to a few times, or the process has ended."""
    seen: set[int] = set()
    while process.poll() is None and len(seen) < 4:
        with suppress(FileNotFoundError):
            seen.add(file.stat().st_mtime_ns)
        time.sleep(0.01)


def start(
    folder: Path, options: argparse.Namespace, processes: int, *inside: str
) -> subprocess.Popen[bytes]:
    """The command, always the same; `inside` kills it at a commit."""
    trainer = ["trainer=cpu"] if processes == 1 else ["trainer=ddp", f"trainer.devices={processes}"]
    data = [f"data.count={4 * 6 * options.kills}"]  # six grids for each kill
    script = ["-c", INSIDE, *inside] if inside else []
    command = [sys.executable, *script, str(ROOT / "evaluate.py"), *OPTIONS, *trainer, *data]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [*command, f"hydra.run.dir={folder}"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def committed(folder: Path) -> int:
    """Samples that the stores of a run hold; read from copies, since reading would lock them."""
    places: set[int] = set()
    with TemporaryDirectory() as copy:
        for file in folder.glob("store*.sqlite*"):
            shutil.copy(file, copy)
        for file in Path(copy).glob("*.sqlite"):
            connection = sqlite3.connect(file)
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                places |= {place for (place,) in connection.execute("SELECT place FROM samples")}
            connection.close()
    return len(places)


if __name__ == "__main__":
    sys.exit(main())
