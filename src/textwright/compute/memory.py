"""Memory that runs out, as one kind of error on every device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
