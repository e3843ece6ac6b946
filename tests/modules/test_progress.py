"""What a person at a terminal and the reader of a log file see of a run that goes on."""

import io
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from var_exp.modules.progress import SampleProgress
from var_exp.types import Batch


def batches(*sizes):
    """What one step takes: batches of these many samples."""
    return tuple(
        Batch(torch.zeros(n, 3, 1, 1), torch.zeros(n, 1, dtype=torch.int64), None, ("id",) * n)
        for n in sizes
    )


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("var_exp.modules.progress.time.monotonic", lambda: now[0])
    return now


def trainer_of(world_size=1, rank=0):
    loader = SimpleNamespace(batch_sampler=[[0, 1, 2], [5, 6, 7], [9, 10]])
    return SimpleNamespace(is_global_zero=rank == 0, world_size=world_size, test_dataloaders=loader)


def test_a_log_file_gets_a_line_a_minute(clock):
    out = io.StringIO()
    bar, trainer = SampleProgress(Console(file=out, force_terminal=False)), trainer_of()
    bar.on_test_start(trainer, None)
    clock[0] += 30
    bar.on_test_batch_end(trainer, None, None, batches(2, 1), 0)
    assert out.getvalue() == ""
    clock[0] += 30
    bar.on_test_batch_end(trainer, None, None, batches(3), 1)
    bar.on_test_end(trainer, None)
    assert out.getvalue() == "6 of 8 samples, 0.1 samples/s, time left 0:00:20\n"


def test_a_terminal_gets_a_bar_that_fits_80_columns():
    out = io.StringIO()
    bar, trainer = SampleProgress(Console(file=out, force_terminal=True, width=80)), trainer_of(2)
    bar.on_test_start(trainer, None)
    bar.on_test_batch_end(trainer, None, None, batches(8), 0)
    bar.on_test_end(trainer, None)
    assert "samples of process 1 of 2" in out.getvalue()
    assert "8/8" in out.getvalue()
    assert "left" in out.getvalue()
    assert "\x1b[?25h" in out.getvalue()  # the cursor is back


def test_an_error_gives_the_terminal_back():
    out = io.StringIO()
    bar, trainer = SampleProgress(Console(file=out, force_terminal=True, width=80)), trainer_of()
    bar.on_test_start(trainer, None)
    bar.on_exception(trainer, None, RuntimeError())
    assert "\x1b[?25h" in out.getvalue()


def test_other_processes_are_silent(clock):
    out = io.StringIO()
    bar, trainer = SampleProgress(Console(file=out, force_terminal=True)), trainer_of(2, rank=1)
    bar.on_test_start(trainer, None)
    bar.on_test_batch_end(trainer, None, None, batches(3), 0)
    bar.on_test_end(trainer, None)
    assert out.getvalue() == ""
