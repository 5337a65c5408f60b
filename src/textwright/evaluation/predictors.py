"""What a run predicts with: a neural model, counts, or both. Each scores text and writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from textwright import models
from textwright.backends.counts import CountsBackend, MixedBackend
from textwright.counts.kneser_ney import KneserNey
from textwright.counts.mixture import fit_share, mix
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

    share: of the counts · fits: choose it anew for the rows that are scored, which must then be
    validation text.
    """

    model: LanguageModel
    counts: KneserNey
    share: float = 0.5
    fits: bool = False

    def score(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        neural = [np.exp(-nats) for nats in score(self.model, rows)]
        counted = self.counts.probabilities(rows)
        if self.fits:
            self.share = fit_share(np.concatenate(neural), np.concatenate(counted))
        pairs = zip(neural, counted, strict=True)
        return [-np.log(mix(of_model, of_counts, self.share)) for of_model, of_counts in pairs]

    def backend(self) -> Backend:
        return MixedBackend(TorchBackend(self.model), self.counts, self.share)


def open_predictor(run: Run, device: str = "auto") -> Predictor:
    """A run's best weights, with its counts if it has any."""
    counts = run.counts
    if counts is not None and run.config.model.counted:
        return CountsPredictor(counts)
    model = models.load(run, device)
    return MixedPredictor(model, counts, run.share()) if counts else NeuralPredictor(model)
