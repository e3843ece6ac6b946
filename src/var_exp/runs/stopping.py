"""A run that is told to stop stops whole: Ctrl-C, and SIGTERM to any of several processes.

Lightning answers SIGTERM with a collective that the other processes know nothing of, so it waits
for ever. Here a process that is told to stop says so in the key-value store that the processes have
met in; each looks there after each batch, and while it waits for the others at the end.

The first process answers Ctrl-C, also for those that it started: Lightning would have it killed
when one of them has ended before it.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from subprocess import Popen
from types import FrameType
from typing import Any, NoReturn

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import distributed
from torch.utils.data import get_worker_info

from var_exp.interruption import INTERRUPTED, on_ctrl_c
from var_exp.runs.config import STARTED_BY, TERMINATED, USAGE_ERROR

_STOP, _READY = "var_exp/stop", "var_exp/ready"
_LOOK_SECONDS = 0.2


class Interrupted(SystemExit):
    """Ctrl-C; no KeyboardInterrupt, of which Lightning makes exit status 1."""


@contextmanager
def interruptible(told: str = "") -> Iterator[None]:
    """Within, Ctrl-C raises `Interrupted`, and only once; what is told then, on one line."""
    try:
        with on_ctrl_c(_interrupt):
            yield
    except Interrupted:
        if told:
            rank_zero_only(print)(told, file=sys.stderr)
        raise


class Stopping(Callback):
    """Ends the test loop of every process after the batch at work when one of them is told to."""

    def __init__(self) -> None:
        self._told = False
        self._original: Any = None
        self._others: list[Popen[bytes]] = []  # that this process started

    @contextmanager
    def listening(self, trainer: Trainer) -> Iterator[None]:
        """Answer signals in our way, and put things back in the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._original = signal.getsignal(signal.SIGTERM)
        launcher: Any = trainer.strategy.launcher
        if start := getattr(launcher, "_call_children_scripts", None):
            launcher._call_children_scripts = partial(self._start, launcher, start)
        if trainer.world_size > 1:
            threading.Thread(target=self._watch, args=(trainer,), daemon=True).start()
        try:
            with interruptible():
                yield
        finally:
            signal.signal(signal.SIGTERM, self._original)
            self._original = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place of Lightning's handler."""
        if self._original is not None:
            signal.signal(signal.SIGTERM, self._note)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """End the processes that this one started, before Lightning takes the network down."""
        if isinstance(exception, Interrupted):
            others, self._others = self._others, []  # `_watch` is to see nothing
            _kill(others)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop, if any process was told to and there is anything left to do.

        Raises:
            SIGTERMException: it was.
        """
        last = batch_idx + 1 == len(trainer.test_dataloaders)  # type: ignore[arg-type]  # one
        if self._asked(trainer) and not (last and trainer.world_size == 1):
            raise SIGTERMException

    def run(self, trainer: Trainer, test: Callable[[], object]) -> None:
        """Run the test loop, and wait until all processes have ended theirs.

        Raises:
            SIGTERMException: one of them was told to stop; in all of them.
            Interrupted: Ctrl-C.
        """
        stopped = False
        with self.listening(trainer):
            try:
                test()
            except SIGTERMException:
                stopped = True
                self._told = True
            if trainer.world_size > 1:
                stopped = self._meet(trainer)
        if stopped:
            raise SIGTERMException

    def _meet(self, trainer: Trainer) -> bool:
        """Wait for the others; whether all are to stop, which the first one decides."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._note)  # Lightning has put its predecessor back
        with _store() as store:
            store.add(_READY, 1)
            while store.add(_READY, 0) < trainer.world_size:
                self._asked(trainer)  # tells the others when this one is told while it waits
                time.sleep(_LOOK_SECONDS)
        stop: bool = trainer.strategy.broadcast(self._asked(trainer))
        return stop

    def _asked(self, trainer: Trainer) -> bool:
        if trainer.world_size == 1:
            return self._told
        with _store() as store:
            if self._told:
                store.set(_STOP, "1")
            return self._told or store.check([_STOP])

    def _start(self, launcher: Any, start: Callable[[], None]) -> None:
        """Start the other processes such that Ctrl-C does not reach them, from their first line."""
        os.environ[STARTED_BY] = str(os.getpid())
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which they inherit
        try:
            start()
        finally:
            self._others, launcher.procs = launcher.procs, []  # watched here alone
            del os.environ[STARTED_BY]
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _watch(self, trainer: Trainer) -> None:
        """End this process when the one that started it has ended, or one that it started fails.

        Before the loop begins, and where a process is killed at once, nobody else would tell: the
        others would wait in a collective for half an hour.
        """
        external = trainer.strategy.cluster_environment.creates_processes_externally  # type: ignore[attr-defined]
        parent = None if external or trainer.local_rank == 0 else int(os.environ[STARTED_BY])
        while True:
            time.sleep(_LOOK_SECONDS)
            if parent is not None and os.getppid() != parent:
                _end()
            ends = {process.poll() for process in self._others} - {None, 0, TERMINATED}
            if not ends:
                continue
            _kill(self._others)
            if ends <= {-signal.SIGTERM, -signal.SIGKILL}:
                print(
                    "error: a process of this run was ended; what is done is kept, and the same "
                    "command goes on.",
                    file=sys.stderr,
                    flush=True,
                )
                _end()
            _end(USAGE_ERROR if USAGE_ERROR in ends else 1)  # it has said why

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._told = True


def _interrupt(number: int, frame: FrameType | None) -> None:
    if get_worker_info() is not None:  # a reader of pictures has this from the one that it serves
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough
    raise Interrupted(INTERRUPTED)


@contextmanager
def _store() -> Iterator[Any]:
    """Where the processes of a run have met; without the first, which keeps it, this one ends."""
    try:
        yield distributed.distributed_c10d._get_default_store()
    except distributed.DistError:
        _end()


def _kill(processes: Sequence[Popen[bytes]]) -> None:
    """End processes at once; their batches are kept."""
    for process in processes:
        process.kill()
        process.wait()


def _end(status: int = TERMINATED) -> NoReturn:
    if sys.stdout is not None:
        sys.stdout.flush()
    os._exit(status)  # the main thread may wait in a collective, where no exception reaches it
