"""xz: what the held-out documents, one after another, add to the compressed training text.

Each document is ended by a zero byte. The text is cut into STRETCHES, and the size is taken after
each: all together the figure is size(train + test) − size(train), and the interval resamples the
stretches.
"""

import lzma
import time

import numpy as np

from competitors import Found, Row, Score, Task
from textwright.evaluation.scores import redrawn_interval

END = "\0"
STRETCHES = 20  # few, since all of the training text is compressed anew for each


def measure(task: Task) -> Found:
    """Measure the test documents."""
    begun = time.perf_counter()
    train, test = (
        "".join(document + END for document in documents) for documents in (task.train, task.test)
    )
    ends = np.linspace(0, len(test), STRETCHES + 1).astype(int)
    sizes = np.array([compressed_size(train + test[:end]) for end in ends])
    bits = 8.0 * np.diff(sizes)
    # The ends of documents are paid for, but are no characters of theirs.
    characters = np.diff([end - test[:end].count(END) for end in ends]).astype(float)
    score = Score(float(bits.sum() / characters.sum()), redrawn_interval(bits, characters))
    return Found(score, facts={"seconds": time.perf_counter() - begun})


def compressed_size(text: str) -> int:
    """Bytes of the text by the highest preset, with a window that holds all of it; without the
    container, whose size goes up in steps of four bytes."""
    data = text.encode("utf-8", "surrogatepass")
    preset = 9 | lzma.PRESET_EXTREME
    window = max(1 << 16, len(data))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": window}]
    return len(lzma.compress(data, lzma.FORMAT_RAW, filters=filters))


ROWS = [
    Row(
        "xz",
        "The coder of `xz -9e` with a window that holds the whole text: what the test documents, "
        "one after another, add to the compressed training text.",
        measure,
        timed=False,
    )
]
