"""Prompts whose tokens are scored: many together, and of each a block of tokens at a time.

Letters: B windows that are read together, T time, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from textwright.writing.backend import Backend, padded, visible, windows_of
from textwright.writing.request import EchoEvent, ErrorEvent, Request, Scored
from textwright.writing.sampling_steps import Logits, log_totals

ScorableT = TypeVar("ScorableT", bound="Scorable")
_IN_TURN = 4  # readings that have begun
_WINDOWS = 32  # that are read together
_LOGITS = 1 << 21  # of a block: 8 MB, and as much again for their exponentials


class Echoes:
    """All prompts that are scored. Those that came together are read together; those that came at
    other times in turn, so that a long one holds no other up."""

    def __init__(self, backend: Backend, stop_id: int) -> None:
        self._backend, self._stop_id = backend, stop_id
        self._new: list[Echo] = []
        self._readings: list[Reading[Echo]] = []

    def add(self, number: int, request: Request) -> None:
        """Score the prompt of a request, its first token as the beginning of a document."""
        self._new.append(Echo(number, request))

    def cancel(self, number: int) -> None:
        """Leave out the prompt of a request, if it is here."""
        self._new = [echo for echo in self._new if echo.number != number]
        for reading in self._readings:
            reading.drop(number)
        self._readings = [reading for reading in self._readings if reading.texts]

    def read(self, places: int) -> list[EchoEvent | ErrorEvent]:
        """Score about so many tokens → what came of it. Where not all that are read together can be
        scored, each is tried by itself."""
        if self._new:
            self._start(self._new)
            self._new = []
        if not self._readings:
            return []
        reading = self._readings.pop(0)
        try:
            ended = reading.read(places)
        except Exception as error:
            if len(reading.texts) == 1:
                return [ErrorEvent(reading.texts[0].number, error)]
            for echo in reading.texts:
                self._start([Echo(echo.number, echo.request)])
            return []
        if reading.texts:
            self._readings.insert(_IN_TURN - 1, reading)
        return [EchoEvent(echo.number, echo.in_order()) for echo in ended]

    def _start(self, echoes: Sequence[Echo]) -> None:
        self._readings.append(Reading(self._backend, self._stop_id, echoes))


class Scorable(Protocol):
    """Tokens to be scored. begin: place of the first that is scored; those before it are given ·
    left: how many are still to be scored."""

    number: int
    begin: int
    left: int

    @property
    def targets(self) -> Sequence[int]: ...

    def score(self, first: int, logits: Logits, totals: NDArray[np.float64]) -> None:
        """Take the logits (T, V) of the targets from `first` on, and their `log_totals` (T,)."""


class Echo:
    """The prompt of one request, with the scores of its tokens so far, by place."""

    begin = 0

    def __init__(self, number: int, request: Request) -> None:
        self.number, self.request = number, request
        self.targets = request.prompt.ids
        self.left = len(self.targets)
        self.scored: dict[int, Scored] = {}

    def score(self, first: int, logits: Logits, totals: NDArray[np.float64]) -> None:
        """Score the targets from `first` on by their logits (T, V) with `log_totals` (T,)."""
        count = self.request.logprobs or 0
        for place, (own, total) in enumerate(zip(logits, totals.tolist(), strict=True), first):
            scored = Scored.of(own, self.targets[place], count, total)
            assert scored is not None
            self.scored[place] = scored
        self.left -= len(logits)

    def in_order(self) -> list[Scored]:
        return [self.scored[place] for place in range(len(self.targets))]


class _Window(NamedTuple, Generic[ScorableT]):
    """The targets of a text from `first` to `end`, which the model sees from one place on."""

    text: ScorableT
    first: int
    end: int


class Reading(Generic[ScorableT]):
    """Texts that are scored together. After an error it cannot be used."""

    def __init__(self, backend: Backend, stop_id: int, texts: Sequence[ScorableT]) -> None:
        self.texts = list(texts)  # that have not ended
        self._backend, self._stop_id = backend, stop_id
        windows = [
            _Window(text, max(first, text.begin), end)
            for text in texts
            for _, first, end in windows_of(len(text.targets), backend.context_length)
            if end > text.begin
        ]
        # Those of about equal length run together.
        self._waiting = deque(sorted(windows, key=lambda window: window.first - window.end))
        self._running: list[_Window[ScorableT]] = []  # the longest first
        self._state: Any = None
        self._done = 0  # targets of each running window that are scored

    def drop(self, number: int) -> None:
        """Leave out the text of this number."""
        self.texts = [text for text in self.texts if text.number != number]
        self._waiting = deque(w for w in self._waiting if w.text.number != number)
        self._keep([p for p, w in enumerate(self._running) if w.text.number != number])

    def read(self, places: int) -> list[ScorableT]:
        """Score about so many tokens → the texts that have ended."""
        if self._running:
            self._read_on(places)
        elif self._waiting:
            self._begin()
        ended = [text for text in self.texts if not text.left]
        self.texts = [text for text in self.texts if text.left]
        return ended

    def _begin(self) -> None:
        """Read what the next windows see before their first target, and score that."""
        self._running = [self._waiting.popleft() for _ in range(min(_WINDOWS, len(self._waiting)))]
        self._done, limit = 0, self._backend.context_length
        seen = [visible(w.text.targets[: w.first], self._stop_id, limit) for w in self._running]
        logits, self._state = self._backend.prefill(*padded(seen))
        self._score(logits[:, None])

    def _read_on(self, places: int) -> None:
        """Read as far as the shortest of the windows goes, so that none is padded."""
        rows, shortest = len(self._running), self._running[-1]
        places = min(places, _LOGITS // self._vocab_size) // rows
        width = max(1, min(places, shortest.end - shortest.first - self._done))
        newest = (w.first + self._done - 1 for w in self._running)
        read = [w.text.targets[n : n + width] for w, n in zip(self._running, newest, strict=True)]
        logits, self._state = self._backend.follow(np.array(read, np.int64), self._state)
        self._score(logits)

    def _score(self, logits: Logits) -> None:
        """logits (B, T, V) of the next targets of each window."""
        _, width, self._vocab_size = logits.shape
        for window, *own in zip(self._running, logits, log_totals(logits), strict=True):
            window.text.score(window.first + self._done, *own)
        self._done += width
        going = [p for p, w in enumerate(self._running) if w.first + self._done < w.end]
        self._keep(going)

    def _keep(self, places: list[int]) -> None:
        if len(places) < len(self._running):
            self._running = [self._running[place] for place in places]
            self._state = self._state.select(places) if places else None
