"""The memory of the machine: how much is free, and one kind of error where it runs out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

CONTAINER = Path("/sys/fs/cgroup")  # folder of a container's limits (cgroup 2)


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


def give_back(device: torch.device) -> None:
    """Free what torch keeps of a device's memory for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


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
