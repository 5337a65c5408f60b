"""Writing files so that a crash leaves either the old file or the new one, never half of one; and
the folder of what may be written again at any time, the cache."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# Folders in the cache: what cli/starting.py lets Python compile, and what evaluation/kept.py keeps.
BYTECODE, RESULTS = "bytecode", "results"
UNFINISHED = ".textwright.part"  # in a folder that is being filled


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write a file or folder to, which then takes the name `path`.

    It lies in a folder of its own beside `path`, where a library that is killed leaves its own
    temporary files too. What was written is on the disk before it gets its name, and the name is on
    the disk when this returns. After an exception `path` is as it was. Only one process may replace
    a path at a time. Raises IsADirectoryError where a file was written and `path` is a folder.
    """
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
    settle(path)
    written = _beside(path) / path.name
    try:
        written.parent.mkdir()
        yield written
        sync_tree(written)
        if path.is_dir():  # a rename cannot replace a folder that holds files
            if not written.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            os.replace(path, _old(path))
        os.replace(written, path)
        sync(path.parent)
    finally:
        settle(path)


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Give a new folder to write to, whose content then stands in `folder`, which is new or empty.

    An empty one stays itself, since it may be the current folder, a mount or the end of a link.
    What was written is on the disk before any of it is moved there. After an exception `folder` is
    as it was, but for what a kill had left.
    """
    if not folder.exists():
        with replacing(folder) as written:
            written.mkdir()
            yield written
        return
    inside = folder / UNFINISHED  # in it, since only what is in a mount can be renamed into it
    written = inside / "files"
    names: list[str] = []
    try:
        _remove(inside)
        written.mkdir(parents=True)
        yield written
        sync_tree(written)
        names = [path.name for path in written.iterdir()]
        for name in names:
            os.replace(written / name, folder / name)
        sync(folder)
    except BaseException:
        for name in names:
            _remove(folder / name)
        raise
    finally:
        _remove(inside)


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, but for what a killed `filling` left."""
    return all(path.name == UNFINISHED for path in folder.iterdir())


def settle(path: Path) -> None:
    """End a replacement that was killed: remove what it left; a folder that had only lost its name
    gets it back."""
    beside, old = _beside(path), _old(path)
    with suppress(OSError):
        if old.exists() and not path.exists():
            os.replace(old, path)
    _remove(beside)
    if path.exists():
        _remove(old)


def remove_folder(folder: Path) -> None:
    """Delete a folder. If this is interrupted, `settle` deletes what is left."""
    with suppress(OSError):
        folder.rename(_beside(folder))
    _remove(_beside(folder))


def write_text(path: Path, text: str) -> None:
    """Replace a file's text, in UTF-8."""
    with replacing(path) as beside:
        beside.write_text(text, "utf-8")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


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


def from_home(name: str | Path) -> Path:
    """The path with ~ as the home that it names; a ~ that is nobody's stays."""
    return Path(os.path.expanduser(name))


def holds_run(folder: Path) -> bool:
    """Whether the config of a run stands in the folder."""
    config = folder / "config.toml"
    return config.is_file() and b"format_version" in config.read_bytes()


def hash_file(path: Path) -> str:
    """The sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """The sha256 of a value as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def cache_folder() -> Path:
    """The folder of the cache: TEXTWRIGHT_CACHE, else in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TEXTWRIGHT_CACHE") or Path(base) / "textwright")
