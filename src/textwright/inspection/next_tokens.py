"""A model's likeliest next tokens and their entropy, with its gates or its attention."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textwright.backends.counts import MixedBackend
from textwright.counts.mixture import Parts, Shares
from textwright.errors import GenerationError
from textwright.run import Run
from textwright.tokenizer import Tokenizer
from textwright.writing.backend import Backend, visible
from textwright.writing.generator import Generator
from textwright.writing.sampling_steps import log_probabilities, temper

if TYPE_CHECKING:
    from torch import Tensor

    from textwright.models import Trace

Tracer = Callable[[NDArray[np.int64]], "Trace"]  # ids (T,) → the trace of one row

Gates = list[dict[str, dict[str, list[float]]]]
"""For each layer: quantity → statistic over the layer's units → one value per token."""

Attention = list[list[list[float]]]
"""For each layer, for each head: the share of the newest token's attention to each token."""


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

    tokens: those that the model has read, the stop that begins a text included. gates: the values
    in its cells at each of them; attention: that of its heads at the last one. Each is None unless
    it was asked for and the model has it. shares: of the parts of a mixture, at this place.
    """

    context: str
    tokens: list[Token]
    entropy: dict[float, float]
    next: dict[float, list[Candidate]]
    gates: Gates | None = None
    attention: Attention | None = None
    shares: Shares | None = None

    def to_json(self) -> dict[str, Any]:
        """The step that `textwright inspect --json` prints."""
        values = asdict(self)
        return values | {"shares": self.shares and self.shares._asdict()}


def next_tokens(
    generator: Generator,
    contexts: Sequence[str],
    temperatures: Sequence[float],
    top: int = 5,
    trace: Tracer | None = None,
) -> list[NextTokens]:
    """The `top` likeliest next tokens after each context, at each temperature.

    The distribution at temperature T is softmax(logits / T). trace: made by `tracer`; adds gates or
    attention. Raises GenerationError if a temperature is not above 0.
    """
    if not all(temperature > 0 for temperature in temperatures):
        raise GenerationError("A table needs temperatures above 0; at 0 one token is certain.")
    backend, tokenizer = generator.backend, generator.tokenizer
    inner = backend.neural if isinstance(backend, MixedBackend) else backend
    found = []
    for context in contexts:
        ids = tokenizer.encode(context).tolist()
        row = visible(ids, tokenizer.stop_id, backend.context_length)
        seen = visible(ids, tokenizer.stop_id, inner.context_length)
        logits, parts, shares = _predict(backend, row)
        entropy, tables = {}, {}
        for temperature in temperatures:
            logp = log_probabilities(temper(logits[0], temperature))
            p = np.exp(logp)
            entropy[temperature] = float(-(p * np.where(p > 0, logp, 0)).sum())
            best = np.argsort(-p, kind="stable")[:top]
            tables[temperature] = [
                Candidate(
                    **vars(token),
                    probability=float(p[token.id]),
                    neural=float(parts.neural[0, token.id]) if parts else None,
                    counts=float(parts.counts[0, token.id]) if parts else None,
                    memory=float(parts.memory[0, token.id]) if parts else None,
                )
                for token in _tokens(tokenizer, best)
            ]
        traced = trace(seen) if trace else None
        gates = list(map(_summarize, traced.gates)) if traced and traced.gates else None
        looks = list(map(_newest, traced.attention)) if traced and traced.attention else None
        read = _tokens(tokenizer, seen)
        found.append(NextTokens(context, read, entropy, tables, gates, looks, shares))
    return found


def _predict(
    backend: Backend, row: NDArray[np.int64]
) -> tuple[NDArray[np.float32], Parts | None, Shares | None]:
    """The logits (1, V) after a row; of a mixture, also what each part predicts, and its share."""
    ids, lengths = row[None], np.array([len(row)])
    if not isinstance(backend, MixedBackend):
        return backend.prefill(ids, lengths)[0], None, None
    parts, _ = backend.read(ids, lengths)
    [shares] = backend.mixture.shares(parts.evidence).tolist()
    return backend.mixed(parts), parts, Shares(*shares)


def tracer(run: Run) -> Tracer | None:
    """A function that traces a run's model by explicit equations, or None for counts, which have
    nothing inside. It needs torch; tables do not."""
    if run.config.model.counted:
        return None
    import torch

    from textwright import models

    model = models.load(run, "cpu")

    @torch.inference_mode()
    def trace(ids: NDArray[np.int64]) -> Trace:
        return model.trace(torch.from_numpy(ids)[None])

    return trace


def _summarize(layer: dict[str, Tensor]) -> dict[str, dict[str, list[float]]]:
    """Each quantity (1, T, units) → its mean, mean absolute value and extremes over the units."""
    summary = {}
    for name, values in layer.items():
        units = values[0].double().numpy()
        statistics = {
            "mean": units.mean(1),
            "magnitude": np.abs(units).mean(1),
            "min": units.min(1),
            "max": units.max(1),
        }
        summary[name] = {key: value.round(6).tolist() for key, value in statistics.items()}
    return summary


def _newest(layer: Tensor) -> list[list[float]]:
    """Attention (1, heads, T, T) → the last token's, (heads, T)."""
    shares: list[list[float]] = layer[0, :, -1].double().numpy().round(6).tolist()
    return shares


def _tokens(tokenizer: Tokenizer, ids: Iterable[int]) -> list[Token]:
    ids = [int(token_id) for token_id in ids]
    return list(map(Token, tokenizer.tokens(ids), ids, tokenizer.texts(ids)))
