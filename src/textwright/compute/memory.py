"""The memory of the machine: how much is free, and one kind of error where it runs out."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from platform import libc_ver

import torch

# Of glibc's malloc.h: the option, and its value in bytes.
TRIM_THRESHOLD = (-1, 1 << 30)  # free memory at the end of the heap that goes back to the system
MMAP_THRESHOLD = (-3, 1 << 25)  # size of a block that the system gives by itself, and gets back

CONTAINER = Path("/sys/fs/cgroup")  # folder of a container's limits (cgroup 2)


def keep_freed_memory() -> None:
    """Let this process keep up to 1 GB that it has freed, as it will soon ask for it again.

    glibc gives it back by itself, and every step of a training then waits for thousands of pages: 8
    to 13 % of a small GPT's time. Without effect elsewhere.
    """
    if libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in (TRIM_THRESHOLD, MMAP_THRESHOLD):
            libc.mallopt(option, value)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise MemoryError if torch runs out of memory. Also used as a decorator."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is a subclass
        # The processor's allocator and mps raise a plain RuntimeError.
        full = "DefaultCPUAllocator" in str(error) or "out of memory" in str(error)
        if full or isinstance(error, torch.OutOfMemoryError):
            raise MemoryError(str(error)) from error
        raise


def free_memory() -> int | None:
    """Bytes that the system, or the container, could still give; None if unknown (other than on
    Linux)."""
    free = []
    with suppress(OSError):
        if available := re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text()):
            free.append(int(available[1]) * 1024)
    with suppress(OSError, ValueError):  # no container, or "max": no limit
        limit = int((CONTAINER / "memory.max").read_text())
        given_back = re.search(
            r"^inactive_file (\d+)", (CONTAINER / "memory.stat").read_text(), re.M
        )
        cached = int(given_back[1]) if given_back else 0
        free.append(limit - int((CONTAINER / "memory.current").read_text()) + cached)
    return min(free, default=None)
