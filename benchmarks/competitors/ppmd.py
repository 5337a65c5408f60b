"""PPMd: what a held-out document adds to the compressed training text (see
`comparison/compressors.py`). It adapts within a document, as the memory of the default does."""

import time

from competitors import Found, Row, Task, score
from textwright.comparison.compressors import END, costs, in_bytes, primed_ppmd

ORDERS = range(2, 17)


def measure(task: Task) -> Found:
    """Pick the order by validation, and measure the test documents."""
    begun = time.perf_counter()
    if any(END in document for document in (*task.train, *task.valid, *task.test)):
        raise ValueError("A document contains a zero character, which ends documents here.")
    text = in_bytes("".join(document + END for document in task.train))
    tried = {}
    for order in ORDERS:
        tried[order] = score(task.valid, *costs(primed_ppmd(order, text), task.valid))
    order = min(tried, key=lambda order: tried[order].bits_per_character)
    found = score(task.test, *costs(primed_ppmd(order, text), task.test))
    return Found(found, tried[order], {"order": order, "seconds": time.perf_counter() - begun})


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
