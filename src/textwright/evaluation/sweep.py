"""Which sampling options make a model write most like real text.

For each setting, as many texts are written as there are real ones, and of both are measured quality
(bits per character under a judge, see judges.py), diversity, repetition and copying. The setting
whose figures match those of real text best is recommended (see matching.py); where others are as
good within the error, the model's own distribution is, because it needs no reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress
from typing import Literal

import numpy as np

from textwright.errors import EvaluationError
from textwright.evaluation.copying import share_new
from textwright.evaluation.diversity import Diversity, measure_diversity, split_words
from textwright.evaluation.judges import Judge
from textwright.evaluation.matching import (
    MATCHED,
    Distances,
    TextSet,
    draw_halves,
    measure_distances,
)
from textwright.evaluation.real_texts import RealTexts
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions, sampling_options
from textwright.writing.sequences import KnownSequences
from textwright.writing.stream import Sample

Option = Literal["temperature", "top_p", "min_p"]
NEUTRAL: dict[Option, float] = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0}
GRID: dict[Option, tuple[float, ...]] = {
    "temperature": (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2),
    "top_p": (0.8, 0.9, 0.95),
    "min_p": (0.02, 0.05, 0.1),
}
SHORT = 0.5  # times the words of the real texts are too few to compare with
# Share of the halves in which the nearest setting must be nearer than another to be surely nearer:
# by one standard error, the rule of Breiman et al. 1984 (Classification and Regression Trees).
SURE = 0.84

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Setting:
    """One sampling option with its value; the others are off."""

    option: Option
    value: float

    @property
    def is_plain(self) -> bool:
        """Whether it is the model's own distribution."""
        return self.value == NEUTRAL[self.option]

    @property
    def name(self) -> str:
        return f"{self.option.replace('_', '-')} {self.value:g}"

    def values(self) -> dict[str, float]:
        """All three options."""
        return {**{str(option): off for option, off in NEUTRAL.items()}, self.option: self.value}


@dataclass(frozen=True)
class Figures:
    """Of a set of texts. bits_per_character: under the judge, with the middle 95 % of it · new:
    share of its 8-token sequences that the training text does not have; None if it is not at hand ·
    tokens: mean length · ended: share of the texts that came to an end by themselves."""

    bits_per_character: float
    interval: tuple[float, float]
    diversity: Diversity
    new: float | None
    tokens: float
    ended: float

    def to_json(self) -> dict[str, object]:
        values = asdict(self)
        return {**values, "interval": {"bits_per_character": list(values.pop("interval"))}}


@dataclass(frozen=True)
class Result:
    """distance: from real text, in standard errors; None for texts too short to compare ·
    nearest: share of the halves in which no other setting is nearer · as_good: nothing is surely
    nearer."""

    setting: Setting
    figures: Figures
    distance: float | None
    nearest: float
    as_good: bool

    def to_json(self) -> dict[str, object]:
        judged = {"distance": self.distance, "nearest": self.nearest, "as_good": self.as_good}
        return {**self.setting.values(), **self.figures.to_json(), **judged}


@dataclass(frozen=True)
class Sweep:
    """texts: their number in each set, of at most max_tokens · results: one for each setting."""

    judge: str
    texts: int
    max_tokens: int
    seed: int
    real: Figures
    results: list[Result]
    recommended: Setting
    reason: str

    def to_json(self) -> dict[str, object]:
        """What `textwright sweep --json` prints."""
        return {
            "judge": self.judge,
            "texts": self.texts,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "real": self.real.to_json(),
            "settings": [result.to_json() for result in self.results],
            "recommended": {**self.recommended.values(), "reason": self.reason},
        }


PLAIN = Setting("temperature", NEUTRAL["temperature"])


def choose_settings(given: Mapping[Option, Sequence[float]]) -> list[Setting]:
    """A setting for each value, each once; GRID where no value is given. Raises GenerationError
    for a value that its option cannot have."""
    grid: Mapping[Option, Sequence[float]] = given if any(given.values()) else GRID
    settings = [Setting(option, value) for option in NEUTRAL for value in grid.get(option, ())]
    for setting in settings:
        sampling_options(**setting.values())
    return list(dict.fromkeys(PLAIN if setting.is_plain else setting for setting in settings))


def sweep(
    generator: Generator,
    real: RealTexts,
    judge: Judge,
    settings: Sequence[Setting],
    *,
    known: KnownSequences | None = None,
    seed: int = 0,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> Sweep:
    """Write with each setting, from the same seed, and compare with the real texts.

    known: the sequences of the training text (`copying.LENGTH` tokens each). on_progress: called with the
    stage, and how many texts of how many are written.
    """
    tokenizer = generator.tokenizer
    count = len(real.texts)
    every = [real.texts]  # of each set, the ids of its texts
    ended = [float(np.mean([len(text) < real.max_tokens for text in real.texts]))]
    for number, setting in enumerate(settings):
        options = SamplingOptions(**setting.values(), max_new_tokens=real.max_tokens)
        stream = replace(generator, batch_size=count).stream(real.prompts, options, seed=seed)
        samples: list[Sample] = []
        for sample in stream.samples():
            samples.append(sample)
            on_progress("Writing", number * count + len(samples), len(settings) * count)
        every.append([np.array(sample.ids, np.int64) for sample in samples])
        ended.append(sum(sample.finish_reason == "stop" for sample in samples) / count)
    on_progress("Comparing with real text", 0, 0)
    texts = [[tokenizer.decode(ids) for ids in one] for one in every]
    sets = [_text_set(ids, plain, judge) for ids, plain in zip(every, texts, strict=True)]
    # Texts of a setting that writes next to nothing would have all others cut as short.
    comparable = [one.size >= SHORT * sets[0].size for one in sets]
    halves = draw_halves(count, seed)
    distances = measure_distances(sets[0], list(compress(sets, comparable))[1:], halves)
    together = iter(measure_diversity(list(compress(texts, comparable))))
    figures = [
        Figures(
            bits_per_character=one.bits_per_character(),
            interval=_interval([one.bits_per_character(half) for half in halves]),
            diversity=next(together) if fits else measure_diversity([plain])[0],
            new=share_new(ids, known) if known else None,
            tokens=float(np.mean([len(text) for text in ids])),
            ended=stopped,
        )
        for one, fits, plain, ids, stopped in zip(
            sets, comparable, texts, every, ended, strict=True
        )
    ]
    results = _results(settings, figures[1:], comparable[1:], distances)
    recommended, reason = _recommend(results, figures[0])
    return Sweep(judge.name, count, real.max_tokens, seed, figures[0], results, recommended, reason)


def _text_set(ids: list[np.ndarray], texts: list[str], judge: Judge) -> TextSet:
    lengths = np.array([len(text) for text in texts], np.float64)
    return TextSet(split_words(texts), judge.bits(ids), lengths)


def _interval(of_halves: list[float]) -> tuple[float, float]:
    low, high = np.percentile(of_halves, [2.5, 97.5])
    return float(low), float(high)


def _results(
    settings: Sequence[Setting],
    figures: Sequence[Figures],
    comparable: Sequence[bool],
    distances: Distances,
) -> list[Result]:
    places = np.cumsum(comparable) - 1  # in the distances
    best = int(distances.of_all.argmin()) if len(distances.of_all) else 0
    results = []
    for setting, of_setting, fits, place in zip(
        settings, figures, comparable, places.tolist(), strict=True
    ):
        if not fits:
            results.append(Result(setting, of_setting, None, 0.0, False))
            continue
        halves = distances.of_halves
        beaten = float(np.mean(halves[best] < halves[place]))
        nearest = float(np.mean(halves.argmin(0) == place))
        distance = float(distances.of_all[place])
        results.append(Result(setting, of_setting, distance, nearest, beaten < SURE))
    return results


def _recommend(results: Sequence[Result], real: Figures) -> tuple[Setting, str]:
    """The model's own distribution if nothing is surely nearer; else the nearest. With the reason.

    Raises EvaluationError if no setting writes texts that are long enough to compare.
    """
    ranked = sorted(
        (result for result in results if result.distance is not None),
        key=lambda result: result.distance or 0.0,
    )
    if not ranked:
        raise EvaluationError(
            "Every setting writes texts that are less than half as long as real ones; train the "
            "run for longer, or try other values."
        )
    best = ranked[0]
    plain = next((each for each in ranked if each.setting.is_plain and each.as_good), None)
    chosen = plain or best
    where = f"its {_listed(MATCHED)} are {chosen.distance:.1f} standard errors from real text's"
    rivals = [each.setting.name for each in ranked if each.as_good and each is not chosen]
    if chosen is not best:
        why = f"{where}, and {best.setting.name}, at {best.distance:.1f}, is not surely nearer"
    elif rivals:
        why = f"{where}, nearest of all, though {_listed(rivals)} may be as near"
    else:
        why = f"{where}, surely nearer than with any other setting"
    return chosen.setting, f"{chosen.setting.name}: {why}."


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
