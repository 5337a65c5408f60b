"""What lets a command begin sooner: bytecode that is kept, imports without interruption."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from textwright.files import BYTECODE, cache_folder


def keep_bytecode() -> None:
    """Let Python keep compiled modules in the cache where every start would compile torch anew.

    That is where torch was not compiled when it was installed, and Python may write nothing beside
    it: container images set PYTHONDONTWRITEBYTECODE so that sources stay without litter, or the
    folder is another user's. The cache is the user's own and holds encoded corpora too. Python
    passes over one that cannot be written.
    """
    torch = None if "torch" in sys.modules else importlib.util.find_spec("torch")
    if torch is None or torch.origin is None or torch.cached is None:
        return
    if os.path.exists(torch.cached):
        return
    writable = sys.pycache_prefix or os.access(os.path.dirname(torch.origin), os.W_OK)
    if sys.dont_write_bytecode or not writable:
        sys.pycache_prefix = str(cache_folder() / BYTECODE)
        sys.dont_write_bytecode = False


@contextmanager
def importing() -> Iterator[None]:
    """Import modules without collecting garbage in between: they leave hardly any, and looking for
    it takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
