"""One setting of the C library that training on a CPU lives by."""

import ctypes
import sys

# mallopt's parameters in glibc's malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8


def keep_heap() -> bool:
    """Keeps freed memory in the process instead of giving it back to the system.

    XLA:CPU allocates a program's temporary buffer anew at every call. glibc maps and
    unmaps large buffers, so every step of training touches fresh pages: for a DiT-S/2
    a quarter of a million page faults a step. With glibc only, and only before the
    first computation; returns whether it was done.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = {
        ARENA_MAX: 1,
        MMAP_MAX: 0,
        TRIM_THRESHOLD: 2**31 - 1,
        TOP_PAD: 2**28,
    }
    return all([mallopt(name, value) for name, value in wanted.items()])
