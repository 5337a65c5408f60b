"""How much a model copies of its training text when it writes by itself, beside real text.

Of what it writes: the longest span that stands in the training text, and the share of sequences of
words and of characters that do not (n-gram novelty, McCoy et al. 2023, "How much do language models
copy from their training data?"). Real text repeats other text of its kind too, so what counts is
the excess over held-out documents of the same lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from textwright.errors import EvaluationError
from textwright.evaluation.copying import TEXTS
from textwright.evaluation.resampling import Compared, compare
from textwright.memorisation.training_text import UNITS, Novelty, Span, TrainingText
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions

CHARACTERS_WRITTEN = 600  # of each text, at most
LISTED = 5  # the longest copied spans


@dataclass(frozen=True)
class Propensity:
    """What a model copies at one setting of sampling, beside as many held-out texts, each cut to
    the length of one that was written.

    longest: mean over texts, in characters · longest_of_all: of what was written, and of held-out
    text · novel: share of new sequences, by unit and length · copied: the longest spans.
    """

    texts: int
    characters: int
    longest: Compared
    longest_of_all: tuple[int, int]
    novel: dict[str, dict[int, Compared]]
    copied: list[Span]

    def to_json(self) -> dict[str, object]:
        written, held_out = self.longest_of_all
        return {
            **asdict(self),
            "longest_of_all": {"run": written, "held_out": held_out},
            "copied": [span.to_json() for span in self.copied],
        }


def write_texts(
    generator: Generator, options: SamplingOptions, max_new_tokens: int, texts: int, seed: int
) -> list[str]:
    """What a model writes from nothing, each text once, without those that are empty."""
    options = options.model_copy(
        update={
            "max_new_tokens": max_new_tokens,
            "min_new_tokens": min(options.min_new_tokens, max_new_tokens),
        }
    )
    # As prompts of their own: of beams, each writes its best text.
    count = 1 if options.temperature == 0 else texts
    samples = generator.generate([""] * count, options, seed=seed)
    return list(dict.fromkeys(sample.text for sample in samples if sample.text.strip()))


def measure_propensity(
    training: TrainingText,
    generator: Generator,
    options: SamplingOptions,
    held_out: Sequence[str],
    *,
    texts: int = TEXTS,
    seed: int = 0,
) -> Propensity:
    """Write texts and measure them. held_out: documents, or pieces of few long ones.

    Raises EvaluationError where the model writes nothing, or nothing is held out.
    """
    real = [text for text in training.as_read(held_out) if text.strip()]
    if not real:
        raise EvaluationError("No text is held out to compare with: name another corpus.")
    written = write_texts(generator, options, _tokens(generator, real), texts, seed)
    if not written:
        raise EvaluationError(
            "The run writes nothing but empty texts at these settings, so there is nothing to "
            "measure: set sample.min_new_tokens."
        )
    order = np.random.default_rng(seed).permutation(len(real))
    mine, theirs = _matched(written, [real[place] for place in order])
    of_mine, of_theirs = training.novelty(mine), training.novelty(theirs)
    return Propensity(
        texts=len(mine),
        characters=sum(map(len, mine)),
        longest=compare(of_mine.longest, of_theirs.longest, seed=seed),
        longest_of_all=(int(of_mine.longest.max()), int(of_theirs.longest.max())),
        novel=_novel(of_mine, of_theirs, seed),
        copied=_longest_spans(training, mine),
    )


def _tokens(generator: Generator, real: Sequence[str]) -> int:
    """About as many tokens as CHARACTERS_WRITTEN take."""
    sample = real[:TEXTS]
    tokens = sum(len(ids) for ids in generator.tokenizer.encode_batch(sample))
    return max(1, round(CHARACTERS_WRITTEN * tokens / sum(map(len, sample))))


def _matched(written: list[str], real: list[str]) -> tuple[list[str], list[str]]:
    """Equally many of both, in order of length, each pair cut to the shorter of the two."""
    count = min(len(written), len(real))
    mine, theirs = sorted(written[:count], key=len), sorted(real[:count], key=len)
    lengths = [min(len(one), len(other)) for one, other in zip(mine, theirs, strict=True)]
    return (
        [_cut(text, length) for text, length in zip(mine, lengths, strict=True)],
        [_cut(text, length) for text, length in zip(theirs, lengths, strict=True)],
    )


def _cut(text: str, length: int) -> str:
    """The text, or as many of its first words as fit: half a word would be a new one."""
    if len(text) <= length:
        return text
    cut = text[: length + 1]
    return cut[: max(cut.rfind(" "), cut.rfind("\n"))] if " " in cut.strip() else text[:length]


def _novel(mine: Novelty, theirs: Novelty, seed: int) -> dict[str, dict[int, Compared]]:
    novel: dict[str, dict[int, Compared]] = {}
    for unit in UNITS:
        kind, length = unit
        if mine.all[unit].sum() and theirs.all[unit].sum():  # else all texts are shorter
            compared = compare(
                mine.new[unit], theirs.new[unit], mine.all[unit], theirs.all[unit], seed=seed
            )
            novel.setdefault(kind, {})[length] = compared
    return novel


def _longest_spans(training: TrainingText, texts: Sequence[str]) -> list[Span]:
    found = [
        (start - end, number, start, end)
        for number, stretches in enumerate(training.stretches(texts))
        for start, end in stretches
    ]
    longest: dict[str, Span] = {}
    for _, number, start, end in sorted(found):
        if len(longest) == LISTED:
            break
        if texts[number][start:end] not in longest:
            longest[texts[number][start:end]] = training.span(texts[number], start, end)
    return list(longest.values())
