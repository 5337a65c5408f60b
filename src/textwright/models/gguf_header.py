"""The header of a GGUF file (versions 2 and 3): metadata by key, and the place of each tensor.

    "GGUF"  version  number of tensors  number of keys
    key, type, value …  name, shape, type, place …  padding  numbers of all tensors

The reader in the `gguf` package makes several arrays of each token and merge: 2.5 s and 160 MB for
the 49,152 tokens of SmolLM2, which are read here in 0.1 s.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  # bytes, unless general.alignment sets it
TEXT, ARRAY = 8, 9
NUMBERS = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies. shape: as of a NumPy array · kind: how its numbers are stored, by GGML's
    name (F32, Q4_1) · start, size: in bytes."""

    shape: tuple[int, ...]
    kind: str
    start: int
    size: int


@dataclass(frozen=True)
class Header:
    """All of a GGUF file but its numbers."""

    path: Path
    values: dict[str, Any]
    tensors: dict[str, StoredTensor]

    def read(self, name: str) -> np.ndarray:
        """One tensor, float32. Raises KeyError if the file lacks it."""
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        tensor = self.tensors[name]
        stored = np.fromfile(self.path, np.uint8, tensor.size, offset=tensor.start)
        rows = stored.reshape(prod(tensor.shape[:-1]), -1)
        numbers = dequantize(rows, GGMLQuantizationType[tensor.kind])
        return np.asarray(numbers, np.float32).reshape(tensor.shape)


def read_header(path: Path) -> Header:
    """Read a file's header alone.

    Raises OSError if it cannot be read, ValueError if it is no GGUF, is damaged or ends early, or
    holds a tensor whose numbers the `gguf` package cannot read.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader = _Reader(data)
            version = reader.number("I")
            if version not in VERSIONS:
                raise ValueError(f"its version is {version}, not {VERSIONS[0]} or {VERSIONS[1]}")
            tensors, keys = reader.number("Q"), reader.number("Q")
            try:
                values = dict(reader.pair() for _ in range(keys))
                places = [reader.place() for _ in range(tensors)]
                alignment = values.get("general.alignment", ALIGNMENT)
                begin = -(-reader.at // alignment) * alignment
            except (UnicodeDecodeError, TypeError, ZeroDivisionError):
                raise ValueError("it is damaged") from None
            return Header(path, values, _stored(places, begin, len(data)))


class _Reader:
    """Reads the header's parts, one after another."""

    def __init__(self, data: mmap.mmap):
        self.data, self.at = data, len(MAGIC)

    def number(self, kind: str) -> Any:
        return self._numbers(kind, 1)[0]

    def text(self) -> str:
        length = self.number("Q")
        return self._take(length).decode()

    def pair(self) -> tuple[str, Any]:
        key = self.text()
        return key, self._value(self.number("I"))

    def place(self) -> tuple[str, tuple[int, ...], int, int]:
        """A tensor's name, shape, kind and place after the header."""
        name, dimensions = self.text(), self.number("I")
        shape = self._numbers("Q", dimensions)[::-1]  # GGUF names the fastest dimension first
        return name, shape, self.number("I"), self.number("Q")

    def _value(self, kind: int) -> Any:
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == TEXT:
            return self.text()
        if kind == ARRAY:
            kind, count = self.number("I"), self.number("Q")
            if kind in NUMBERS:
                return list(self._numbers(NUMBERS[kind], count))
            if kind == TEXT:
                return [self.text() for _ in range(count)]
        raise ValueError("it is damaged, or written by a newer program")

    def _numbers(self, kind: str, count: int) -> tuple[Any, ...]:
        size = struct.calcsize(f"<{kind}")
        return struct.unpack(f"<{count}{kind}", self._take(count * size))

    def _take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        if len(taken) < count:
            raise ValueError("it ends early, as after a download that broke off")
        self.at += count
        return taken


def _stored(
    places: list[tuple[str, tuple[int, ...], int, int]], begin: int, end: int
) -> dict[str, StoredTensor]:
    """The tensors by name. begin, end: of all numbers, in bytes."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    found: dict[str, StoredTensor] = {}
    readable = set()
    for name, shape, number, place in places:
        try:
            kind = GGMLQuantizationType(number)
            block, size = GGML_QUANT_SIZES[kind]  # numbers in a block, and its bytes
            if kind not in readable:
                dequantize(np.zeros((1, size), np.uint8), kind)
                readable.add(kind)
        except (ValueError, KeyError):
            raise ValueError(f"the numbers of its {name} are of unknown kind {number}") from None
        except NotImplementedError:
            raise ValueError(
                f"its {name} is stored as {kind.name}, which cannot be read here"
            ) from None
        if not shape or shape[-1] % block:
            raise ValueError(f"its {name} has a shape that {kind.name} cannot have")
        total = prod(shape) // block * size
        if begin + place + total > end:
            raise ValueError(f"it ends early, within {name}")
        found[name] = StoredTensor(shape, kind.name, begin + place, total)
    return found
