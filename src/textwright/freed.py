"""What becomes of memory that this process has freed."""

from __future__ import annotations

import ctypes
from functools import cache
from platform import libc_ver

# Of glibc's malloc.h: the option, and its value in bytes.
TRIM_THRESHOLD = (-1, 1 << 30)  # free memory at the end of the heap that goes back to the system
MMAP_THRESHOLD = (-3, 1 << 25)  # size of a block that the system gives by itself, and gets back


@cache
def keep_freed_memory() -> None:
    """Let this process keep up to 1 GB that it has freed, as it will soon ask for it again.

    glibc gives it back by itself, and then each step of a training, or each token that is written,
    waits for thousands of pages: 8 to 13 % of a small GPT's training, a third of the time in which
    a mixture writes 32 texts together. Without effect elsewhere.
    """
    if libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in (TRIM_THRESHOLD, MMAP_THRESHOLD):
            libc.mallopt(option, value)
