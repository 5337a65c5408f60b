"""The cache of encoded corpora, a folder that any number of processes may share.

    <corpus>-<tokenizer>-<version>/   an encoded corpus, whole: it was renamed to this name
    building-…/                       one being encoded, or removed, under a lock of its own
    bytecode/                         Python's compiled modules, see cli/starting.py
    results/                          parts of long work, see evaluation/kept.py

The system drops the lock when its process ends, however it ends. What a killed process left is
therefore recognized by its free lock, and the next one to come removes it.
"""

from __future__ import annotations

import atexit
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from textwright.corpus import Corpus, Part
from textwright.errors import CorpusError
from textwright.files import BYTECODE, RESULTS, cache_folder, sync, sync_tree
from textwright.progress import OnStage, silent
from textwright.tokenizer import Tokenizer
from textwright.training.encoded import (
    META,
    DamagedError,
    Documents,
    open_encoded,
    read_meta,
    write_encoded,
)

ENCODING_VERSION = 3  # raised when the same corpus or tokenizer comes to give other ids
_BUILDING = "building-"
_LOCK = "lock"
_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}-\d+(\.\d+)?")  # version 1 built in NAME.process


@dataclass(frozen=True)
class CachedCorpus:
    """An encoded corpus in the cache. files: names without folders · bytes: on disk · used: when
    it was last opened, in seconds since 1970. What an older version or damaged copy does not
    record is empty or None."""

    folder: Path
    files: list[str]
    documents: int | None
    tokens: int | None
    bytes: int
    used: float

    def to_json(self) -> dict[str, Any]:
        """As `textwright cache --json` prints it; the time in UTC."""
        used = datetime.fromtimestamp(self.used, UTC).isoformat(timespec="seconds")
        return {**asdict(self), "folder": self.folder.name, "used": used}


def encode_corpus(
    corpus: Corpus,
    tokenizer: Tokenizer,
    on_progress: OnStage = silent,
) -> dict[Part, Documents]:
    """Encode each part, or find it in the cache; a damaged copy there is replaced.

    Raises CorpusError where the cache cannot be written.
    """
    remove_abandoned()
    folder = cache_folder() / _name(corpus, tokenizer)
    stage = "Encoding"
    with _using_cache():
        try:
            return _reopen(folder, tokenizer)
        except FileNotFoundError:
            pass
        except DamagedError as error:
            stage = f"Encoding again, because {error.path.name} in the cache is damaged"
        with _new_build() as build:
            encoded = build / folder.name
            _encode(corpus, tokenizer, encoded, on_progress, stage)
            sync_tree(encoded)
            _publish(encoded, folder, tokenizer)
        return _reopen(folder, tokenizer)


@contextmanager
def encode_privately(
    corpus: Corpus,
    tokenizer: Tokenizer,
    on_progress: OnStage = silent,
) -> Iterator[Path]:
    """Give a folder for `open_encoded` that is removed at the end, mapped or not.

    An earlier copy in the cache is used as it is, and left there. Raises CorpusError where the
    cache cannot be written.
    """
    remove_abandoned()
    folder = cache_folder() / _name(corpus, tokenizer)
    with ExitStack() as stack:
        with _using_cache():
            try:
                open_encoded(folder, tokenizer)
            except (FileNotFoundError, DamagedError):
                folder = stack.enter_context(_new_build()) / folder.name
                _encode(corpus, tokenizer, folder, on_progress, "Encoding")
        yield folder


def list_cache() -> list[CachedCorpus]:
    """The encoded corpora, the last used first."""
    home = cache_folder()
    found = []
    for name in os.listdir(home) if home.is_dir() else []:
        if _NAME.fullmatch(name):
            with suppress(FileNotFoundError):  # removed just now
                found.append(_describe(home / name))
    return sorted(found, key=lambda corpus: corpus.used, reverse=True)


def measure_results() -> tuple[int, int]:
    """How many parts of long work are kept, and the bytes that they take."""
    folder = cache_folder() / RESULTS
    return len(list(folder.glob("*.gz"))), _size(folder)


def clear_cache() -> int:
    """Remove all encoded corpora, kept results and compiled modules; returns the bytes freed.

    Trainings that use one continue: a mapped file lives until it is unmapped. Where the system
    does not allow that (Windows), that corpus stays.
    """
    freed = remove_abandoned()
    for name in (BYTECODE, RESULTS):
        freed += _size(cache_folder() / name)
        shutil.rmtree(cache_folder() / name, ignore_errors=True)
    for corpus in list_cache():
        # Renamed first, so that half of it is never found.
        with suppress(OSError), _new_build() as build:
            corpus.folder.rename(build / corpus.folder.name)
            freed += corpus.bytes
    return freed


def remove_abandoned() -> int:
    """Remove what killed processes left half built; returns the bytes freed."""
    freed = 0
    for build in cache_folder().glob(f"{_BUILDING}*"):
        with suppress(OSError, NotImplementedError):
            lock = FileLock(build / _LOCK, thread_local=False)
            lock.acquire(blocking=False)
            # Where the file system knows no locks, filelock turns to another kind, which does not
            # die with its process.
            if type(lock) is FileLock:
                size = _size(build)
                if _remove(build, lock):
                    freed += size
    return freed


def _name(corpus: Corpus, tokenizer: Tokenizer) -> str:
    return f"{corpus.fingerprint[:16]}-{tokenizer.fingerprint[:16]}-{ENCODING_VERSION}"


def _reopen(folder: Path, tokenizer: Tokenizer) -> dict[Part, Documents]:
    documents = open_encoded(folder, tokenizer)
    with suppress(OSError):  # the cache may be read-only
        os.utime(folder / META)
    return documents


def _encode(
    corpus: Corpus, tokenizer: Tokenizer, folder: Path, on_progress: OnStage, stage: str
) -> None:
    total, done = corpus.scan().characters, 0
    for characters in write_encoded(corpus, tokenizer, folder):
        done += characters
        on_progress(stage, done, total)


@contextmanager
def _new_build() -> Iterator[Path]:
    """A new folder of this process alone; removed at the end with what is still in it."""
    home = cache_folder()
    home.mkdir(parents=True, exist_ok=True)
    while True:
        build = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=home))
        lock = FileLock(build / _LOCK, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue  # taken for abandoned in the moment before it was locked
        except (OSError, NotImplementedError):
            pass  # a file system without locks, where nothing is taken for abandoned
        with suppress(FileNotFoundError):  # removed, and not made again by filelock
            build.chmod(0o700)
            break
    try:
        yield build
    finally:
        if not _remove(build, lock):  # Windows does not remove what is mapped
            atexit.register(_remove, build, lock)


def _remove(build: Path, lock: BaseFileLock) -> bool:
    """Remove a build and give up its lock; returns whether nothing is left."""
    shutil.rmtree(build, ignore_errors=True)
    if build.is_dir() and {*os.listdir(build)} - {_LOCK}:
        return False
    lock.release()
    with suppress(OSError):  # Windows keeps the folder of a lock that is held
        build.rmdir()
    return True


def _publish(encoded: Path, folder: Path, tokenizer: Tokenizer) -> None:
    """Give an encoded corpus its name, unless another process was faster."""
    for attempt in count():
        try:
            encoded.rename(folder)
            return sync(folder.parent)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        try:
            open_encoded(folder, tokenizer)
            return
        except (FileNotFoundError, DamagedError):
            with suppress(FileNotFoundError):  # another process has moved it away
                folder.rename(encoded.with_name(f"damaged-{attempt}"))


@contextmanager
def _using_cache() -> Iterator[None]:
    """Raise CorpusError if the disk is full or the cache cannot be read or written."""
    try:
        yield
    except OSError as error:
        raise CorpusError(
            f"Cannot keep the encoded corpus in {cache_folder()}: {error.strerror}; free some "
            "space, or name another folder in TEXTWRIGHT_CACHE."
        ) from None


def _describe(folder: Path) -> CachedCorpus:
    size, used = _size(folder), folder.stat().st_mtime
    try:
        meta = read_meta(folder)
        used = (folder / META).stat().st_mtime
    except (OSError, DamagedError):
        meta = {"files": [], "documents": None, "tokens": None}
    return CachedCorpus(folder, meta["files"], meta["documents"], meta["tokens"], size, used)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
