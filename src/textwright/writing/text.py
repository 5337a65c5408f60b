"""One text on its way: from ids to what can be shown, and where it ends."""

from collections.abc import Sequence
from copy import copy
from typing import Literal, NamedTuple, Self

from textwright.tokenizer import Tokenizer
from textwright.writing.rows import Row
from textwright.writing.sampling import SamplingOptions

FinishReason = Literal["stop", "length"]


class TokenEvent(NamedTuple):
    """One token of one sample. A sample's texts, put together, are the sample's text."""

    sample: int  # which: prompt number · num + number within the prompt
    text: str  # what can be shown now; may be empty, and may come later than its token
    id: int | None  # None for the event that tells of the stop token
    finish_reason: FinishReason | None  # set on the sample's last event
    logprob: float | None = None  # of the id, in nats, where that was asked for


class Text(Row):
    """A row whose new ids are turned into text as they come."""

    def __init__(
        self,
        sample: int,
        prompt: int,
        prompt_ids: Sequence[int],
        options: SamplingOptions,
        tokenizer: Tokenizer,
    ) -> None:
        super().__init__(prompt, prompt_ids)
        self.sample = sample
        self.prompt_length = len(prompt_ids)
        self.options = options
        self.stop_id = tokenizer.stop_id
        self._decoder = tokenizer.decoder(prompt_ids)
        self._watch = StopWatch(options.stop) if options.stop else None

    def take(self, new_id: int, logprob: float | None = None) -> TokenEvent:
        """Append the id, or end at it."""
        if new_id == self.stop_id:
            text = self._decode_rest()
            if self._watch:
                text = self._watch.push(text) + self._watch.flush()
            return TokenEvent(self.sample, text, None, "stop")
        self.ids.append(new_id)
        text = self._decode(new_id)
        count = len(self.ids) - self.prompt_length
        reason: FinishReason | None = None
        if count >= self.options.max_new_tokens:
            text += self._decode_rest()
            reason = "length"
        # What the first min_new_tokens tokens spell cannot end the text.
        if self._watch and count > self.options.min_new_tokens:
            text = self._watch.push(text)
            if self._watch.found:
                reason = "stop"
            elif reason:
                text += self._watch.flush()
        return TokenEvent(self.sample, text, new_id, reason, logprob)

    def _decode(self, new_id: int) -> str:
        """The text that this id makes final."""
        return self._decoder.push(new_id)

    def _decode_rest(self) -> str:
        """What was held back, when no id follows."""
        return self._decoder.flush()

    def fork(self) -> Self:
        """The same text so far, to go on in another way."""
        twin = copy(self)
        twin.ids = self.ids[:]
        twin._decoder = self._decoder.fork()
        twin._watch = copy(self._watch)
        return twin


class StopWatch:
    """Lets text through until one of the stop texts is complete, in whatever pieces it comes.

    Text that may still become a stop text is held back. Of two stop texts, the one complete first
    counts; complete at once, the longer one.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """What can be shown: nothing of a stop text, nor of what follows it."""
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
        held = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """What was held back, when no more text follows."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of text that begins the stop text."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
