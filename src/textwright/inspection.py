"""What a model thinks: the tokens it expects next, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from textwright.errors import GenerationError
from textwright.generator import Generator


@dataclass(frozen=True)
class Candidate:
    """A token that may come next."""

    token: str
    id: int
    probability: float

    @property
    def shown(self) -> str:
        """The token, or a name for what has no letters."""
        return self.token if self.token.strip() else repr(self.token)


@dataclass(frozen=True)
class NextTokens:
    """After `context`: by temperature, the entropy in nats and the likeliest tokens."""

    context: str
    entropy: dict[float, float]
    next: dict[float, list[Candidate]]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "attention": None, "gates": None, "saliency": None}


def next_tokens(
    generator: Generator, contexts: Sequence[str], temperatures: Sequence[float], top: int = 5
) -> list[NextTokens]:
    """The `top` likeliest next tokens after each context, at each temperature.

    One temperature's distribution follows from another's: softmax(logits / T).
    """
    if not all(temperature > 0 for temperature in temperatures):
        raise GenerationError("A table needs temperatures above 0: at 0 one token has it all.")
    backend, tokenizer = generator.backend, generator.tokenizer
    found = []
    for context in contexts:
        row = np.array([[tokenizer.stop_id, *tokenizer.encode(context)]], dtype=np.int64)
        logits, _ = backend.prefill(row, np.array([row.shape[1]]))
        entropy, tables = {}, {}
        for temperature in temperatures:
            logp = _log_softmax(logits[0].astype(np.float64) / temperature)
            p = np.exp(logp)
            entropy[temperature] = float(-(p * np.where(p > 0, logp, 0)).sum())
            best = np.argsort(-p, kind="stable")[:top]
            tables[temperature] = [
                Candidate(tokenizer.tokens([i])[0], int(i), float(p[i])) for i in best
            ]
        found.append(NextTokens(context, entropy, tables))
    return found


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())
