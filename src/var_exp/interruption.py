"""Ctrl-C ends a command with one line and exit status 130, wherever it falls."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C, as shells have it."""
STOPPED = "stopped; the same command goes on."
"""What is told then, where it is not known how far the work came."""

_AFTER_SECONDS = 0.05


@contextmanager
def on_ctrl_c(
    answer: Callable[[int, FrameType | None], Any] = signal.default_int_handler,
) -> Iterator[None]:
    """Within, `answer` is called on Ctrl-C, and what it raises is not lost.

    Python drops what is raised in a destructor (of a process that has ended, say): the command
    would go on as if it had not been told to stop. Ctrl-C is then sent once more, after it. And a
    package that tidies up on the way may fail at it (OmegaConf does, of a half-made list), so that
    its error takes the place of what was raised, which is then raised again.

    Where Ctrl-C is not for this process (begun with `&` or `nohup`), it stays so.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    before, dropped = signal.signal(signal.SIGINT, answer), sys.unraisablehook

    def once_more(ignored: "sys.UnraisableHookArgs") -> None:
        here = threading.current_thread() is threading.main_thread()
        if not (here and isinstance(ignored.exc_value, KeyboardInterrupt | SystemExit)):
            dropped(ignored)
            return
        signal.signal(signal.SIGINT, answer)  # which may have seen to it that it is called once
        to_main = (threading.main_thread().ident, signal.SIGINT)
        threading.Timer(_AFTER_SECONDS, signal.pthread_kill, to_main).start()

    sys.unraisablehook = once_more
    default = answer is signal.default_int_handler
    try:
        yield
    except Exception as error:
        hidden = _behind(error, KeyboardInterrupt if default else (KeyboardInterrupt, SystemExit))
        if hidden is None:
            raise
        raise hidden from None
    finally:
        sys.unraisablehook = dropped
        signal.signal(signal.SIGINT, before)


def _behind(
    error: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]
) -> BaseException | None:
    """What an error came up in the handling of, if that is of these kinds."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, kinds):
        found = found.__context__
    return found
