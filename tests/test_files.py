import os
from pathlib import Path

import pytest

from var_exp.files import no_file, whole_file, write_whole


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "table.csv"
    with whole_file(path) as file:
        file.write("one\r\n")
        assert not path.exists()
    assert path.read_bytes() == b"one\r\n"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    write_whole(path, "old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:  # noqa: PT012
        file.write("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """Else a power cut leaves an empty file of that name."""
    path, seen = tmp_path / "table.csv", []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(descriptor):
        seen.append(("fsync", os.fstat(descriptor).st_size, os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def watched_replace(draft, target):
        seen.append(("replace", draft.stat().st_size, draft.stat().st_ino))
        return replace(draft, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    write_whole(path, "x" * 10_000)
    own = path.stat().st_ino
    assert seen == [("fsync", 10_000, own), ("replace", 10_000, own)]


def test_what_is_no_file_is_called_what_it_is(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    assert no_file(tmp_path / "file") is None
    assert no_file(tmp_path / "none") == "it does not exist"
    assert no_file(tmp_path) == "it is a folder"
    for device in (tmp_path / "pipe", Path(os.devnull)):
        assert no_file(device) == "it is a device or a pipe, no file"
