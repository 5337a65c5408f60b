"""The rows of the laptop table. A module in this folder that has a list `ROWS` adds its rows.

A row is a `Row`: a name, a sentence, and a function `measure(task) -> Found`. The function trains
on `task.train`, may look at `task.valid`, and says what each document of `task.valid` and
`task.test` costs, its end included; `score` makes bits per character of that, in one way for all.

Each row is measured in a process of its own (`python -m competitors`). Packages that not every
environment has are named in `needs` and imported inside functions, since `load_rows` imports every
module.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from textwright.corpus.split import FEW_DOCUMENTS
from textwright.evaluation.scores import HeldOut, redrawn_interval, units_of


@dataclass(frozen=True)
class Task:
    """What a row is measured on.

    train, valid, test: documents; of valid a sample, to pick a rate and the best weights by ·
    seconds: of training, without imports, preparation and looks at held-out text · rate: the
    learning rate to try · corpus, file, template: the corpus by name, and how textwright reads it ·
    source: the checkout of textwright to measure.
    """

    corpus: str
    file: str
    template: str
    train: list[str]
    valid: list[str]
    test: list[str]
    seconds: float
    threads: int
    seed: int
    rate: float
    source: str


@dataclass(frozen=True)
class Score:
    """Held-out bits per character, and the middle 95 % of 1,000 resamples."""

    bits_per_character: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Found:
    """What a row comes to. facts: steps, parameters, seconds, choices: whatever is worth a note."""

    test: Score
    valid: Score | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    what: what it is, whose, and with which settings, in one sentence · timed: it trains for as long
    as it is given; else it is measured once · rates: learning rates, of which validation picks one
    at each budget; empty if there is nothing to pick · needs: modules that must be installed ·
    corpora: the only corpora it is for; empty: all · ours: it is textwright, and is measured for
    every checkout that is named.
    """

    name: str
    what: str
    measure: Callable[[Task], Found]
    timed: bool = True
    rates: tuple[float, ...] = ()
    needs: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()
    ours: bool = False


def load_rows() -> dict[str, Row]:
    """All rows by name, in the order of the modules' names."""
    rows: dict[str, Row] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        if module.name != "__main__":
            found = importlib.import_module(f"{__name__}.{module.name}")
            rows |= {row.name: row for row in getattr(found, "ROWS", [])}
    return rows


def score(
    documents: Sequence[str],
    nats: Sequence[np.ndarray],
    places: Sequence[np.ndarray] | None = None,
    escape_bits: np.ndarray | None = None,
) -> Score:
    """Bits per character of documents, by textwright's definition and with its interval.

    nats: −ln p of each symbol of each document, the end included · places: the first character that
    each symbol stands for, the document's length for the end; needed only if documents are so few
    that stretches of text are resampled · escape_bits: bits for what the symbols do not say.
    """
    if len(nats) != len(documents):
        raise ValueError(f"There are costs of {len(nats)} documents, but {len(documents)} of them.")
    if escape_bits is None:
        escape_bits = np.zeros(len(documents))
    few = len(documents) < FEW_DOCUMENTS
    held_out = HeldOut(
        rows=[],
        characters=np.array([len(document) for document in documents]),
        bytes=np.array([len(document.encode("utf-8", "surrogatepass")) for document in documents]),
        escape_bits=escape_bits,
        places=list(places) if few and places is not None else None,
    )
    bits, characters = units_of(nats, held_out)
    return Score(float(bits.sum() / characters.sum()), redrawn_interval(bits, characters))
