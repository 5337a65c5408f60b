"""Recurrent units that tell something: where the text stands, whether a quote is open, a word.

A unit tells a property if its values over held-out text correlate with it more than chance allows.
Units and texts both change slowly, so two series that have nothing to do with each other correlate
more than they would with shuffled tokens. Chance is therefore measured with labels that are shifted
along the text, by a random distance and around its end: they keep their rhythm and lose their
connection with the units. The largest correlation of all units and properties counts, each divided
by its own spread under shifts, which allows for the number of pairs that were looked at (Westfall &
Young 1993). Units are found in one half of the text; the other half confirms how much they tell.

Letters: N tokens of text, U units of all layers, F properties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from textwright.compute.memory import memory_errors
from textwright.errors import EvaluationError
from textwright.inspection.inner import trace
from textwright.inspection.properties import structure
from textwright.models import LanguageModel
from textwright.progress import OnStage, silent
from textwright.tokenizer import Tokenizer
from textwright.writing.backend import padded

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

TOKENS = 16_000  # of held-out text
FEWEST = 600
LONGEST = 400  # tokens of a stretch that the model reads; a longer document is cut into several
WORDS = 12  # the most frequent tokens, each a property
SHIFTS = 299
CHANCE = 0.01  # probability of reporting any unit where none tells anything
OF_EACH = 3  # units reported for a property
MOST = 12  # units reported in all
ROWS_AT_A_TIME = 32


@dataclass(frozen=True)
class TellingUnit:
    """A unit, by layer and number from 1, and what its value tells.

    found, confirmed: the correlation (Pearson) in the half of the text where the unit was found,
    and in the other · p: how often, under shifted labels, any unit stands out as much.
    """

    layer: int
    unit: int
    tells: str
    found: float
    confirmed: float
    p: float

    @property
    def name(self) -> str:
        return f"layer {self.layer}, unit {self.unit}"


@dataclass(frozen=True)
class TellingUnits:
    """quantity: the value of a cell that was looked at, C or h · tokens: of held-out text, both
    halves · pairs: of a unit and a property that were tried · chance: the highest p reported."""

    units: list[TellingUnit]
    quantity: str
    tokens: int
    pairs: int
    chance: float = CHANCE

    @property
    def evidence(self) -> str:
        """How the units were found, in a sentence."""
        return (
            f"{self.pairs:,} pairs of a unit and a property were tried on half of {self.tokens:,} "
            "held-out tokens, and those that stand out confirmed on the other half. p: how often, "
            "with labels shifted along the text, any pair stands out as much; reported up to "
            f"{self.chance:g}."
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Stretch:
    """Ids (T,) of a document from its beginning or from a later token, and its properties (T,)."""

    ids: Ids
    properties: dict[str, Floats]


def telling_units(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[str],
    on_progress: OnStage = silent,
) -> TellingUnits:
    """The units of a recurrent model that tell a property of the text, at most 12 and 3 for each
    property, the clearest first.

    documents: held-out text. on_progress: called with the stage, and how much of it is done and in
    all. Raises EvaluationError where there is too little text.
    """
    random = np.random.default_rng(0)
    stretches = _stretches(tokenizer, [documents[i] for i in random.permutation(len(documents))])
    halves = stretches[::2], stretches[1::2]
    ids, others_ids = (np.concatenate([s.ids for s in half]) for half in halves)
    frequent = np.argsort(-np.bincount(ids), kind="stable")[:WORDS].tolist()
    words = dict(zip(frequent, tokenizer.texts(frequent), strict=True))
    first, second = (_labels(half, words) for half in halves)
    names = [name for name in first if first[name].std() and second[name].std()]
    labels, others = (np.stack([half[name] for name in names], 1) for half in (first, second))
    (layer, *_) = trace(model, np.array([tokenizer.stop_id])).gates or [{}]
    quantity = "C" if "C" in layer else "h"
    units, other_units = (_unit_values(model, quantity, tokenizer.stop_id, h) for h in halves)
    found, p = stands_out(units, labels, random, on_progress)
    confirmed = _standard(other_units).T @ _standard(others) / len(others)
    width = layer[quantity].shape[-1]
    telling = [
        TellingUnit(
            unit // width + 1,
            unit % width + 1,
            name,
            float(found[unit, column]),
            float(confirmed[unit, column]),
            float(p[unit, column]),
        )
        for column, name in enumerate(names)
        for unit in np.argsort(-np.abs(found[:, column]), kind="stable")[:OF_EACH].tolist()
        if p[unit, column] <= CHANCE
    ]
    telling.sort(key=lambda unit: -abs(unit.confirmed))
    return TellingUnits(telling[:MOST], quantity, len(ids) + len(others_ids), found.size)


def stands_out(
    units: Floats,
    labels: Floats,
    random: np.random.Generator,
    on_progress: OnStage = silent,
) -> tuple[Floats, Floats]:
    """The correlation (U, F) of units (N, U) with labels (N, F), and its p (U, F): how often, under
    shifted labels, any unit stands out as much for any of them."""
    values, wanted = _standard(units), _standard(labels)
    shifts = [0, *random.integers(1, len(labels), SHIFTS).tolist()]
    correlations = np.empty((len(shifts), units.shape[1], labels.shape[1]), np.float32)
    for number, shift in enumerate(shifts):
        correlations[number] = values.T @ np.roll(wanted, shift, 0) / len(labels)
        on_progress("Shifting labels", number + 1, len(shifts))
    spread = np.sqrt((correlations**2).mean(0))
    standing = np.abs(correlations) / np.where(spread > 0, spread, np.inf)
    highest = np.sort(standing.max((1, 2)))
    beaten = np.searchsorted(highest, standing[0])
    return correlations[0].clip(-1, 1).astype(np.float64), 1 - beaten / len(shifts)


def _stretches(tokenizer: Tokenizer, documents: Sequence[str]) -> list[_Stretch]:
    stretches: list[_Stretch] = []
    tokens = 0
    for document in documents:
        spans = np.array(tokenizer.spans(document[: 20 * TOKENS]), np.int64).reshape(-1, 3)
        spans = spans[: TOKENS - tokens]
        properties = structure(document, spans[:, 2])
        for begin in range(0, len(spans), LONGEST):
            cut = slice(begin, begin + LONGEST)
            parts = {name: values[cut] for name, values in properties.items()}
            stretches.append(_Stretch(spans[cut, 0], parts))
        tokens += len(spans)
        if tokens >= TOKENS:
            break
    if tokens < FEWEST or len(stretches) < 2:
        raise EvaluationError(
            f"To tell what units do takes {FEWEST} tokens of held-out text, and the run keeps "
            f"{tokens}: leave out the units, or train on more text."
        )
    return stretches


def _labels(stretches: Sequence[_Stretch], words: dict[int, str]) -> dict[str, Floats]:
    """The properties (N,) of stretches in a line, and for each word whether the text is at it."""
    names = stretches[0].properties
    labels = {name: np.concatenate([s.properties[name] for s in stretches]) for name in names}
    ids = np.concatenate([s.ids for s in stretches])
    return labels | {f"the token {text!r}": (ids == word) * 1.0 for word, text in words.items()}


@memory_errors()
@torch.inference_mode()
def _unit_values(
    model: LanguageModel, quantity: str, stop_id: int, stretches: Sequence[_Stretch]
) -> Floats:
    """This quantity of all units (N, U) after each token."""
    device = model.embedding.device
    found = []
    for begin in range(0, len(stretches), ROWS_AT_A_TIME):
        rows = [np.append(stop_id, s.ids) for s in stretches[begin : begin + ROWS_AT_A_TIME]]
        ids, lengths = padded(rows)  # what stands right of a row changes nothing in it
        gates = model.trace(torch.as_tensor(ids, device=device)).gates or []
        units = torch.cat([layer[quantity] for layer in gates], -1).cpu().double().numpy()
        found += [row[1:length] for row, length in zip(units, lengths, strict=True)]
    return np.concatenate(found)


def _standard(series: Floats) -> NDArray[np.float32]:
    """Series (N, ·) with mean 0 and variance 1; one that never changes is 0."""
    centered = series - series.mean(0)
    spread = centered.std(0)
    standard: NDArray[np.float32] = (centered / np.where(spread > 1e-9, spread, np.inf)).astype(
        np.float32
    )
    return standard
