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
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from textwright.corpus import FEW_DOCUMENTS
from textwright.errors import EvaluationError
from textwright.evaluation.scores import BLOCK_CHARACTERS

END = "\0"
MOST_MEMORY = (1 << 32) - 4096
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
    more; without the container."""
    preset = 9 | lzma.PRESET_EXTREME
    window = max(1 << 16, len(text) + room)
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
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Nats of each stretch of each document, and the stretches' first characters."""
    nats, places = [], []
    before = grown(compressor, b"")
    for done, document in enumerate(documents):
        on_progress(done, len(documents))
        step = BLOCK_CHARACTERS if len(documents) < FEW_DOCUMENTS else len(document) + 1
        starts = np.arange(0, max(1, len(document)), step)
        ends = [*starts[1:], len(document) + 1]
        sizes = [before, *(grown(compressor, in_bytes((document + END)[:end])) for end in ends)]
        nats.append(np.diff(sizes) * 8 * math.log(2))
        places.append(starts)
    return nats, places


def grown(compressor: Any, data: bytes) -> int:
    """Bytes that come out for `data` and the end of the code, in a copy of the compressor."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        try:
            read = getattr(compressor, "encode", None) or compressor.compress
            size = len(read(data)) + len(compressor.flush())
            os.write(writable, struct.pack("q", size))
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return int(struct.unpack("q", answer)[0])


def in_bytes(text: str) -> bytes:
    """UTF-8."""
    return text.encode("utf-8", "surrogatepass")
