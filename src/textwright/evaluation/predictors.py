"""What a run predicts with: a neural model, counts, or both. Each scores text and writes it.

Torch is imported where a model is opened or used: counts, and results that are kept, need none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from textwright.backends.counts import CountsBackend, MixedBackend
from textwright.counts.kneser_ney import KneserNey
from textwright.counts.memory import recall_targets
from textwright.counts.mixture import Mixture, Parts, fit_mixture
from textwright.counts.powered import PoweredCounts
from textwright.evaluation.kept import Array, KeptResults, fingerprint
from textwright.progress import OnProgress, silent
from textwright.run import Run
from textwright.writing.backend import Backend

if TYPE_CHECKING:
    from textwright.evaluation.agreement import PoweredSums
    from textwright.models import LanguageModel

CHUNK = 64  # rows that are scored together, and kept


class Predictor(Protocol):
    """One distribution over texts."""

    def score(self, rows: list[np.ndarray], on_progress: OnProgress = silent) -> list[np.ndarray]:
        """Nats of every target (row[1:]) of every row: stop, ids, stop. on_progress: called with
        targets done and in all."""

    def backend(self) -> Backend:
        """The same distribution, for writing."""


@dataclass(frozen=True)
class NeuralPredictor:
    """A model of torch."""

    model: LanguageModel

    def score(self, rows: list[np.ndarray], on_progress: OnProgress = silent) -> list[np.ndarray]:
        from textwright.evaluation.neural import score

        return score(self.model, rows, on_progress)

    def backend(self) -> Backend:
        from textwright.models import TorchBackend

        return TorchBackend(self.model)


@dataclass(frozen=True)
class CountsPredictor:
    """An n-gram model."""

    counts: KneserNey

    def score(self, rows: list[np.ndarray], on_progress: OnProgress = silent) -> list[np.ndarray]:
        contexts = self.counts.contexts_of(rows)
        return _by_row(rows, -np.log(self.counts.probabilities(contexts, _targets(rows))))

    def backend(self) -> Backend:
        return CountsBackend(self.counts)


@dataclass
class MixedPredictor:
    """A model of torch with counts beside it.

    fits: fit the mixture anew to the rows that are scored, which must then be validation text.
    """

    model: LanguageModel
    counts: KneserNey
    mixture: Mixture = field(default_factory=Mixture.constant)
    fits: bool = False

    @cached_property
    def _powered(self) -> PoweredCounts:
        return PoweredCounts(self.counts, self.mixture.powers[1])

    @cached_property
    def _sums(self) -> PoweredSums:
        from textwright.evaluation.agreement import PoweredSums

        return PoweredSums(self._powered)

    def score(self, rows: list[np.ndarray], on_progress: OnProgress = silent) -> list[np.ndarray]:
        from textwright.evaluation.agreement import agreements

        contexts = self.counts.contexts_of(rows)
        counted = self.counts.probabilities(contexts, _targets(rows))
        power = self.mixture.powers[0]
        neural, agreed = agreements(
            self.model, power, self._sums, rows, contexts, counted, on_progress
        )
        recalled, remembered = recall_targets(rows, counted)
        evidence = np.concatenate([self.counts.evidence(contexts), remembered], 1)
        parts = Parts(np.stack([neural, agreed, recalled], 1), evidence)
        if self.fits:
            self.mixture = fit_mixture(parts, self.mixture.powers)
        return _by_row(rows, -np.log(self.mixture.mix(parts)))

    def backend(self) -> Backend:
        neural = NeuralPredictor(self.model).backend()
        return MixedBackend(neural, self._powered, self.mixture)


def open_predictor(
    run: Run, device: str = "auto", step: int | None = None
) -> NeuralPredictor | CountsPredictor | MixedPredictor:
    """A run's best weights, or those of a step whose checkpoint is kept, with its counts if it has
    any; the shares of a mixture are those of the best weights."""
    counts = run.counts
    if counts is not None and run.config.model.counted:
        return CountsPredictor(counts)
    from textwright import models

    model = models.load(run, device, step)
    return MixedPredictor(model, counts, run.mixture()) if counts else NeuralPredictor(model)


def score_in_chunks(
    score: Callable[[list[np.ndarray], OnProgress], list[np.ndarray]],
    rows: Sequence[np.ndarray],
    kept: KeptResults,
    on_progress: OnProgress,
) -> list[np.ndarray]:
    """Score rows as a predictor does, CHUNK of them at a time, each of which is kept. on_progress:
    called with targets done and in all."""
    # Longest first: rows of a chunk are read together, and no chunk is longer than before.
    order = sorted(range(len(rows)), key=lambda at: -len(rows[at]))
    nats = [np.empty(0)] * len(rows)
    done, total = 0, sum(len(row) - 1 for row in rows)
    for begin in range(0, len(order), CHUNK):
        places = order[begin : begin + CHUNK]
        chunk = [rows[at] for at in places]

        def compute(chunk: list[np.ndarray] = chunk, before: int = done) -> list[Array]:
            return score(chunk, lambda new, _: on_progress(before + new, total))

        found = kept.recall(list[Array], compute, part="nats", rows=fingerprint(chunk))
        for at, of_row in zip(places, found, strict=True):
            nats[at] = of_row
        done += sum(map(len, found))
        on_progress(done, total)
    return nats


def _targets(rows: list[np.ndarray]) -> np.ndarray:
    """All targets of all rows in a line, (N,)."""
    return np.concatenate([row[1:] for row in rows]).astype(np.int64)


def _by_row(rows: list[np.ndarray], values: np.ndarray) -> list[np.ndarray]:
    """Values of all targets of all rows in a line → those of each row."""
    return np.split(values, np.cumsum([len(row) - 1 for row in rows])[:-1])
