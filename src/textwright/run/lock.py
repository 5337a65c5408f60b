"""One training at a time in a run folder."""

from __future__ import annotations

import errno
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from textwright.errors import RunError
from textwright.run.storing import storing

LOCK = ".lock"
HOLDER = ".lock-holder"
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # what such a file system answers


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises RunError at once if another training holds it.

    The system drops the lock when the process ends, however it ends. Across hosts it holds if their
    shared file system supports flock; on a file system without it, nothing is locked.
    """
    with storing(folder):
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
        holder = folder / HOLDER
        try:
            with warnings.catch_warnings(action="ignore"):  # that it turns to its other kind
                lock.acquire()
        except Timeout:
            raise RunError(
                f"{folder} is being trained by {_read(holder)}; wait until that ends, or name "
                "another --out."
            ) from None
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise
        else:
            if type(lock) is not FileLock:  # filelock's other kind does not die with its process
                lock.release()
            with suppress(OSError):  # a disk without room is reported by what needs it
                holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", "utf-8")
    try:
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()
        # The lock's file stays: a training that waits to open it must find the same one.
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == [LOCK]:  # the training made no run
                (folder / LOCK).unlink(missing_ok=True)
                for path in made:
                    path.rmdir()


def check_idle(folder: Path) -> None:
    """Raise RunError while a training holds the folder's lock. Nothing is written."""
    if not (folder / LOCK).exists():
        return
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        with warnings.catch_warnings(action="ignore"):
            lock.acquire()
    except Timeout:
        raise RunError(
            f"{folder} is being trained by {_read(folder / HOLDER)}; wait until that ends."
        ) from None
    except (NotImplementedError, OSError):  # nobody can train where nothing can be locked
        return
    lock.release()


def _read(holder: Path) -> str:
    try:
        return holder.read_text("utf-8", "replace") or "another process"
    except OSError:
        return "another process"
