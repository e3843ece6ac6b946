"""What a store gives back is what was committed, whole samples only, however it was interrupted."""

import math
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
import torch
from named_variants import variant as named

from var_exp.metrics.base import Flag, Recorded
from var_exp.results.batch_scores import BatchScores
from var_exp.results.rows import Row
from var_exp.results.store import Store
from var_exp.types import BadData, CannotWrite, ConfigError

IDS = [f"sample {i}" for i in range(7)]


def scored(*places, metric="m"):
    """Two classes, two variants, a curve and two facts of each sample; all tell its place."""
    ids = [IDS[place] for place in places]
    added = BatchScores(ids)
    owners = [id for id in ids for _ in range(2)]
    value = torch.tensor([place + half for place in places for half in (0, 0.5)]).double()
    for variant in ("base", "var"):
        curves = torch.stack([value, value + 1, value + 2], 1)
        flags = torch.full((len(value),), int(Flag.TIED))
        added.add(
            metric, named(variant), owners, [3, 1] * len(ids), Recorded(value, flags, {"c": curves})
        )
        value = value + 100
    added.note("place", torch.tensor(places))
    added.note("twice", torch.tensor(places)[:, None].expand(-1, 2))
    return added


def expected_rows(*places):
    return [
        Row(IDS[place], index, "m", named(variant), place + half + offset, "tied")
        for place in places
        for variant, offset in (("base", 0), ("var", 100))
        for index, half in ((3, 0), (1, 0.5))
    ]


def test_rows_come_back_in_the_order_of_the_data_whatever_the_batches(tmp_path):
    with Store(tmp_path, IDS) as store:
        store.commit(scored(5, 2))
        store.commit(scored(0))
        assert store.done() == {0, 2, 5}
        assert list(store.rows()) == expected_rows(0, 2, 5)
        store.commit(scored(6, 1, 3, 4))
        assert list(store.rows()) == expected_rows(*range(7))
        assert store.facts("place").tolist() == list(range(7))
        assert store.facts("twice").tolist() == [i for i in range(7) for _ in range(2)]
        assert store.facts("unknown").tolist() == []


def test_rows_of_one_metric(tmp_path):
    store = Store(None, IDS)
    both = scored(1)
    both.rows += scored(1, metric="other").rows
    store.commit(both)
    assert store.metrics() == ["m", "other"]
    assert list(store.rows("m")) == expected_rows(1)
    assert {row.metric for row in store.rows("other")} == {"other"}


def test_what_is_committed_survives_closing(tmp_path):
    with Store(tmp_path, IDS) as store:
        store.commit(scored(0, 1))
    with Store(tmp_path, IDS) as store:
        assert store.done() == {0, 1}
        assert list(store.rows()) == expected_rows(0, 1)
        store.remove()
    assert list(tmp_path.iterdir()) == []


def test_awkward_scores_and_names_come_back_exactly():
    awkward = [
        Row('comma, "quote"\n', 0, "m", named("var"), 0.1 + 0.2),
        Row("B\u00e4r \u718a", 1, "m", named("base"), math.inf, "empty_map|tied"),
        Row("plain", 1, "m", named("base"), 5e-324),
        Row("undefined", 1, "m", named("base"), math.nan, "empty_region"),
    ]
    ids = [row.sample_id for row in awkward]
    store = Store(None, ids)
    store.commit(BatchScores(ids, rows=awkward))
    *defined, undefined = store.rows()
    assert defined == awkward[:3]
    assert math.isnan(undefined.score)


def test_means_are_those_of_the_numbers_that_are_defined():
    store = Store(None, IDS)
    curves = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    curves[2, 0, 1] = np.nan
    for place, (base, var) in enumerate(curves):
        rows = [Row(IDS[place], 0, "m", named(name), 0.0) for name in ("base", "var")]
        store.commit(BatchScores([IDS[place]], rows, [(0, "curves", base), (1, "curves", var)]))
    means = store.means("curves")
    assert list(means) == [("m", named("base")), ("m", named("var"))]
    np.testing.assert_allclose(means["m", named("base")], np.nanmean(curves[:, 0].astype(float), 0))
    np.testing.assert_allclose(means["m", named("var")], curves[:, 1].astype(float).mean(0))
    assert store.means("unknown") == {}


def test_the_mean_of_details_that_are_never_defined_is_undefined():
    store = Store(None, IDS)
    detail = (0, "curves", np.full(2, np.nan, dtype=np.float32))
    store.commit(BatchScores(IDS[:1], [Row(IDS[0], 0, "m", named("base"), math.nan)], [detail]))
    assert np.isnan(store.means("curves")["m", named("base")]).all()


def test_a_commit_that_fails_leaves_nothing_of_itself(tmp_path):
    broken = scored(1, 2)
    broken.facts.append((IDS[2], None, 0.0))  # refused by the last table but one
    with Store(tmp_path, IDS) as store:
        store.commit(scored(0))
        with pytest.raises(BadData):
            store.commit(broken)
        assert store.done() == {0}
        assert list(store.rows()) == expected_rows(0)
        store.commit(scored(1, 2))
        assert list(store.rows()) == expected_rows(0, 1, 2)


def test_a_commit_waits_for_the_disk(tmp_path):
    with Store(tmp_path, IDS) as store:
        store.commit(scored(0))
        (mode,), (synchronous,) = (
            store._open.execute(f"PRAGMA {name}").fetchone()
            for name in ("journal_mode", "synchronous")
        )
    assert (mode, synchronous) == ("wal", 2)  # 2 is FULL: the log is synced at every commit


def test_the_files_of_other_processes_are_absorbed_once(tmp_path):
    for rank, places in ((1, (1, 4)), (2, (2,))):
        with Store(tmp_path, IDS, rank) as other:
            other.commit(scored(*places))
    (tmp_path / "store.rank3.sqlite").touch()  # its process died before it wrote anything
    with Store(tmp_path, IDS) as store:
        store.commit(scored(0, 3))
        store.absorb()
        assert list(store.rows()) == expected_rows(0, 1, 2, 3, 4)
        assert [file.name for file in tmp_path.glob("*rank*")] == []
        with Store(tmp_path, IDS, 1) as again:  # killed between the commit and the removal
            again.commit(scored(4, 5))
        store.absorb()
        assert list(store.rows()) == expected_rows(0, 1, 2, 3, 4, 5)
        assert store.facts("twice").tolist() == [i for i in range(6) for _ in range(2)]


def test_a_second_process_is_kept_out_until_the_first_one_dies(tmp_path, monkeypatch):
    monkeypatch.setattr("var_exp.results.store_file._WAIT_SECONDS", 0.05)
    code = (
        "import pathlib, sys; from var_exp.results.store import Store\n"
        f"store = Store(pathlib.Path({str(tmp_path)!r}), {IDS})\n"
        "store.done(); print('open', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as first:
        assert first.stdout.readline() == b"open\n"
        with pytest.raises(ConfigError, match="another process is at work"):
            Store(tmp_path, IDS).done()
        first.kill()
    assert Store(tmp_path, IDS).done() == set()


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "store.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(BadData, match=r"store\.sqlite is damaged"):
        Store(tmp_path, IDS).done()


def test_a_folder_that_cannot_be_written_ends_in_a_sentence(tmp_path):
    with pytest.raises(CannotWrite, match=r"cannot write .*nowhere"):
        Store(tmp_path / "nowhere", IDS).done()


def test_ids_must_tell_samples_apart():
    with pytest.raises(BadData, match="two samples have the id 'a'"):
        Store(None, ["a", "b", "a"])


def test_a_flipped_bit_is_found_or_changes_nothing(tmp_path):
    with Store(tmp_path, IDS) as store:
        store.commit(scored(0, 1, 2))
    path = tmp_path / "store.sqlite"
    good = path.read_bytes()
    outcomes = {"same": 0, "refused": 0}
    chance = np.random.default_rng(0)
    for _ in range(120):
        place, bit = int(chance.integers(len(good))), int(chance.integers(8))
        broken = bytearray(good)
        broken[place] ^= 1 << bit
        path.write_bytes(broken)
        try:
            with Store(tmp_path, IDS) as store:
                done = sorted(store.done())
                assert list(store.rows()) == expected_rows(*done), (place, bit)
            outcomes["same"] += 1
        except (BadData, ConfigError, CannotWrite):
            outcomes["refused"] += 1
        for beside in tmp_path.glob("store.sqlite-*"):
            beside.unlink()
    assert min(outcomes.values()) > 0
    assert sum(outcomes.values()) == 120


def test_another_programs_database_is_neither_used_nor_removed(tmp_path):
    for name in ("store.sqlite", "store.rank1.sqlite"):
        with sqlite3.connect(tmp_path / name) as other:
            other.execute("CREATE TABLE scores (holiday TEXT)")
        other.close()
    before = [(tmp_path / name).read_bytes() for name in ("store.sqlite", "store.rank1.sqlite")]
    with pytest.raises(BadData, match="another program's database and stays as it is"):
        Store(tmp_path, IDS).done()
    (tmp_path / "store.sqlite").rename(tmp_path / "aside")
    with pytest.raises(BadData, match=r"rank1.* another program's database"):
        Store(tmp_path, IDS).absorb()
    after = [(tmp_path / name).read_bytes() for name in ("aside", "store.rank1.sqlite")]
    assert before == after


def test_a_store_of_another_layout_is_named(tmp_path):
    with Store(tmp_path, IDS) as store:
        store.commit(scored(0))
        store._open.execute("PRAGMA user_version = 99")
    with pytest.raises(BadData, match="written by another version of var_exp"):
        Store(tmp_path, IDS).done()


def test_a_store_of_other_data_is_refused(tmp_path):
    with Store(tmp_path, IDS) as store:
        store.commit(scored(0))
    with pytest.raises(BadData, match="'sample 0' is none of these data"):
        Store(tmp_path, ["another", *IDS]).done()


def test_what_sqlite_cannot_keep_has_the_checksum_of_what_it_gives_back(tmp_path):
    odd = [Row(IDS[0], 0, "m", named("var"), value) for value in (-0.0, math.nan, math.inf, 1e-320)]
    with Store(tmp_path, IDS) as store:
        store.commit(BatchScores(IDS[:1], odd))
    with Store(tmp_path, IDS) as store:
        zero, undefined, infinite, tiny = (row.score for row in store.rows())
    assert (zero, infinite, tiny) == (0.0, math.inf, 1e-320)
    assert math.isnan(undefined)
