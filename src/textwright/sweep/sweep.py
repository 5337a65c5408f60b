"""Which sampling options make a model write most like real text.

For each setting, as many texts are written as there are real ones, and of both are measured quality
(bits per character under a judge, see judges.py), diversity, repetition and copying. The setting
whose figures match those of real text best is recommended (see matching.py); where others are as
good within the error, the model's own distribution is, because it needs no reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from textwright.errors import EvaluationError
from textwright.evaluation.copying import LENGTH, share_new
from textwright.evaluation.diversity import Diversity, measure_diversity, split_words
from textwright.evaluation.kept import NOTHING_KEPT, KeptResults
from textwright.progress import OnStage, silent
from textwright.sweep.judges import Judge
from textwright.sweep.matching import (
    MATCHED,
    Distances,
    TextSet,
    draw_halves,
    measure_distances,
)
from textwright.sweep.real_texts import RealTexts
from textwright.tokenizer import Tokenizer
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
BATCH = 128  # texts written together
SHORT = 0.5  # times the words of the real texts are too few to compare with
# Share of the halves in which the nearest setting must be nearer than another to be surely nearer:
# by one standard error, the rule of Breiman et al. 1984 (Classification and Regression Trees).
SURE = 0.84


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
    known_sequences: Callable[[int], KnownSequences] | None = None,
    seed: int = 0,
    on_progress: OnStage = silent,
    kept: KeptResults = NOTHING_KEPT,
) -> Sweep:
    """Write with each setting, from the same seeds, and compare with the real texts.

    known_sequences: gives those of the training text of so many tokens. on_progress: called with
    the stage, and how many texts of how many are written. kept: where the texts of a setting are,
    which this generator wrote beside these real ones. Raises EvaluationError if no setting writes
    texts that are long enough to compare.
    """
    count = len(real.texts)
    ended = np.mean([len(text) < real.max_tokens for text in real.texts])
    reference = _TextsOf.of(None, real.texts, float(ended), generator.tokenizer, judge)
    # A seed for each text: from one seed, texts that go on from different prompts would be alike.
    seeds = np.random.SeedSequence(seed).generate_state(count, np.uint64).tolist()
    batched = replace(generator, batch_size=BATCH)

    def write(number: int, setting: Setting) -> _Written:
        options = SamplingOptions(**setting.values(), max_new_tokens=real.max_tokens)
        samples: list[Sample] = []
        for sample in batched.stream(real.prompts, options, seed=seeds).samples():
            samples.append(sample)
            on_progress("Writing", number * count + len(samples), len(settings) * count)
        stopped = sum(sample.finish_reason == "stop" for sample in samples) / count
        return _Written([sample.ids for sample in samples], stopped)

    written = []
    for number, setting in enumerate(settings):
        compute = partial(write, number, setting)
        found = kept.recall(_Written, compute, part="texts", setting=setting.values())
        ids = [np.array(of_text, np.int64) for of_text in found.ids]
        written.append(_TextsOf.of(setting, ids, found.ended, generator.tokenizer, judge))
    on_progress("Comparing with real text", 0, 0)
    known = known_sequences(LENGTH) if known_sequences else None
    # Texts of a setting that writes next to nothing would have all others cut as short.
    long = [texts for texts in written if texts.counted.size >= SHORT * reference.counted.size]
    if not long:
        raise EvaluationError(
            "Every setting writes texts that are less than half as long as real ones; train the "
            "run for longer, or try other values."
        )
    halves = draw_halves(count, seed)
    distances = measure_distances(reference.counted, [texts.counted for texts in long], halves)
    place = {texts.setting: at for at, texts in enumerate(long)}
    alike = measure_diversity([texts.texts for texts in (reference, *long)])
    diversity = {None: alike[0], **dict(zip(place, alike[1:], strict=True))}

    def figures(texts: _TextsOf) -> Figures:
        spread = [texts.counted.bits_per_character(half) for half in halves]
        return Figures(
            bits_per_character=texts.counted.bits_per_character(),
            interval=(float(np.percentile(spread, 2.5)), float(np.percentile(spread, 97.5))),
            diversity=diversity.get(texts.setting) or measure_diversity([texts.texts])[0],
            new=share_new(texts.ids, known) if known else None,
            tokens=float(np.mean([len(ids) for ids in texts.ids])),
            ended=texts.ended,
        )

    results = [
        Result(setting, figures(texts), *_standing(distances, place.get(setting)))
        for setting, texts in zip(settings, written, strict=True)
    ]
    recommended, reason = _recommend(results)
    return Sweep(
        judge.name,
        count,
        real.max_tokens,
        seed,
        figures(reference),
        results,
        recommended,
        reason,
    )


@dataclass(frozen=True)
class _Written:
    """The ids of each text that was written with a setting · ended: see `Figures`."""

    ids: list[list[int]]
    ended: float


@dataclass(frozen=True)
class _TextsOf:
    """The texts of a setting, None for the real ones: ids and text of each, and what is counted."""

    setting: Setting | None
    ids: list[np.ndarray]
    texts: list[str]
    counted: TextSet
    ended: float

    @classmethod
    def of(
        cls,
        setting: Setting | None,
        ids: list[np.ndarray],
        ended: float,
        tokenizer: Tokenizer,
        judge: Judge,
    ) -> _TextsOf:
        texts = [tokenizer.decode(of_text) for of_text in ids]
        characters = np.array([len(text) for text in texts], np.float64)
        counted = TextSet(split_words(texts), judge.bits(ids), characters)
        return cls(setting, ids, texts, counted, ended)


def _standing(distances: Distances, place: int | None) -> tuple[float | None, float, bool]:
    """`Result.distance`, `nearest` and `as_good` of the set at this place; None: not compared."""
    if place is None:
        return None, 0.0, False
    halves, best = distances.of_halves, int(distances.of_all.argmin())
    nearest = np.mean(halves.argmin(0) == place)
    beaten = np.mean(halves[best] < halves[place])
    return float(distances.of_all[place]), float(nearest), bool(beaten < SURE)


def _recommend(results: Sequence[Result]) -> tuple[Setting, str]:
    """The plain setting if nothing is surely nearer, else the nearest; with the reason."""
    compared = [(each.distance, each) for each in results if each.distance is not None]
    least, best = min(compared, key=lambda pair: pair[0])
    plain = [pair for pair in compared if pair[1].setting.is_plain and pair[1].as_good]
    distance, chosen = plain[0] if plain else (least, best)
    why = f"its {_listed(MATCHED)} are {distance:.1f} standard errors from real text's, "
    rivals = [each.setting.name for _, each in compared if each.as_good and each is not chosen]
    if len(compared) == 1:
        why += "and no other setting was compared"
    elif chosen is not best:
        why += f"and {best.setting.name}, at {least:.1f}, is not surely nearer"
    elif rivals:
        why += f"nearest of all, though {_listed(rivals)} may be as near"
    else:
        why += "surely nearer than with any other setting"
    return chosen.setting, f"{chosen.setting.name}: {why}."


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
