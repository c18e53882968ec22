"""Memory of a process that computes the same shapes again and again."""

import ctypes
import os
import sys

# of mallopt(3)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**30  # bytes that are still kept in one piece


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, for the next step; return whether it does.

    glibc gives large blocks back to the kernel at once, which must find and clear their pages anew in
    each step: a fifth of a small network's training on a CPU. The peak stays what it is; between
    steps the process holds it. Without glibc, and where the environment sets these limits, nothing
    is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    if {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} & os.environ.keys():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    kept = mallopt(M_MMAP_THRESHOLD, LARGEST)
    return bool(kept and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
