"""One text while it is written: its ids, the text that can be shown, and why it ends."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Self

import numpy as np

from textwright.tokenizer import Tokenizer
from textwright.writing.request import NO_COST, Cost, FinishReason, Request, Scored, TokenEvent
from textwright.writing.rows import Row
from textwright.writing.sampling_steps import Ids

_NO_IDS: Ids = np.empty(0, np.int64)


class Text(Row):
    """A row whose new ids are turned into text as they come."""

    def __init__(self, number: int, sample: int, request: Request, tokenizer: Tokenizer) -> None:
        """number: of the request · sample: of the text within it."""
        super().__init__(number, request.prompt.ids)
        self.sample = sample
        self.request = request
        self.options = request.options
        self.prompt_length = len(request.prompt.ids)
        self.stop_id = tokenizer.stop_id
        self._vocab_size = tokenizer.vocab_size
        self._guide = request.prompt.make_guide() if request.prompt.make_guide else None
        self._decoder = tokenizer.decoder(request.prompt.ids)
        self._watch = StopWatch(self.options.stop) if self.options.stop else None

    @property
    def count(self) -> int:
        """The number of its new tokens."""
        return len(self.ids) - self.prompt_length

    @property
    def history(self) -> Ids:
        """The prompt's ids, then those of the text: a view that must not outlive the next id."""
        return np.frombuffer(self.ids, np.int64)

    @property
    def waits(self) -> bool:
        """Whether a given field has yet to come, so that the stop token cannot end the text."""
        return self._guide is not None and self._guide.waits

    @property
    def copied(self) -> Ids:
        """The ids that would complete a sequence of the training text, where that is forbidden."""
        if self.request.known is None:
            return _NO_IDS
        return self.request.known.completing(self.history, self._vocab_size)

    def take(self, new_id: int, scored: Scored | None = None, cost: Cost = NO_COST) -> TokenEvent:
        """Append the id, or end the text if it is the stop id."""
        if new_id == self.stop_id:
            return self.end("stop", scored, cost)
        self.ids.append(new_id)
        text = self._decoder.push(new_id)
        if self._guide:
            text = self._guide.push(text)
        count = self.count
        reason: FinishReason | None = None
        if count >= self.options.max_new_tokens:
            text += self._rest()
            reason = "length"
        # What the first min_new_tokens tokens spell cannot end the text.
        if self._watch and count > self.options.min_new_tokens:
            text = self._watch.push(text)
            if self._watch.found:
                reason = "stop"
            elif reason:
                text += self._watch.flush()
        return TokenEvent(self.prompt, self.sample, text, new_id, reason, scored, cost)

    def end(
        self, reason: FinishReason, scored: Scored | None = None, cost: Cost = NO_COST
    ) -> TokenEvent:
        """End the text without another id; what was held back is shown."""
        text = self._rest()
        if self._watch:
            text = self._watch.push(text) + self._watch.flush()
        return TokenEvent(self.prompt, self.sample, text, None, reason, scored, cost)

    def fork(self) -> Self:
        """A copy of the text so far, which can go on in another way. Needs a text without guide."""
        twin = copy(self)
        twin.ids = self.ids[:]
        twin._decoder = self._decoder.fork()
        twin._watch = copy(self._watch)
        return twin

    def _rest(self) -> str:
        """The text that the decoder held back, when no id follows."""
        rest = self._decoder.flush()
        return self._guide.flush(rest) if self._guide else rest


class StopWatch:
    """Passes text on until it contains one of the stop texts, however it is cut into pieces.

    Text that may still become a stop text is held back. Of two stop texts, the one that is
    complete first counts; if both are at once, the longer one.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """What can be shown of the text so far: nothing of a stop text or of what follows it."""
        if self.found:
            return ""
        text = self._held + text
        ends = [
            (start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0
        ]
        if ends:
            self.found = True
            self._held = ""
            return text[: min(ends)[1]]
        held = max(overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """The text that was held back, when no more text follows."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """The length of the longest end of text that begins the stop text."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
