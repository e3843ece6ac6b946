"""Memory that a program keeps when it is freed, for what it allocates next."""

import ctypes
import os
import sys

# Of <malloc.h>: how many blocks may have a mapping of their own, and how much free memory at the
# end of the heap is given back.
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1
_NEVER = -1


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, on Linux with glibc; True where that was done.

    Otherwise every block above 32 MiB goes back to the operating system as soon as it is freed, and
    the next one comes with each of its pages cleared anew: where the activations of a batch are
    that large, this can take longer than the layers compute. What is kept in pieces that nothing
    fits into adds up to a tenth to the peak (docs/speed.md).

    It concerns the whole process, so commands do it and functions do not. Whoever has tuned glibc's
    `malloc` by the environment (`MALLOC_…`, `GLIBC_TUNABLES`) is not overruled.
    """
    tuned = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if sys.platform != "linux" or tuned:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
