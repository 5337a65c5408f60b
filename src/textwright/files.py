"""Writing files so that a crash leaves either the old file or the new one, never half of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` for a file or folder, which then replaces `path`.

    Its content is on the disk before it gets its name, and the name is on the disk when this
    returns. After an exception `path` is as it was. Only one process may replace a path at a time.
    """
    beside = path.with_name(f".{path.name}.part")
    old = path.with_name(f".{path.name}.old")
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
    _remove(beside)
    _remove(old)
    try:
        yield beside
        sync_tree(beside)
        if path.is_dir():  # a rename cannot replace a folder that holds files
            os.replace(path, old)
        os.replace(beside, path)
        sync(path.parent)
    finally:
        _remove(beside)
        _remove(old)


def write_text(path: Path, text: str) -> None:
    """Replace a file's text, in UTF-8."""
    with replacing(path) as beside:
        beside.write_text(text, "utf-8")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def sync_tree(path: Path) -> None:
    """Wait until a file, or a folder and all in it, is on the disk."""
    if path.is_dir():
        for inside in sorted(path.rglob("*")):
            sync(inside)
    sync(path)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
