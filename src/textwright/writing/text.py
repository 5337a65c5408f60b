"""One text while it is written: its ids, the text that can be shown, and why it ends."""

from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from textwright.tokenizer import Tokenizer
from textwright.writing.prompt import Prompt
from textwright.writing.rows import Row
from textwright.writing.sampling import choose
from textwright.writing.sampling_options import SamplingOptions
from textwright.writing.sampling_steps import Ids, bits_without
from textwright.writing.sequences import KnownSequences

# stop: the stop token or a stop text came · length: max_new_tokens are written ·
# no_token_left: every token that could come next is banned
FinishReason = Literal["stop", "length", "no_token_left"]


_NO_IDS: Ids = np.empty(0, np.int64)


class TokenEvent(NamedTuple):
    """One token of one sample. The texts of a sample's events, joined, are the sample's text."""

    sample: int  # prompt number · num + number of the sample within its prompt
    text: str  # what can be shown now; may be empty, and may come later than its token
    id: int | None  # None where no token was written: the sample ended instead
    finish_reason: FinishReason | None  # set on the sample's last event
    logprob: float | None = None  # of the id, in nats, where log-probabilities were requested


@dataclass(frozen=True)
class Cost:
    """What the rule against copies cost. bits: how much less likely the model's own distribution is
    to write within the rule, Σ −log₂(1 − the probability of what was forbidden), which is the
    Kullback-Leibler divergence of writing by the rule from writing without · places: how often
    something was forbidden."""

    bits: float = 0.0
    places: int = 0

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.bits + other.bits, self.places + other.places)


class Text(Row):
    """A row whose new ids are turned into text as they come."""

    def __init__(
        self,
        sample: int,
        number: int,
        prompt: Prompt,
        options: SamplingOptions,
        tokenizer: Tokenizer,
        known: KnownSequences | None = None,
    ) -> None:
        super().__init__(number, prompt.ids)
        self.sample = sample
        self.prompt_length = len(prompt.ids)
        self.options = options
        self.stop_id = tokenizer.stop_id
        self._known, self._vocab_size = known, tokenizer.vocab_size
        self._guide = prompt.make_guide() if prompt.make_guide else None
        self._decoder = tokenizer.decoder(prompt.ids)
        self._watch = StopWatch(options.stop) if options.stop else None

    @property
    def copied(self) -> Ids:
        """The ids that would complete a sequence of the training text, where that is forbidden."""
        if self._known is None:
            return _NO_IDS
        return self._known.completing(np.frombuffer(self.ids, np.int64), self._vocab_size)

    def take(self, new_id: int, logprob: float | None = None) -> TokenEvent:
        """Append the id, or end the text if it is the stop id."""
        if new_id == self.stop_id:
            return self.end("stop")
        self.ids.append(new_id)
        text = self._decoder.push(new_id)
        if self._guide:
            text = self._guide.push(text)
        count = len(self.ids) - self.prompt_length
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
        return TokenEvent(self.sample, text, new_id, reason, logprob)

    def end(self, reason: FinishReason) -> TokenEvent:
        """End the text without another id; what was held back is shown."""
        text = self._rest()
        if self._watch:
            text = self._watch.push(text) + self._watch.flush()
        return TokenEvent(self.sample, text, None, reason)

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


class Drawn(Text):
    """A text whose ids are drawn one by one; its guide, if it has one, may force some of them."""

    def __init__(
        self,
        sample: int,
        number: int,
        prompt: Prompt,
        options: SamplingOptions,
        tokenizer: Tokenizer,
        draws: np.random.Generator,
        known: KnownSequences | None = None,
    ) -> None:
        super().__init__(sample, number, prompt, options, tokenizer, known)
        self._draws = draws
        self.cost = Cost()  # of its newest id

    def choose(self, logits: NDArray[np.float32]) -> int:
        """The next id, given its logits (V,). Raises NoTokenLeftError where none is possible."""
        self.cost = Cost()
        if self._guide and (forced := self._guide.forced_id()) is not None:
            self._draws.random()  # each place has a draw, so that later places keep theirs
            return forced
        copied = self.copied
        if len(copied):
            self.cost = Cost(bits_without(logits, copied), 1)
        ids = np.frombuffer(self.ids, np.int64)  # a view: `ids` may grow once it is gone
        return choose(
            logits, self.options, self._draws, ids, self.prompt_length, self.stop_id, copied
        )


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
        held = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """The text that was held back, when no more text follows."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of text that begins the stop text."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
