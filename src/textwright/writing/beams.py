"""Beam search and sampled beams: several texts of one prompt side by side, the best of them kept.

Every running beam is continued by every token that the sampling order leaves it. A continuation's
score is the sum of its tokens' log-probabilities as that order has processed them, not normalized
again. Of all continuations of all beams, twice as many are looked at as there are beams: the best
(temperature 0), or as many drawn without replacement in proportion to exp(score). Of these, those
that end are finished if they are among the first half, and the best of the others go on.

The order of things is that of `transformers` 5.23 (`GenerationMixin._beam_search`). It departs from
it where too few continuations are possible: there none is made up.

Letters: B beams that run, V vocabulary.
"""

from collections.abc import Iterator
from itertools import groupby, islice
from typing import Self

import numpy as np
from numpy.typing import NDArray

from textwright.errors import GenerationError
from textwright.writing.backend import Backend
from textwright.writing.rows import RunningBatch
from textwright.writing.sampling import penalize, truncate
from textwright.writing.sampling_steps import (
    NO_TOKEN_LEFT,
    Ids,
    draw_several,
    log_probabilities,
    peak,
)
from textwright.writing.text import Text, TokenEvent

Scores = NDArray[np.float64]


class Beam(Text):
    """One text among those that a search follows."""

    search: "Search"
    score = 0.0  # the sum of its tokens' processed log-probabilities
    events: tuple[TokenEvent, ...] = ()

    def extend(self, new_id: int, score: float, logprob: float) -> Self:
        """The beam that goes on from this one with another id."""
        longer = self.fork()
        longer.events = (*self.events, longer.take(new_id, logprob))
        longer.score = score
        return longer

    @property
    def ended(self) -> bool:
        return self.events[-1].finish_reason is not None

    @property
    def value(self) -> float:
        """What finished beams are ranked by. The stop token counts as one of its tokens."""
        value: float = self.score / len(self.events) ** self.options.length_penalty
        return value


class Search:
    """The beams of one prompt: what runs, and the best of what has finished, best first."""

    def __init__(self, prompt: Beam, draws: np.random.Generator) -> None:
        prompt.search = self
        self.running = [prompt]
        self.finished: list[Beam] = []
        self._options = prompt.options
        self._draws = draws

    def step(self, logits: NDArray[np.float32]) -> list[int]:
        """Continue the running beams, given the logits (B, V) after each of them.

        → the place that each beam that now runs had its parent at; none when the search is over.
        Raises GenerationError where no token is left, or the logits are not numbers.
        """
        beams = self._options.beams
        peak(logits.max(axis=-1))
        logprobs = log_probabilities(logits)
        parents, ids, scores = self._continuations(logprobs.astype(np.float32))
        if not len(scores) and not self.finished:
            raise GenerationError(NO_TOKEN_LEFT)
        going: list[tuple[int, Beam]] = []
        for rank, choice in enumerate(self._choose(scores)):
            place, new_id = int(parents[choice]), int(ids[choice])
            beam = self.running[place].extend(
                new_id, float(scores[choice]), float(logprobs[place, new_id])
            )
            if not beam.ended:
                going.append((place, beam))
            elif rank < beams:
                self.finished.append(beam)
        going.sort(key=lambda pair: -pair[1].score)
        self.running = [beam for _, beam in going[:beams]]
        self.finished = sorted(self.finished, key=lambda beam: -beam.value)[:beams]
        if self._is_over():
            self.running = []
        return [place for place, _ in going[: len(self.running)]]

    def events(self, num: int) -> Iterator[TokenEvent]:
        """The `num` best texts, one after another. Raises GenerationError where there are fewer."""
        if len(self.finished) < num:
            raise GenerationError(
                f"{num} texts were asked for, and the beams of a prompt came to "
                f"{len(self.finished)}: ask for fewer, or ban fewer tokens."
            )
        for number, beam in enumerate(self.finished[:num]):
            for event in beam.events:
                yield event._replace(sample=event.sample + number)

    def _continuations(self, logprobs: NDArray[np.float32]) -> tuple[Ids, Ids, Scores]:
        """All that is possible: the place of the beam, the id, the score of the two together."""
        found = [self._weigh(beam, row) for beam, row in zip(self.running, logprobs, strict=True)]
        places = np.repeat(np.arange(len(found)), [len(ids) for ids, _ in found])
        return places, np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])

    def _weigh(self, beam: Beam, logprobs: NDArray[np.float32]) -> tuple[Ids, Scores]:
        """The ids that may follow a beam, and the scores with which they would."""
        options = self._options
        told = np.frombuffer(beam.ids, np.int64)
        logprobs = penalize(logprobs, options, told, beam.prompt_length, beam.stop_id)
        ids = np.flatnonzero(logprobs > -np.inf)
        temperature = 1.0
        if options.temperature and len(ids):
            ids = np.flatnonzero(truncate(logprobs, options) > -np.inf)
            temperature = max(options.temperature, 1e-30)  # as in `temper`
        return ids, beam.score + logprobs[ids].astype(np.float64) / temperature

    def _choose(self, scores: Scores) -> list[int]:
        """Twice as many places as there are beams, the best or in the order drawn."""
        count = 2 * self._options.beams
        if self._options.temperature:
            return draw_several(scores, self._draws.random(count))
        # Of equals, the better beam's come first, then lower ids.
        least = np.partition(scores, -count)[-count] if count < len(scores) else -np.inf
        best = np.flatnonzero(scores >= least)
        ranked: list[int] = best[np.argsort(-scores[best], kind="stable")][:count].tolist()
        return ranked

    def _is_over(self) -> bool:
        if not self.running or len(self.finished) < self._options.beams:
            return not self.running
        if self._options.early_stopping is True:
            return True
        best = self.running[0]
        length = len(best.events)
        if self._options.early_stopping == "never" and self._options.length_penalty > 0:
            length = self._options.max_new_tokens
        possible: float = best.score / length**self._options.length_penalty
        return possible <= self.finished[-1].value


def write_searches(
    searches: Iterator[Search], backend: Backend, stop_id: int, width: int, num: int
) -> Iterator[TokenEvent]:
    """The events of the `num` best texts of each search, once it is over; `width` run together."""
    batch: RunningBatch[Beam] = RunningBatch(backend, stop_id)
    going = 0
    while True:
        # Searches join when half the places are free: each joining costs the others a pause.
        if going <= width // 2:
            joining = list(islice(searches, width - going))
            batch.admit([beam for search in joining for beam in search.running])
            going += len(joining)
        if not batch.rows:
            return
        rows: list[Beam] = []
        places: list[int] = []
        start = 0
        for search, beams in groupby(batch.rows, key=lambda beam: beam.search):
            end = start + len(list(beams))
            places += [start + parent for parent in search.step(batch.logits[start:end])]
            rows += search.running
            if not search.running:
                yield from search.events(num)
                going -= 1
            start = end
        batch.replace(rows, places)
        batch.advance()
