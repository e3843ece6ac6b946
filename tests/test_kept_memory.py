"""Freed memory stays with the process: by the page faults that the operating system counts."""

import os
import subprocess
import sys

import pytest

from var_exp.kept_memory import keep_freed_memory

PAGES = 2**26 // os.sysconf("SC_PAGE_SIZE")
"""Of a block of 64 MiB, twice the size that glibc gives back at once."""
FAULTS = """
import ctypes, resource, sys
from var_exp.kept_memory import keep_freed_memory

kept = keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]

def used():
    block = library.malloc(2**26)
    ctypes.memset(block, 1, 2**26)
    library.free(block)

used()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
used()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or "glibc" not in os.confstr("CS_GNU_LIBC_VERSION"),
    reason="only glibc has these settings",
)


def faults(**tuned: str) -> tuple[str, int]:
    """What it returns, and how many pages come anew with the second block, in a new process."""
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    environment.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env={**environment, **tuned},
        capture_output=True,
        text=True,
        check=True,
    )
    kept, count = done.stdout.split()
    return kept, int(count)


def test_a_block_that_was_freed_is_used_again():
    kept, count = faults()
    assert kept == "True"
    assert count < PAGES / 100


@pytest.mark.parametrize("tuned", [{"MALLOC_ARENA_TEST": "8"}, {"GLIBC_TUNABLES": ""}])
def test_who_has_tuned_it_is_not_overruled(tuned):
    kept, count = faults(**tuned)
    assert kept == "False"
    assert count > faults()[1]


def test_another_c_library_has_nothing_to_set(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert not keep_freed_memory()
