"""PPMd: what a held-out document adds to the compressed training text.

The compressor reads all training documents, each ended by a zero byte, and then one held-out
document; the growth of its output is what the document costs. Each document is read after the
training text alone: the state after that is copied by forking the process, so this needs a system
that can fork. Within a document it adapts, which neural rows do not. Where documents are few, a
document is read up to every 1,000th character, and a stretch costs what it adds.
"""

import math
import os
import struct
import time
from typing import Any

import numpy as np

from competitors import Found, Row, Task, score
from textwright.corpus.split import FEW_DOCUMENTS
from textwright.evaluation.scores import BLOCK_CHARACTERS

END = "\0"
ORDERS = range(2, 17)
MOST_MEMORY = (1 << 32) - 4096


def measure(task: Task) -> Found:
    """Pick the order by validation, and measure the test documents."""
    begun = time.perf_counter()
    if any(END in document for document in (*task.train, *task.valid, *task.test)):
        raise ValueError("A document contains a zero character, which ends documents here.")
    text = _bytes("".join(document + END for document in task.train))
    tried = {}
    for order in ORDERS:
        tried[order] = score(task.valid, *costs(primed(order, text), task.valid))
    order = min(tried, key=lambda order: tried[order].bits_per_character)
    found = score(task.test, *costs(primed(order, text), task.test))
    return Found(found, tried[order], {"order": order, "seconds": time.perf_counter() - begun})


def primed(order: int, text: bytes) -> Any:
    """An encoder of variant H that has read the text."""
    import pyppmd

    # Enough that the model is never thrown away; only what is used is touched.
    encoder = pyppmd.Ppmd7Encoder(order, min(MOST_MEMORY, max(1 << 26, 100 * len(text))))
    encoder.encode(text)
    return encoder


def costs(encoder: Any, documents: list[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Nats of each stretch of each document, and the stretches' first characters."""
    nats, places = [], []
    before = grown(encoder, b"")
    for document in documents:
        step = BLOCK_CHARACTERS if len(documents) < FEW_DOCUMENTS else len(document) + 1
        starts = np.arange(0, max(1, len(document)), step)
        ends = [*starts[1:], len(document) + 1]
        sizes = [before, *(grown(encoder, _bytes((document + END)[:end])) for end in ends)]
        nats.append(np.diff(sizes) * 8 * math.log(2))
        places.append(starts)
    return nats, places


def grown(encoder: Any, data: bytes) -> int:
    """Bytes that come out for `data` and the end of the code, in a copy of the encoder."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        try:
            size = len(encoder.encode(data)) + len(encoder.flush())
            os.write(writable, struct.pack("q", size))
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return int(struct.unpack("q", answer)[0])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


ROWS = [
    Row(
        "ppmd",
        "PPMd variant H of 7-Zip (package pyppmd), primed with the training text, its order picked "
        "among 2 to 16 by validation; it adapts within each document.",
        measure,
        timed=False,
        needs=("pyppmd",),
    )
]
