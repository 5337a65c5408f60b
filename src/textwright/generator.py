"""The one decode loop: prompts in, text out, over any backend.

A backend reads ids and gives the logits of the next one; everything else about writing happens
here: which rows run together, drawing, stopping, turning ids into text as they come.

Letters: B rows that run together, T time, V vocabulary.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from textwright.batching import Backend, Batch, Row
from textwright.errors import GenerationError
from textwright.sampling import SamplingOptions, choose, uniforms
from textwright.tokenizer import Tokenizer
from textwright.tokenizer.treatment import UNKNOWN

__all__ = ["Backend", "Event", "Generator", "Sample", "StopWatch", "Stream"]

FinishReason = Literal["stop", "length"]


class Event(NamedTuple):
    """One token of one sample. A sample's texts, put together, are the sample's text."""

    sample: int  # which: prompt number · num + number within the prompt
    text: str  # what can be shown now; may be empty, and may come later than its token
    id: int | None  # None for the event that tells of the stop token
    finish_reason: FinishReason | None  # set on the sample's last event


@dataclass(frozen=True)
class Sample:
    """One finished text. `text` goes on from the prompt and does not repeat it."""

    prompt: str
    text: str
    ids: list[int]  # all new tokens, those of a stop text included, the stop token not
    finish_reason: FinishReason


class Generator:
    """Writes texts with a backend and the tokenizer it was trained with.

    `batch_size` rows run together at most, however many texts are asked for.
    """

    def __init__(self, backend: Backend, tokenizer: Tokenizer, *, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise GenerationError(f"The batch size is {batch_size}: give 1 or more.")
        self.backend = backend
        self.tokenizer = tokenizer
        self.batch_size = batch_size

    def stream(
        self,
        prompts: str | Sequence[str],
        options: SamplingOptions | None = None,
        *,
        num: int = 1,
        seed: int = 0,
    ) -> "Stream":
        """`num` texts for each prompt, token by token, as they are written.

        A text's draws depend on the seed and on its number among the samples of its prompt (a
        prompt that is given again counts on), and on nothing else that is written with it.
        Raises GenerationError where an option does not suit the tokenizer.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if num < 1:
            raise GenerationError(f"{num} texts were asked for: ask for 1 or more.")
        uniforms(seed, 0)  # refuse a bad seed now, not at the first token
        return Stream(
            self, prompts, _with_ids(options or SamplingOptions(), self.tokenizer), num, seed
        )

    def generate(
        self,
        prompts: str | Sequence[str],
        options: SamplingOptions | None = None,
        *,
        num: int = 1,
        seed: int = 0,
    ) -> list[Sample]:
        """`num` finished texts for each prompt, in the order of the prompts. See `stream`."""
        return list(self.stream(prompts, options, num=num, seed=seed).samples())


class Stream(Iterator[Event]):
    """The events of one call, and what they took.

    `seconds` counts the time spent here, not the reader's; `tokens` the ids written so far.
    """

    def __init__(
        self,
        generator: Generator,
        prompts: list[str],
        options: SamplingOptions,
        num: int,
        seed: int,
    ) -> None:
        tokenizer = generator.tokenizer
        self.prompts = prompts
        self.num = num
        self.tokens = 0
        self.seconds = 0.0
        start = perf_counter()
        self._prompt_ids = [ids.tolist() for ids in tokenizer.encode_batch(prompts)]
        # The words of each prompt that the model has never seen, for the caller to tell.
        self.unknown = [
            tokenizer.unknown(prompt) if tokenizer.unknown_id in ids else []
            for prompt, ids in zip(prompts, self._prompt_ids, strict=True)
        ]
        self._events = self._write(generator, options, seed)
        self.seconds += perf_counter() - start

    def __next__(self) -> Event:
        start = perf_counter()
        try:
            event = next(self._events)
        finally:
            self.seconds += perf_counter() - start
        if event.id is not None:
            self.tokens += 1
        return event

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.tokens else 0.0

    def samples(self) -> Iterator[Sample]:
        """The finished texts, in the order of the prompts; each as soon as those before it are."""
        texts: dict[int, list[str]] = {}
        ids: dict[int, list[int]] = {}
        finished: dict[int, FinishReason] = {}
        turn = 0
        for event in self:
            texts.setdefault(event.sample, []).append(event.text)
            new_ids = ids.setdefault(event.sample, [])
            if event.id is not None:
                new_ids.append(event.id)
            if event.finish_reason is not None:
                finished[event.sample] = event.finish_reason
            while turn in finished:
                prompt = self.prompts[turn // self.num]
                yield Sample(prompt, "".join(texts.pop(turn)), ids.pop(turn), finished.pop(turn))
                turn += 1

    def _write(self, generator: Generator, options: SamplingOptions, seed: int) -> Iterator[Event]:
        waiting = self._rows(generator.tokenizer, options, seed)
        batch: Batch[_Text] = Batch(generator.backend, generator.tokenizer.stop_id)
        while True:
            # Rows join when half the places are free: each joining costs the others a pause.
            if len(batch.rows) <= generator.batch_size // 2:
                batch.admit(list(islice(waiting, generator.batch_size - len(batch.rows))))
            if not batch.rows:
                return
            going = []
            for place, row in enumerate(batch.rows):
                event = row.take(row.choose(batch.logits[place]))
                if event.finish_reason is None:
                    going.append(place)
                yield event
            batch.keep(going)
            batch.advance()

    def _rows(self, tokenizer: Tokenizer, options: SamplingOptions, seed: int) -> Iterator["_Text"]:
        given: Counter[str] = Counter()
        for number, (prompt, ids) in enumerate(zip(self.prompts, self._prompt_ids, strict=True)):
            for k in range(self.num):
                draws = uniforms(seed, given[prompt] + k)
                yield _Text(number * self.num + k, number, ids, options, draws, tokenizer)
            given[prompt] += self.num


class _Text(Row):
    """One text on its way."""

    def __init__(
        self,
        sample: int,
        prompt: int,
        prompt_ids: list[int],
        options: SamplingOptions,
        draws: np.random.Generator,
        tokenizer: Tokenizer,
    ) -> None:
        super().__init__(prompt, prompt_ids)
        self.sample = sample
        self._prompt_length = len(prompt_ids)
        self._options = options
        self._draws = draws
        self._stop_id = tokenizer.stop_id
        self._decoder = tokenizer.decoder(prompt_ids)
        self._watch = StopWatch(options.stop) if options.stop else None

    def choose(self, logits: NDArray[np.float32]) -> int:
        """The next id, given its logits (V,)."""
        ids = np.frombuffer(self.ids, np.int64)  # a view: `ids` may grow once it is gone
        return choose(logits, self._options, self._draws, ids, self._prompt_length, self._stop_id)

    def take(self, new_id: int) -> Event:
        """Append the id, or end at it."""
        if new_id == self._stop_id:
            text = self._decoder.flush()
            if self._watch:
                text = self._watch.push(text) + self._watch.flush()
            return Event(self.sample, text, None, "stop")
        self.ids.append(new_id)
        text = self._decoder.push(new_id)
        count = len(self.ids) - self._prompt_length
        reason: FinishReason | None = None
        if count >= self._options.max_new_tokens:
            text += self._decoder.flush()
            reason = "length"
        # What the first min_new_tokens tokens spell cannot end the text.
        if self._watch and count > self._options.min_new_tokens:
            text = self._watch.push(text)
            if self._watch.found:
                reason = "stop"
            elif reason:
                text += self._watch.flush()
        return Event(self.sample, text, new_id, reason)


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


def _with_ids(options: SamplingOptions, tokenizer: Tokenizer) -> SamplingOptions:
    """The options with every token given as an id. Raises GenerationError for what is no token."""

    def find(token: int | str) -> int | None:  # None: [UNK], where nothing is unknown
        if isinstance(token, int):
            if 0 <= token < tokenizer.vocab_size:
                return token
            raise GenerationError(
                f"There is no token {token}: ids go from 0 to {tokenizer.vocab_size - 1}."
            )
        ids = tokenizer.encode(token)
        if len(ids) == 1 and ids[0] != tokenizer.unknown_id:
            return int(ids[0])
        found = tokenizer.id_of(token)  # "[UNK]", or a token as tokenizer.json spells it
        if found is None and token == UNKNOWN:
            return None
        if found is None:
            raise GenerationError(
                f"{token!r} is not one token of this model: "
                f"it is {tokenizer.tokens(ids)}; give one of its tokens, or an id."
            )
        return found

    if not options.logit_bias and not options.forbid:
        return options
    return options.model_copy(
        update={
            "logit_bias": {
                found: value
                for token, value in options.logit_bias.items()
                if (found := find(token)) is not None
            },
            "forbid": [found for token in options.forbid if (found := find(token)) is not None],
        }
    )
