"""How far sets of texts are from real ones: which of them matches best, and how surely.

The figures in MATCHED are compared. None of them is better when it is lower: text that is too safe
costs a judge fewer bits than real text does, and text that is too bold more, so a set is near if
its figures are those of real text (Holtzman et al. 2020 match perplexity; Caccia et al. 2020 set
quality against diversity over the temperature). Of texts drawn from the law of the real ones every
figure matches, whatever it measures.

The distance is the root mean square of the differences, each in its own standard errors, so that
another sample of real texts would be at about 1. The standard error is the spread over random
halves of the texts, whose variance is that of the whole (delete-half jackknife, Shao & Wu 1989).
Resampling with repeats, as the bootstrap does, would make texts look alike.

Letters: S sets, N texts in each, H halves, K figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textwright.evaluation.diversity import match_sizes, repetitions, self_bleus

MATCHED = ("bits per character", "self-BLEU", "repetition")
HALVES = 40
LEAST_ERROR = 0.001  # of a figure: smaller differences do not matter, however many texts there are

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class TextSet:
    """words: of each text · bits under a judge, characters (N,)."""

    words: list[list[str]]
    bits: Floats
    characters: Floats

    @property
    def size(self) -> int:
        """The number of words."""
        return sum(map(len, self.words))

    def bits_per_character(self, chosen: Places | slice = slice(None)) -> float:
        """Of these texts together."""
        return float(self.bits[chosen].sum() / max(1.0, self.characters[chosen].sum()))


@dataclass(frozen=True)
class Distances:
    """of_all (S,): by all texts · of_halves (S, H): by half of them."""

    of_all: Floats
    of_halves: Floats


def draw_halves(count: int, seed: int = 0) -> list[Places]:
    """HALVES random halves of so many texts."""
    random = np.random.default_rng(seed)
    return [random.permutation(count)[: count // 2] for _ in range(HALVES)]


def measure_distances(
    real: TextSet, sets: Sequence[TextSet], halves: Sequence[Places]
) -> Distances:
    """Of each set from the real texts; all have equally many texts, and are cut to equal sizes
    before self-BLEU and repetition are measured, because both depend on the size."""
    every = [real, *sets]
    matched = match_sizes([each.words for each in every])
    some = [np.arange(len(real.bits)), *halves]
    figures = np.array(
        [
            [
                [each.bits_per_character(chosen) for chosen in some],
                self_bleus(words, some),
                [repeated[chosen].mean() for chosen in some],
            ]
            for each, words in zip(every, matched, strict=True)
            for repeated in [repetitions(words)]
        ]
    )  # (1 + S, K, 1 + H)
    gaps = figures[1:] - figures[0]
    error = np.maximum(gaps[..., 1:].std(-1, keepdims=True), LEAST_ERROR)
    found = np.sqrt(((gaps / error) ** 2).mean(1))  # (S, 1 + H)
    return Distances(found[:, 0], found[:, 1:])
