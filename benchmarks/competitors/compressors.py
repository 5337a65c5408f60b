"""PPMd and xz: what a held-out document adds to the compressed training text.

A compressor reads all training documents, each ended by a zero byte, and then one held-out
document; the growth of its output is what the document costs. Each document is read after the
training text alone. It adapts within the document, which neural rows do not. Where documents are
few, a document is read in stretches of 1,000 characters, each after all before it, and the cost of
a stretch stands at its first character.

The state after the training text is copied by forking the process, so this needs a system that can
fork.
"""

import lzma
import math
import os
import struct
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from competitors import Found, Row, Task, score
from textwright.corpus.split import FEW_DOCUMENTS
from textwright.evaluation.scores import BLOCK_CHARACTERS

END = "\0"
ORDERS = range(2, 17)  # of PPMd; validation picks one
MOST_MEMORY = (1 << 32) - 4096


class Compressor(Protocol):
    """Takes bytes and gives compressed bytes, some of them later."""

    def take(self, data: bytes) -> int: ...  # → number of bytes given
    def finish(self) -> int: ...


class PPMd:
    """7-Zip's variant H."""

    def __init__(self, order: int, text_bytes: int) -> None:
        import pyppmd

        # Enough that the model is never thrown away; only what is used is touched.
        memory = min(MOST_MEMORY, max(1 << 26, 100 * text_bytes))
        self.encoder = pyppmd.Ppmd7Encoder(order, memory)

    def take(self, data: bytes) -> int:
        return len(self.encoder.encode(data))

    def finish(self) -> int:
        return len(self.encoder.flush())


class LZMA:
    """The coder of xz at its highest preset, without the container, and with a window that holds
    the whole text."""

    def __init__(self, text_bytes: int) -> None:
        window = max(1 << 16, min(1 << 30, 1 << math.ceil(math.log2(text_bytes + 1))))
        preset = 9 | lzma.PRESET_EXTREME
        filters: list[dict[str, Any]] = [
            {"id": lzma.FILTER_LZMA1, "preset": preset, "dict_size": window}
        ]
        self.encoder = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters)

    def take(self, data: bytes) -> int:
        return len(self.encoder.compress(data))

    def finish(self) -> int:
        return len(self.encoder.flush())


def grown(compressor: Compressor, data: bytes) -> int:
    """Bytes that come out for `data` and the end, in a copy of the compressor."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        try:
            size = compressor.take(data) + compressor.finish()
            os.write(writable, struct.pack("q", size))
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return int(struct.unpack("q", answer)[0])


def costs(
    compressor: Compressor, documents: list[str]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Nats of each stretch of each document, and the stretches' first characters."""
    nats, places = [], []
    before = grown(compressor, b"")
    for document in documents:
        step = BLOCK_CHARACTERS if len(documents) < FEW_DOCUMENTS else len(document) + 1
        starts = np.arange(0, max(1, len(document)), step)
        sizes = [before]
        for start in starts:
            end = start + step if start + step < len(document) else len(document) + 1
            sizes.append(grown(compressor, _bytes((document + END)[:end])))
        nats.append(np.diff(sizes) * 8 * math.log(2))
        places.append(starts)
    return nats, places


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def primed(make: Callable[[int], Compressor], task: Task) -> Compressor:
    """A compressor that has read the training text. Raises ValueError if a document has a zero."""
    if any(END in document for document in (*task.train, *task.valid, *task.test)):
        raise ValueError("A document contains a zero character, which ends documents here.")
    text = _bytes("".join(document + END for document in task.train))
    compressor = make(len(text))
    compressor.take(text)
    return compressor


def measure_ppmd(task: Task) -> Found:
    """Pick the order by validation, and measure the test documents."""
    begun = time.perf_counter()
    tried = {}
    for order in ORDERS:
        compressor = primed(lambda size, order=order: PPMd(order, size), task)  # type: ignore[misc]
        tried[order] = score(task.valid, *costs(compressor, task.valid))
    order = min(tried, key=lambda order: tried[order].bits_per_character)
    compressor = primed(lambda size: PPMd(order, size), task)
    found = score(task.test, *costs(compressor, task.test))
    facts = {"order": order, "seconds": time.perf_counter() - begun}
    return Found(found, tried[order], facts)


def measure_xz(task: Task) -> Found:
    """Measure both held-out parts."""
    begun = time.perf_counter()
    compressor = primed(LZMA, task)
    test = score(task.test, *costs(compressor, task.test))
    valid = score(task.valid, *costs(compressor, task.valid))
    return Found(test, valid, {"seconds": time.perf_counter() - begun})


ROWS = [
    Row(
        "ppmd",
        "PPMd variant H of 7-Zip (package pyppmd), primed with the training text, its order picked "
        "among 2 to 16 by validation; it adapts within each document.",
        measure_ppmd,
        timed=False,
        needs=("pyppmd",),
    ),
    Row(
        "xz",
        "LZMA as `xz -9e` sets it, with a window that holds all of the training text, primed with "
        "it; it adapts within each document.",
        measure_xz,
        timed=False,
    ),
]
