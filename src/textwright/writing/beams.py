"""Beam search and sampled beams: several texts of one prompt side by side, the best of them kept.

Every running beam is continued by every token that the sampling order leaves. The score of a
continuation is the sum of its tokens' log-probabilities after the steps of that order, without
normalizing them again. Of all continuations of all beams, twice as many are taken as there are
beams: the best ones (temperature 0), or ones drawn without replacement in proportion to exp(score).
Of these, those that end are finished if they are among the first half, and the best of the others
go on.

The procedure is that of `transformers` 5.23 (`GenerationMixin._beam_search`), with one exception:
where fewer continuations are possible, fewer are taken, and no banned one is added.

Letters: B running beams, V vocabulary.
"""

from collections.abc import Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray

from textwright.writing.request import Scored, TokenEvent
from textwright.writing.sampling import penalize, truncate
from textwright.writing.sampling_steps import (
    Ids,
    NoTokenLeftError,
    draw_several,
    likeliest_ids,
    log_probabilities,
    peak,
)
from textwright.writing.text import Text

Scores = NDArray[np.float64]


class Beam(Text):
    """One text among those that a search follows."""

    search: "Search"
    score = 0.0  # the sum of its tokens' processed log-probabilities
    events: tuple[TokenEvent, ...] = ()

    @property
    def group(self) -> "Search":
        return self.search

    def extend(self, new_id: int, score: float, scored: Scored | None) -> Self:
        """A new beam: this one with another id."""
        longer = self.fork()
        longer.events = (*self.events, longer.take(new_id, scored))
        longer.score = score
        return longer

    @property
    def ended(self) -> bool:
        return self.events[-1].finish_reason is not None

    @property
    def value(self) -> float:
        """The number that finished beams are ranked by. The stop token counts as a token."""
        value: float = self.score / len(self.events) ** self.options.length_penalty
        return value


class Search:
    """The beams of a request: those that run, and the best of those that finished, best first."""

    def __init__(self, prompt: Beam, draws: np.random.Generator) -> None:
        prompt.search = self
        self.running = [prompt]
        self.finished: list[Beam] = []
        self._stuck: list[Beam] = []  # those that ran when none could go on
        self.number, self._request = prompt.prompt, prompt.request
        self._options = prompt.options
        self._draws = draws

    def step(self, logits: NDArray[np.float32]) -> list[int]:
        """Continue the running beams, given the logits (B, V) after each of them.

        Returns for each beam that now runs the place of its parent; nothing when the search is
        over. Raises GenerationError where the logits are not numbers.
        """
        beams = self._options.beams
        try:
            peak(logits.max(axis=-1))
            logprobs = log_probabilities(logits)
            parents, ids, scores = self._continuations(logprobs.astype(np.float32))
        except NoTokenLeftError:
            self.running, self._stuck = [], self.running
            return []
        going: list[tuple[int, Beam]] = []
        for rank, choice in enumerate(self._choose(scores)):
            place, new_id = int(parents[choice]), int(ids[choice])
            scored = Scored.of(logprobs[place], new_id, self._request.logprobs)
            beam = self.running[place].extend(new_id, float(scores[choice]), scored)
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

    def events(self) -> Iterator[TokenEvent]:
        """The events of the best texts, as many as requested, one text after another.

        Where fewer have finished, those that could not go on come next, with the finish reason
        `no_token_left`; where there are still fewer, the missing texts are empty.
        """
        for sample in range(self._request.num):
            if self.finished:
                events = self.finished.pop(0).events
            elif self._stuck:
                beam = self._stuck.pop(0)
                events = (*beam.events, beam.end("no_token_left"))
            else:
                events = (TokenEvent(self.number, sample, "", None, "no_token_left"),)
            for event in events:
                yield event._replace(sample=sample)

    def _continuations(self, logprobs: NDArray[np.float32]) -> tuple[Ids, Ids, Scores]:
        """All possible continuations: place of the beam, id, and score of the two together.

        Raises NoTokenLeftError where there are none.
        """
        found = [self._weigh(beam, row) for beam, row in zip(self.running, logprobs, strict=True)]
        if not any(len(ids) for ids, _ in found):
            raise NoTokenLeftError
        places = np.repeat(np.arange(len(found)), [len(ids) for ids, _ in found])
        return places, np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])

    def _weigh(self, beam: Beam, logprobs: NDArray[np.float32]) -> tuple[Ids, Scores]:
        """The ids that may follow a beam, and the score of the beam with each of them.

        logprobs (V,), which are overwritten.
        """
        options = self._options
        penalize(logprobs, options, beam.history, beam.prompt_length, beam.stop_id, beam.copied)
        ids = np.flatnonzero(logprobs > -np.inf)
        temperature = 1.0
        if options.temperature and len(ids):
            ids = np.flatnonzero(truncate(logprobs, options) > -np.inf)
            temperature = max(options.temperature, 1e-30)  # as in `temper`
        return ids, beam.score + logprobs[ids].astype(np.float64) / temperature

    def _choose(self, scores: Scores) -> list[int]:
        """Twice as many places as there are beams: the best first, or in the order of drawing."""
        count = 2 * self._options.beams
        if self._options.temperature:
            return draw_several(scores, self._draws.random(count))
        # Of equals, those of the better beam come first, then lower ids.
        best: list[int] = likeliest_ids(scores, count).tolist()
        return best

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
