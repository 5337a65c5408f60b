"""What a run predicts with: a neural model, counts, or both. Each scores text and writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from textwright import models
from textwright.backends.counts import CountsBackend, MixedBackend
from textwright.counts.kneser_ney import KneserNey
from textwright.counts.memory import recall_targets
from textwright.counts.mixture import EVEN, Shares, fit_shares, mix
from textwright.evaluation.scores import score
from textwright.models import LanguageModel, TorchBackend
from textwright.run import Run
from textwright.writing.backend import Backend


class Predictor(Protocol):
    """One distribution over texts."""

    def score(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        """Nats of every target (row[1:]) of every row: stop, ids, stop."""

    def backend(self) -> Backend:
        """The same distribution, for writing."""


@dataclass(frozen=True)
class NeuralPredictor:
    """A model of torch."""

    model: LanguageModel

    def score(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        return score(self.model, rows)

    def backend(self) -> Backend:
        return TorchBackend(self.model)


@dataclass(frozen=True)
class CountsPredictor:
    """An n-gram model."""

    counts: KneserNey

    def score(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        return [-np.log(p) for p in self.counts.probabilities(rows)]

    def backend(self) -> Backend:
        return CountsBackend(self.counts)


@dataclass
class MixedPredictor:
    """A model of torch with counts beside it.

    fits: choose the shares anew for the rows that are scored, which must then be validation text.
    """

    model: LanguageModel
    counts: KneserNey
    shares: Shares = EVEN
    fits: bool = False

    def score(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        neural = [np.exp(-nats) for nats in score(self.model, rows)]
        counted = self.counts.probabilities(rows)
        recalled = recall_targets(rows, counted)
        if self.fits:
            self.shares = fit_shares(*map(np.concatenate, (neural, counted, recalled)))
        parts = zip(neural, counted, recalled, strict=True)
        return [-np.log(mix(self.shares, *of_row)) for of_row in parts]

    def backend(self) -> Backend:
        return MixedBackend(TorchBackend(self.model), self.counts, self.shares)


def open_predictor(
    run: Run, device: str = "auto", step: int | None = None
) -> NeuralPredictor | CountsPredictor | MixedPredictor:
    """A run's best weights, or those of a step whose checkpoint is kept, with its counts if it has
    any; the shares of a mixture are those of the best weights."""
    counts = run.counts
    if counts is not None and run.config.model.counted:
        return CountsPredictor(counts)
    model = models.load(run, device, step)
    return MixedPredictor(model, counts, run.shares()) if counts else NeuralPredictor(model)
