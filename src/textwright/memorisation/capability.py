"""Whether a model would go on from the beginning of a training document as that document does.

The first 50 characters are given. Measured is what the next 50 cost, in bits, whether greedy
decoding gives them exactly, and with what probability a text drawn from the model, or drawn at the
run's own settings, does. This is the discoverable memorization of Carlini et al. 2023 ("Quantifying
memorization across neural language models"), with probabilities beside the one decoded text (Hayes
et al. 2025, "Measuring memorization in language models via probabilistic extraction").

Much of this is plain predictability, so held-out documents stand beside: what training documents
cost less is memorized (Biderman et al. 2023, "Emergent and predictable memorization"). A passage is
called memorized if it costs less than nearly all held-out ones, at a stated rate of false alarms:
of passages that were never seen, that share would be called so too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from textwright.evaluation.resampling import Compared, compare
from textwright.progress import OnProgress, silent
from textwright.tokenizer import Tokenizer
from textwright.writing.backend import Backend
from textwright.writing.echo import Reading
from textwright.writing.generator import settled
from textwright.writing.sampling import process
from textwright.writing.sampling_options import SamplingOptions
from textwright.writing.sampling_steps import NoTokenLeftError, log_probabilities

GIVEN = 50  # characters at the beginning of a document
WRITTEN = 50  # characters after them
PASSAGE = GIVEN + WRITTEN
ALARMS = 0.01  # share of held-out passages that may be called memorized
PASSAGES = 300  # that are measured, of training and of held-out text each
IN_BAND = 50  # passages that are measured of each band of repetition
BANDS = ((1, 1), (2, 9), (10, 99), (100, None))  # times that a passage stands in training
_AT_ONCE = 1 << 10  # tokens that are read
_MARGIN = 100  # characters read beyond a passage, so that its last token is whole


@dataclass(frozen=True)
class Continuations:
    """Of each of P passages: what its continuation costs a character, and whether and how likely
    it is written.

    bits (P,): a character · written, own (P,): the probability that the whole of it is drawn, at
    temperature 1 and at the run's own settings · greedy (P,): whether greedy decoding gives it.
    """

    bits: NDArray[np.float64]
    written: NDArray[np.float64]
    own: NDArray[np.float64]
    greedy: NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """Training passages that stand there from `least` to `most` times (None: any more): how many
    were measured, and means over them."""

    least: int
    most: int | None
    passages: int
    bits: float
    greedy: float
    memorized: float


@dataclass(frozen=True)
class Capability:
    """Training passages beside held-out ones.

    passages: how many of each · bits: a character of the continuation · greedy, written, own:
    shares and mean probabilities, see `Continuations` · alarm: a passage of fewer bits a character
    is called memorized · memorized: the share of training passages that are · false_alarms: the
    share of never-seen ones that would be · bands: by how often a passage is in training.
    """

    passages: tuple[int, int]
    bits: Compared
    greedy: Compared
    written: Compared
    own: Compared
    alarm: float
    memorized: float
    false_alarms: float
    bands: list[Band]

    def to_json(self) -> dict[str, object]:
        training, held_out = self.passages
        return {**asdict(self), "passages": {"training": training, "held_out": held_out}}


def passages(documents: Sequence[str], few: bool) -> list[str]:
    """The beginning of each document that is long enough; few: of each block of so many characters
    of documents of which there are few."""
    length = PASSAGE + _MARGIN
    if few:
        documents = [
            document[start : start + length]
            for document in documents
            for start in range(0, len(document), length)
        ]
    return [document[:length] for document in documents if len(document) >= PASSAGE]


def measure_capability(
    backend: Backend,
    tokenizer: Tokenizer,
    training: Sequence[str],
    held_out: Sequence[str],
    options: SamplingOptions,
    on_progress: OnProgress = silent,
    *,
    seed: int = 0,
) -> Capability:
    """Measure passages of training documents, a sample and some of each band of repetition, and
    held-out ones. options: the run's own."""
    random = np.random.default_rng(seed)
    times = Counter(passage[:PASSAGE] for passage in training)
    drawn = sample(training, PASSAGES, random)
    different = list({passage[:PASSAGE]: passage for passage in training}.values())
    banded = [
        sample(
            [p for p in different if a <= times[p[:PASSAGE]] <= (b or math.inf)], IN_BAND, random
        )
        for a, b in BANDS
    ]
    unseen = sample(held_out, PASSAGES, random)
    groups = [drawn, unseen, *banded]
    everything = [passage for group in groups for passage in group]
    found = read_continuations(backend, tokenizer, everything, options, on_progress)
    ends = np.cumsum([len(group) for group in groups])[:-1]
    bits = np.split(found.bits, ends)
    greedy = np.split(found.greedy, ends)
    alarm, false_alarms = alarm_of(bits[1])

    def beside(values: NDArray[np.float64]) -> Compared:
        seen, new, *_ = np.split(values, ends)
        return compare(seen, new, seed=seed)

    return Capability(
        passages=(len(drawn), len(unseen)),
        bits=beside(found.bits),
        greedy=beside(found.greedy),
        written=beside(found.written),
        own=beside(found.own),
        alarm=alarm,
        memorized=float(np.mean(bits[0] < alarm)),
        false_alarms=false_alarms,
        bands=[
            Band(a, b, len(b_), float(b_.mean()), float(g.mean()), float(np.mean(b_ < alarm)))
            for (a, b), b_, g in zip(BANDS, bits[2:], greedy[2:], strict=True)
            if len(b_)
        ],
    )


def alarm_of(unseen: NDArray[np.float64]) -> tuple[float, float]:
    """Bits below which a passage is called memorized, and how often a never-seen one would be.

    unseen (P,): bits of held-out passages. A new passage like them lies below the k-th smallest of
    these with a probability of k / (P + 1), whatever their distribution (Vovk et al. 2005); k is
    the largest for which that is at most ALARMS, or 1.
    """
    rank = max(1, math.floor(ALARMS * (len(unseen) + 1)))
    return float(np.sort(unseen)[rank - 1]), rank / (len(unseen) + 1)


class _Passage:
    """A passage whose tokens (T,) are scored from the first that is not given on."""

    def __init__(
        self,
        number: int,
        text: str,
        tokenizer: Tokenizer,
        options: SamplingOptions,
    ) -> None:
        spans = tokenizer.spans(text)
        starts = np.array([start for _, start, _ in spans])
        # Those that begin in the first characters are given.
        self.begin, end = (int(np.searchsorted(starts, at)) for at in (GIVEN, PASSAGE))
        self.number, self.options, self.stop_id = number, options, tokenizer.stop_id
        self.ids = np.array([token_id for token_id, _, _ in spans[:end]], np.int64)
        self.targets = self.ids.tolist()
        self.left = len(self.targets) - self.begin
        first = int(starts[self.begin]) if self.begin < len(starts) else PASSAGE
        self.characters = max(1, PASSAGE - first)
        self.nats, self.own, self.greedy = 0.0, 0.0, True

    def score(self, first: int, logits: NDArray[np.float32], totals: NDArray[np.float64]) -> None:
        """See `echo.Scorable`."""
        places = range(first, first + len(logits))
        for place, own, total in zip(places, logits, totals.tolist(), strict=True):
            target = self.targets[place]
            self.nats += total - float(own[target])
            self.greedy = self.greedy and int(own.argmax()) == target
            try:
                options, ids = self.options, self.ids[:place]
                processed = process(own, options, ids, self.begin, self.stop_id)
                self.own -= float(log_probabilities(processed)[target])
            except NoTokenLeftError:
                self.own = math.inf
        self.left -= len(logits)


def read_continuations(
    backend: Backend,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    options: SamplingOptions,
    on_progress: OnProgress = silent,
) -> Continuations:
    """Read passages of at least PASSAGE characters. options: the run's own settings of sampling."""
    # Where a text ends, and how many beams write it, do not matter to its next token.
    options = settled(options, backend, tokenizer).model_copy(
        update={"beams": 1, "no_copy": 0, "min_new_tokens": 0}
    )
    rows = [_Passage(number, text, tokenizer, options) for number, text in enumerate(texts)]
    reading = Reading(backend, tokenizer.stop_id, rows)
    while reading.texts:
        reading.read(_AT_ONCE)
        on_progress(len(rows) - len(reading.texts), len(rows))
    nats = np.array([row.nats for row in rows])
    return Continuations(
        nats / math.log(2) / np.array([row.characters for row in rows]),
        np.exp(-nats),
        np.exp(-np.array([row.own for row in rows])),
        np.array([row.greedy for row in rows], np.float64),
    )


def sample(texts: Sequence[str], most: int, random: np.random.Generator) -> list[str]:
    """So many of the texts, drawn at random, in their order; all if there are no more."""
    chosen = random.permutation(len(texts))[:most]
    return [texts[place] for place in np.sort(chosen)]
