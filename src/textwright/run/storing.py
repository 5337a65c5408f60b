"""Errors with the files of a run, as sentences."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from textwright.errors import RunError
from textwright.files import write_text

CHECKSUMS = "checksums.json"


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Raise RunError if the disk is full or the folder cannot be written."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        full = full or "code: 28" in str(error)  # how safetensors reports ENOSPC
        reason = "the disk is full" if full else getattr(error, "strerror", None) or str(error)
        raise RunError(
            f"Cannot write to {folder}: {reason}; what was saved before is intact, and --resume "
            "continues from there."
        ) from None


def damaged(path: Path, error: Exception | str) -> RunError:
    """The error for a file that is not as it was written."""
    remedy = "train again"
    if "checkpoints" in path.parts:
        remedy = f"delete the folder {path.parent} and resume from the checkpoint before it"
    elif path.name == "model.safetensors":
        remedy = "write it again from the best checkpoint with train --resume"
    return RunError(f"{path} is damaged ({error}); restore it from a copy, or {remedy}.")


def record_checksum(path: Path) -> None:
    """Keep the sha256 of a finished file in the folder's checksums.json."""
    sums = _checksums(path.parent)
    sums[path.name] = _sha256(path)
    write_text(path.parent / CHECKSUMS, json.dumps(sums, indent=1) + "\n")


def check_unchanged(path: Path) -> None:
    """Raise RunError if a file differs from what `record_checksum` kept of it."""
    kept = _checksums(path.parent).get(path.name)
    if kept and kept != _sha256(path):
        raise damaged(path, f"its content is not what {CHECKSUMS} records")


def _checksums(folder: Path) -> dict[str, str]:
    file = folder / CHECKSUMS
    if not file.exists():  # a run of format version 1
        return {}
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"{file} is damaged ({error}); restore it from a copy, or delete it: the files are "
            "then used without a check."
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
