"""A run that is interrupted anywhere ends, started again, with the very same files."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from var_exp.results.rows import read_rows
from var_exp.results.store import Store
from var_exp.results.store_file import opened
from var_exp.runs.evaluation import evaluate
from var_exp.runs.experiment import prepare
from var_exp.types import AlreadyFinished, CannotWrite, ConfigError

FILES = ("scores.csv", "summary.csv")
SMALL = (
    *("logger=none", "trainer=cpu", "data.count=24", "batch_size=2", "pictures=1"),
    "controls=false",
)
METRICS = ("metric=[grid_pointing_game,insertion_auc]", "metric.insertion_auc.steps=3")


class Killed(BaseException):
    """Ends a run as abruptly as an exception can: nobody catches it."""


def connection(monkeypatch, before):
    """Let `before(statement)` see every statement that is about to reach the disk."""

    class Watched(sqlite3.Connection):
        def execute(self, statement, *given):
            before(statement)
            return super().execute(statement, *given)

        def executemany(self, statement, *given):
            before(statement)
            return super().executemany(statement, *given)

    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *given, **named: connect(*given, **named, factory=Watched)
    )


def dies_at(monkeypatch, statement, count):
    """Die when a statement that begins like this is about to run for the count-th time."""
    seen = []

    def before(text):
        seen.append(text) if text.startswith(statement) else None
        if text.startswith(statement) and len(seen) == count:
            raise Killed(text)

    connection(monkeypatch, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of a run that nobody interrupted, and how to start it."""
    from hydra import compose, initialize_config_dir

    from var_exp.registry import conf_dir
    from var_exp.runs.arguments import open_key

    def start(folder, *more):
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            words = ["title=t", *map(open_key, (*SMALL, *METRICS, *more))]
            cfg = compose("evaluate", overrides=words)
        folder.mkdir(exist_ok=True)
        return evaluate(cfg, folder)

    folder = tmp_path_factory.mktemp("whole")
    start(folder)
    return folder, start


@pytest.fixture(scope="module")
def half(whole, tmp_path_factory):
    """A run that died in its second batch: two of its six grids are done."""
    folder = tmp_path_factory.mktemp("half")
    with pytest.MonkeyPatch.context() as monkeypatch:
        dies_at(monkeypatch, "INSERT INTO samples", 2)
        with pytest.raises(Killed):
            whole[1](folder)
    return folder


@pytest.fixture
def stopped(half, tmp_path):
    """A copy of the half run."""
    shutil.copytree(half, tmp_path / "run")
    return tmp_path / "run"


def same_files(folder, whole):
    return all((folder / name).read_bytes() == (whole[0] / name).read_bytes() for name in FILES)


def test_two_runs_with_the_same_record_give_the_same_bytes(whole, tmp_path):
    whole[1](tmp_path / "again")
    assert same_files(tmp_path / "again", whole)
    (known, again) = (
        json.loads((f / "run.json").read_text()) for f in (whole[0], tmp_path / "again")
    )
    assert known["id"] == again["id"]
    assert known["id"] in (whole[0] / "report.html").read_text()


def test_a_run_that_is_interrupted_everywhere_ends_the_same(whole, tmp_path):
    folder = tmp_path / "run"
    moments = [
        ("INSERT INTO scores", 1),  # nothing kept yet
        ("COMMIT", 1),  # everything written, nothing committed
        ("INSERT INTO samples", 2),  # the first batch is kept, the second all but
        ("SELECT place FROM samples", 1),  # while going on
        ("BEGIN", 2),  # between two batches
        ("SELECT DISTINCT metric", 1),  # every batch is done
        ("SELECT metric, variant, role, of, numbers", 1),  # the curves
        ("SELECT id, class", 4),  # while scores.csv is written
    ]
    for statement, count in moments:
        with pytest.MonkeyPatch.context() as monkeypatch:
            dies_at(monkeypatch, statement, count)
            with pytest.raises(Killed):
                whole[1](folder)
        assert not (folder / "summary.csv").exists()
        assert not list(folder.glob("*.part"))
    whole[1](folder)
    assert same_files(folder, whole)
    assert json.loads((folder / "run.json").read_text())["sessions"][-1]["done"] == 6
    assert not list(folder.glob("store*"))


def test_a_run_goes_on_where_it_stopped(whole, stopped, monkeypatch):
    committed = []
    commit = Store.commit
    monkeypatch.setattr(
        Store, "commit", lambda self, scored: committed.extend(scored.ids) or commit(self, scored)
    )
    whole[1](stopped)
    ids = list(dict.fromkeys(row.sample_id for row in read_rows(whole[0] / "scores.csv")))
    assert len(ids) == 6
    assert committed == ids[2:]
    assert same_files(stopped, whole)


def test_killed_after_the_summary_it_is_finished_and_left_as_it_is(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    (folder / "store.sqlite").touch()
    with pytest.raises(AlreadyFinished, match=r"run holds this run already.*hydra\.run\.dir"):
        whole[1](folder)
    assert same_files(folder, whole)


def test_a_finished_run_says_which_of_its_files_were_changed(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    (folder / "report.html").unlink()
    with (folder / "summary.csv").open("a") as file:
        file.write("junk\n")
    with pytest.raises(AlreadyFinished, match=r"report\.html was removed and summary\.csv was edi"):
        whole[1](folder)


def test_what_another_process_finished_meanwhile_is_left_as_it_is(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"

    def prepare_slowly(root):
        shutil.copytree(whole[0], folder, dirs_exist_ok=True)
        return prepare(root)

    monkeypatch.setattr("var_exp.runs.evaluation.prepare", prepare_slowly)
    with pytest.raises(AlreadyFinished):
        whole[1](folder)
    assert same_files(folder, whole)


def test_what_another_process_has_done_counts(whole, stopped):
    (stopped / "store.sqlite").rename(stopped / "store.rank2.sqlite")
    for ending in ("-wal", "-shm"):
        if (file := stopped / f"store.sqlite{ending}").exists():
            file.rename(stopped / f"store.rank2.sqlite{ending}")
    whole[1](stopped)
    assert same_files(stopped, whole)
    assert json.loads((stopped / "run.json").read_text())["sessions"][-1]["done"] == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("seed=3", "seed was 0, is 3"),
        ("metric.insertion_auc.steps=4", r"metric\.insertion_auc\.steps was 3, is 4"),
        ("data.count=28", "data.count was 24, is 28; data was"),
    ],
)
def test_a_changed_configuration_is_refused_with_what_differs(whole, stopped, change, words):
    before = {file: file.read_bytes() for file in stopped.iterdir() if file.is_file()}
    with pytest.raises(ConfigError, match=words):
        whole[1](stopped, change)
    assert {f: b for f, b in before.items() if f.read_bytes() != b} == {}
    whole[1](stopped)
    assert same_files(stopped, whole)


def test_changed_weights_are_refused(whole, stopped, monkeypatch):
    monkeypatch.setattr("var_exp.runs.provenance.weights_hash", lambda model: "others")
    with pytest.raises(ConfigError, match=r"weights was '[0-9a-f]+', is 'others'"):
        whole[1](stopped)


def test_a_second_start_is_kept_out_of_a_run_at_work(whole, stopped, monkeypatch):
    monkeypatch.setattr("var_exp.results.store_file._WAIT_SECONDS", 0.05)
    with (
        closing(opened(stopped / "store.sqlite")),
        pytest.raises(ConfigError, match="another process is at work in"),
    ):
        whole[1](stopped)
    whole[1](stopped)
    assert same_files(stopped, whole)


def test_a_full_disk_ends_in_a_sentence_and_keeps_what_is_done(whole, stopped, monkeypatch):
    def full(statement):
        if statement.startswith("INSERT INTO samples"):
            raise sqlite3.OperationalError("database or disk is full")

    with pytest.MonkeyPatch.context() as patch:
        connection(patch, full)
        with pytest.raises(CannotWrite, match=r"disk is full.*the same command goes on"):
            whole[1](stopped)
    whole[1](stopped)
    assert same_files(stopped, whole)
