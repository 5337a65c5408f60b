"""How well a model keeps to the fields of its template, measured with the model alone.

Two questions. Do the texts that it writes freely parse back into fields? And does its prediction
of the last field depend on the others? For the second, held-out documents are scored as they are,
and again with one field's value taken from another document: the nats that the true value saves
on the last field are 0 for a model that ignores the field.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from textwright.evaluation.scores import Scorer, redrawn_interval
from textwright.tokenizer import Tokenizer
from textwright.writing.form import Form
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions

FREE_TEXTS = 100
Interval = tuple[float, float]


@dataclass(frozen=True)
class FieldScore:
    """found: share of free texts that have the field · gain: nats that the true value saves on
    the last field, against another document's · preferred: share of documents in which it saves
    some (a tie is half) · intervals: 95 % of resampled documents. None if nothing was swapped: for
    the last field, and for one that has the same value everywhere."""

    found: float
    gain: float | None = None
    gain_interval: Interval | None = None
    preferred: float | None = None
    preferred_interval: Interval | None = None


@dataclass(frozen=True)
class Adherence:
    """complete: share of the free texts that have every field · documents: number of held-out ones
    that parse and were scored · unparsed: number of those that do not parse."""

    texts: int
    complete: float
    documents: int
    unparsed: int
    fields: dict[str, FieldScore]

    def to_json(self) -> dict[str, object]:
        """The value of `adherence` that `textwright evaluate --fields --json` prints."""
        return asdict(self)


def adherence(
    scorer: Scorer,
    generator: Generator,
    form: Form,
    documents: Sequence[str],
    options: SamplingOptions,
) -> Adherence:
    """Score how well a model keeps to a form. options: of the free texts; beams are ignored."""
    options = options.model_copy(update={"beams": 1})
    samples = generator.generate("", options, num=FREE_TEXTS)
    written = [form.parse(sample.text) for sample in samples]
    found = {name: sum(fields[name] is not None for fields in written) for name in form.fields}
    whole = [fields for text in documents if (fields := whole_fields(form.parse(text)))]
    saved = (
        _saved(scorer, generator.tokenizer, form, whole, np.random.default_rng(0)) if whole else {}
    )
    return Adherence(
        texts=FREE_TEXTS,
        complete=sum(whole_fields(fields) is not None for fields in written) / FREE_TEXTS,
        documents=len(whole),
        unparsed=len(documents) - len(whole),
        fields={
            name: _field_score(count / FREE_TEXTS, saved.get(name)) for name, count in found.items()
        },
    )


def whole_fields(fields: dict[str, str | None]) -> dict[str, str] | None:
    """The fields, if none is missing."""
    values = {name: value for name, value in fields.items() if value is not None}
    return values if len(values) == len(fields) else None


def _field_score(found: float, saved: np.ndarray | None) -> FieldScore:
    if saved is None:
        return FieldScore(found)
    one = np.ones(len(saved))
    wins = (np.sign(saved) + 1) / 2
    return FieldScore(
        found,
        float(saved.mean()),
        redrawn_interval(saved, one),
        float(wins.mean()),
        redrawn_interval(wins, one),
    )


def _saved(
    scorer: Scorer,
    tokenizer: Tokenizer,
    form: Form,
    documents: list[dict[str, str]],
    random: np.random.Generator,
) -> dict[str, np.ndarray]:
    """For each field that can be swapped: nats that its true value saves in each document."""
    last = form.slots[-1]
    truth = _nats_of_last(scorer, tokenizer, form, documents)
    saved = {}
    for name in form.fields:
        values = [document[name] for document in documents]
        if name == last or len(set(values)) == 1:
            continue
        others = other_values(values, random)
        swapped = [
            {**document, name: other} for document, other in zip(documents, others, strict=True)
        ]
        saved[name] = _nats_of_last(scorer, tokenizer, form, swapped) - truth
    return saved


def other_values(values: list[str], random: np.random.Generator) -> list[str]:
    """For each value, one drawn from those that differ from it, in proportion to their number.

    When sorted, equal values stand together, so one draw is enough: it skips their stretch.
    """
    ordered = sorted(values)
    others = []
    for value in values:
        first, end = bisect_left(ordered, value), bisect_right(ordered, value)
        place = int(random.integers(len(ordered) - (end - first)))
        others.append(ordered[place if place < first else place + end - first])
    return others


def _nats_of_last(
    scorer: Scorer, tokenizer: Tokenizer, form: Form, documents: list[dict[str, str]]
) -> np.ndarray:
    """The nats of each document's last field and all that follows it, the stop included."""
    rows, counts = [], []
    for document in documents:
        text, _ = form.render(document)
        begin = len(text) - len(document[form.slots[-1]]) - len(form.literals[-1])
        spans = tokenizer.spans(text)
        ids = [token_id for token_id, _, _ in spans]
        rows.append(np.array([tokenizer.stop_id, *ids, tokenizer.stop_id]))
        counts.append(1 + sum(end > begin for _, _, end in spans))
    nats = scorer(rows)
    return np.array([row[-count:].sum() for row, count in zip(nats, counts, strict=True)])
