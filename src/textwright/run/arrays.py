"""Arrays in safetensors files, with a checksum that shows damage."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from textwright.run.storing import damaged

Arrays = dict[str, np.ndarray]

CHECKSUM = "crc32"
_TYPES = {"F32": np.float32, "I64": np.int64}  # what the mapped files hold


def save_arrays(arrays: Arrays, path: Path) -> None:
    """Write arrays by name, with a checksum in the file's metadata."""
    path.touch()
    mode = path.stat().st_mode
    save_file(arrays, path, {CHECKSUM: _checksum(arrays)})
    path.chmod(mode)  # safetensors makes the file readable for its owner only


def load_arrays(path: Path) -> Arrays:
    """Read arrays by name. Raises RunError if the file is not as it was written."""
    try:
        arrays = load_file(path)
        with safe_open(path, "np") as opened:
            kept = (opened.metadata() or {}).get(CHECKSUM)
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(path, error) from None
    if kept and kept != _checksum(arrays):
        raise damaged(path, "its numbers are not those that were written")
    return arrays


def map_arrays(path: Path) -> Arrays:
    """The arrays of a file, mapped into memory: only what is used is read. Not checked."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        whole = np.memmap(path, np.uint8, "r")
        return {
            name: whole[slice(*(8 + size + at for at in entry["data_offsets"]))]
            .view(_TYPES[entry["dtype"]])
            .reshape(entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from None


def _checksum(arrays: Arrays) -> str:
    total = 0
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), total)
        total = zlib.crc32(array.reshape(-1).view(np.uint8).data, total)
    return f"{total:08x}"
