"""A model's likeliest next tokens and their entropy, after a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textwright.backends.counts import MixedBackend
from textwright.counts.mixture import Parts, Shares
from textwright.errors import GenerationError
from textwright.tokenizer import Tokenizer
from textwright.writing.backend import Backend, looks_back, visible
from textwright.writing.generator import Generator
from textwright.writing.sampling_steps import likeliest_ids, log_probabilities, temper


@dataclass(frozen=True)
class Token:
    """`token` is spelled as in tokenizer.json; `text` is the text it stands for, bytes that form no
    whole character as \\xc3."""

    token: str
    id: int
    text: str

    @property
    def shown(self) -> str:
        """The text with its white space visible."""
        letters = self.text.replace(" ", "␣").replace("\n", "⏎")
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in letters)


@dataclass(frozen=True)
class Candidate(Token):
    """A token that may come next. neural, counts, memory: its probability in each part of a
    mixture, at temperature 1; None where the model is no mixture."""

    probability: float
    neural: float | None = None
    counts: float | None = None
    memory: float | None = None


@dataclass(frozen=True)
class NextTokens:
    """By temperature, the entropy in nats and the likeliest tokens after `context`.

    tokens: those that the model has read, the stop that begins a text included. shares: of the
    parts at this place, where the model is a mixture.
    """

    context: str
    tokens: list[Token]
    entropy: dict[float, float]
    next: dict[float, list[Candidate]]
    shares: Shares | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"shares": self.shares and self.shares._asdict()}


def next_tokens(
    generator: Generator, context: str, temperatures: Sequence[float], top: int = 5
) -> NextTokens:
    """The `top` likeliest next tokens after a context, at each temperature.

    The distribution at temperature T is softmax(logits / T). Raises GenerationError if a
    temperature is not above 0.
    """
    check_temperatures(temperatures)
    backend, tokenizer = generator.backend, generator.tokenizer
    ids = tokenizer.encode(context).tolist()
    row = visible(ids, tokenizer.stop_id, backend.context_length)
    logits, parts, shares = predict(backend, row)
    entropy, tables = likeliest(tokenizer, logits[0], parts, temperatures, top)
    read = name_tokens(tokenizer, seen(generator, ids))
    return NextTokens(context, read, entropy, tables, shares)


def check_temperatures(temperatures: Sequence[float]) -> None:
    """Raise GenerationError if one is not above 0."""
    if not all(temperature > 0 for temperature in temperatures):
        raise GenerationError("A table needs temperatures above 0; at 0 one token is certain.")


def likeliest(
    tokenizer: Tokenizer,
    logits: NDArray[np.float32],
    parts: Parts | None,
    temperatures: Sequence[float],
    top: int,
) -> tuple[dict[float, float], dict[float, list[Candidate]]]:
    """By temperature, the entropy in nats and the `top` likeliest tokens of one distribution.

    logits (V,); parts: of one row, where the model is a mixture.
    """
    entropy, tables = {}, {}
    for temperature in temperatures:
        logp = log_probabilities(temper(logits, temperature))
        p = np.exp(logp)
        entropy[temperature] = float(-(p * np.where(p > 0, logp, 0)).sum())
        best = likeliest_ids(logits, top)  # in the cold, many probabilities are 0
        tables[temperature] = [
            Candidate(**vars(token), probability=float(p[token.id]), **part_odds(parts, token.id))
            for token in name_tokens(tokenizer, best)
        ]
    return entropy, tables


def part_odds(parts: Parts | None, token_id: int) -> dict[str, Any]:
    """The probability of a token in each part of a mixture; empty where there are none."""
    if parts is None:
        return {}
    return dict(zip(Shares._fields, parts.chances[0, :, token_id].tolist(), strict=True))


def seen(generator: Generator, ids: Sequence[int]) -> NDArray[np.int64]:
    """The ids (T,) that the model sees of a text; of a mixture, its neural model."""
    return visible(ids, generator.tokenizer.stop_id, looks_back(generator.backend))


def name_tokens(tokenizer: Tokenizer, ids: Iterable[int]) -> list[Token]:
    ids = [int(token_id) for token_id in ids]
    return list(map(Token, tokenizer.tokens(ids), ids, tokenizer.texts(ids)))


def predict(
    backend: Backend, row: NDArray[np.int64]
) -> tuple[NDArray[np.float32], Parts | None, Shares | None]:
    """The logits (1, V) after a row; of a mixture, also what each part predicts, and its share."""
    logits, parts, _ = begin(backend, row)
    if parts is None or not isinstance(backend, MixedBackend):
        return logits, None, None
    [shares] = backend.mixture.shares(parts.evidence).tolist()
    return logits, parts, Shares(*shares)


def begin(
    backend: Backend, row: NDArray[np.int64]
) -> tuple[NDArray[np.float32], Parts | None, Any]:
    """Read a row (T,) → logits (1, V); of a mixture, what each part predicts; the state."""
    whole = row[None], np.array([len(row)])
    if isinstance(backend, MixedBackend):
        parts, mixed_state = backend.read(*whole)
        return backend.mixed(parts), parts, mixed_state
    logits, state = backend.prefill(*whole)
    return logits, None, state
