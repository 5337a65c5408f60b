"""Compressors that have read a training text: what a document adds to the compressed text.

The compressor reads all training documents, each ended by a zero byte, and then one held-out
document; the growth of its output is what the document costs. Each document is read after the
training text alone: the state after that is copied by forking the process, so this needs a system
that can fork. Within a document it adapts, as a neural model does in its own way. Where documents
are few, a document is read up to every 1,000th character, and a stretch costs what it adds.
"""

from __future__ import annotations

import lzma
import math
import os
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from textwright.corpus import FEW_DOCUMENTS
from textwright.errors import EvaluationError
from textwright.evaluation.scores import BLOCK_CHARACTERS
from textwright.progress import OnProgress, silent

END = "\0"
MOST_MEMORY = (1 << 32) - 4096  # of PPMd
MOST_WINDOW = 3 << 29  # of xz
_PIECE = 1 << 14


def primed_ppmd(order: int, text: bytes) -> Any:
    """An encoder of PPMd, variant H of 7-Zip, that has read the text. Raises EvaluationError if
    pyppmd (`textwright[report]`) is not installed."""
    try:
        import pyppmd
    except ImportError:
        raise EvaluationError(
            "PPMd needs pyppmd; install it with: pip install 'textwright[report]'"
        ) from None
    # Enough that the model is never thrown away; only what is used is touched.
    encoder = pyppmd.Ppmd7Encoder(order, min(MOST_MEMORY, max(1 << 26, 100 * len(text))))
    encoder.encode(text)
    return encoder


def primed_xz(text: bytes, room: int) -> Any:
    """The coder of `xz -9e` that has read the text, with a window that holds it and `room` bytes
    more; without the container. Raises EvaluationError if no window is so large."""
    preset = 9 | lzma.PRESET_EXTREME
    window = max(1 << 16, len(text) + room)
    if window > MOST_WINDOW:
        raise EvaluationError(
            f"A window of {window:,} bytes would be needed, and {MOST_WINDOW:,} are the most."
        )
    filters = [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": window}]
    compressor = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters)
    # In pieces: of a long text, all that does not fit into a first buffer of output would wait, and
    # be compressed by every copy anew.
    for start in range(0, len(text), _PIECE):
        compressor.compress(text[start : start + _PIECE])
    return compressor


def costs(
    compressor: Any,
    documents: Sequence[str],
    on_progress: OnProgress = silent,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Nats of each stretch of each document, and the stretches' first characters. Progress is in
    stretches."""
    few = len(documents) < FEW_DOCUMENTS
    places = [
        np.arange(0, max(1, len(document)), BLOCK_CHARACTERS if few else len(document) + 1)
        for document in documents
    ]
    nats: list[np.ndarray] = []
    done, total = 0, sum(map(len, places))
    [before] = grown(compressor, [b""])
    for document, starts in zip(documents, places, strict=True):
        ended = document + END
        borders = [*starts.tolist(), len(ended)]
        sizes = [before]
        for size in grown(compressor, [in_bytes(ended[a:b]) for a, b in pairwise(borders)]):
            sizes.append(size)
            done += 1
            on_progress(done, total)
        nats.append(np.diff(sizes) * 8 * math.log(2))
    return nats, places


def grown(compressor: Any, stretches: Sequence[bytes]) -> Iterator[int]:
    """For each stretch, the bytes that come out for all up to it and the end of the code. They are
    read in turn by one copy of the compressor; at each border a copy of that ends the code. Raises
    EvaluationError if the system does not let a copy live, as where memory is short."""
    readable, writable = os.pipe()
    try:
        child = os.fork()
    except OSError as error:
        os.close(readable)
        os.close(writable)
        raise EvaluationError(f"The process cannot be copied: {error.strerror}.") from None
    if not child:
        try:
            os.close(readable)
            read = getattr(compressor, "encode", None) or compressor.compress
            size = 0
            for number, stretch in enumerate(stretches, 1):
                size += len(read(stretch))
                # The last one ends the code itself.
                if number < len(stretches) and (ending := os.fork()):
                    if os.waitpid(ending, 0)[1]:  # nobody reads on
                        break
                else:
                    os.write(writable, struct.pack("q", size + len(compressor.flush())))
                    os._exit(0)
        finally:
            os._exit(1)
    os.close(writable)
    try:
        with os.fdopen(readable, "rb") as pipe:
            for _ in stretches:
                told = pipe.read(8)
                if not told:
                    raise EvaluationError(
                        "A copy of the process was ended, as a system does where memory runs out."
                    )
                yield int(struct.unpack("q", told)[0])
    finally:
        os.waitpid(child, 0)


def in_bytes(text: str) -> bytes:
    """UTF-8."""
    return text.encode("utf-8", "surrogatepass")
