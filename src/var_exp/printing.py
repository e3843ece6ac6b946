"""What a command prints goes to whoever reads it.

A reader may go away (`| head -1`), and a terminal may know fewer characters than we write.
"""

import io
import logging
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def printing() -> Iterator[None]:
    """Within, a reader that goes away ends the program quietly, with exit code 1.

    A character that the output cannot show is written as "?".
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # standard error escapes them anyway
    before, logging.raiseExceptions = logging.raiseExceptions, False  # one traceback for each line
    try:
        try:
            yield
        finally:
            logging.raiseExceptions = before
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        if not any(map(_is_unread, (1, 2))):
            raise  # another pipe
        nowhere = os.open(os.devnull, os.O_WRONLY)  # takes what is left
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        sys.exit(1)


def _is_unread(stream: int) -> bool:
    """Whether a pipe has lost its reader."""
    ask = select.poll()
    ask.register(stream, 0)
    return any(event & select.POLLERR for _, event in ask.poll(0))
