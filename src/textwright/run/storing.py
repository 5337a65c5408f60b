"""Errors with the files of a run, as sentences."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from textwright.errors import RunError
from textwright.files import hash_file, hash_json, write_text

CHECKSUMS = "checksums.json"
STEP = re.compile(r"step-\d+")
FROM_CORPUS = ("heldout.jsonl.gz", "train_hashes.bin")


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Raise RunError if the disk is full or the folder cannot be written."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        full = full or "code: 28" in str(error)  # how safetensors reports ENOSPC
        reason = "the disk is full" if full else getattr(error, "strerror", None) or str(error)
        remedy = "name another folder, or train again when this can be written to"
        if (folder / "config.toml").exists():
            remedy = "what was saved before is intact, and --resume continues from there"
        raise RunError(f"Cannot write to {folder}: {reason}; {remedy}.") from None


def damaged(path: Path, error: Exception | str) -> RunError:
    """The error for a file that is not as it was written, or that cannot be read."""
    if isinstance(error, PermissionError):
        return RunError(f"Cannot read {path}: {error.strerror}; change its permissions.")
    remedy = "train again"
    if path.parent.parent.name == "checkpoints" and STEP.fullmatch(path.parent.name):
        remedy = f"delete the folder {path.parent} and resume without it"
    elif path.name in FROM_CORPUS:
        remedy = "write it again from the corpus with train --resume"
    elif path.name == "mixture.json":
        remedy = "fit it again with train --resume"
    elif path.name == "model.safetensors":
        remedy = "write it again from the best checkpoint with train --resume"
    return RunError(f"{path} is damaged ({error}); restore it from a copy, or {remedy}.")


def record_checksum(path: Path) -> None:
    """Keep the sha256 of a finished file in the folder's checksums.json."""
    sums = _checksums(path.parent)
    sums[path.name] = _sha256(path)
    text = json.dumps({**sums, CHECKSUMS: hash_json(sums)}, indent=1, sort_keys=True)
    write_text(path.parent / CHECKSUMS, text + "\n")


def check_unchanged(path: Path) -> None:
    """Raise RunError if a file differs from what `record_checksum` kept of it."""
    if not is_unchanged(path):
        raise damaged(path, f"its content is not what {CHECKSUMS} records")


def is_unchanged(path: Path) -> bool:
    """Whether a file is what `record_checksum` kept of it, if it did."""
    kept = _checksums(path.parent).get(path.name)
    return not kept or kept == _sha256(path)


def has_checksum(path: Path) -> bool:
    """Whether `record_checksum` kept anything of this file."""
    return path.name in _checksums(path.parent)


def _checksums(folder: Path) -> dict[str, str]:
    file = folder / CHECKSUMS
    if not file.exists():  # a run of format version 1
        return {}
    try:
        sums = dict(json.loads(file.read_text("utf-8")))
        if sums.pop(CHECKSUMS, None) != hash_json(sums):
            raise ValueError("its own checksum is another")
        return sums
    except PermissionError as error:
        raise damaged(file, error) from None
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"{file} is damaged ({error}); restore it from a copy, or delete it: the files are "
            "then used without a check."
        ) from None


def _sha256(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        raise damaged(path, error) from None
