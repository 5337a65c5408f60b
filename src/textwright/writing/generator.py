"""The one decode loop: prompts in, text out, over any backend.

A backend reads ids and gives the logits of the next one; everything else about writing happens
here and in the modules above: which rows run together (`batching`), drawing (`sampling`), beams
(`beams`), stopping and turning ids into text as they come (`texts`).

Letters: B rows that run together, T time, V vocabulary.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textwright.errors import GenerationError
from textwright.tokenizer import Tokenizer
from textwright.tokenizer.treatment import UNKNOWN
from textwright.writing.backend import Backend
from textwright.writing.beams import Beam, Search, write_searches
from textwright.writing.rows import RunningBatch
from textwright.writing.sampling import SamplingOptions, choose, uniforms
from textwright.writing.sampling_steps import log_probabilities
from textwright.writing.text import FinishReason, Text, TokenEvent


@dataclass(frozen=True)
class Sample:
    """One finished text. `text` goes on from the prompt and does not repeat it."""

    prompt: str
    text: str
    ids: list[int]  # all new tokens, those of a stop text included, the stop token not
    finish_reason: FinishReason
    logprobs: list[float] | None = None  # of each id, if asked for: the model's own, in nats


class Generator:
    """Writes texts with a backend and the tokenizer it was trained with.

    `batch_size` rows run together at most, however many texts are asked for; but the beams of one
    prompt always do.
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
        logprobs: bool = False,
    ) -> "TextStream":
        """`num` texts for each prompt, token by token, as they are written; of beams, the best.

        A text's draws depend on the seed and on its number among the samples of its prompt (a
        prompt that is given again counts on), and on nothing else that is written with it.
        logprobs: tell each token's log-probability, before the options have their say.
        Raises GenerationError where an option does not suit the tokenizer.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if self.tokenizer.kind in ("word", "symbols"):  # the text brings its own space
            prompts = [prompt.rstrip() for prompt in prompts]
        return TextStream(self, prompts, options or SamplingOptions(), num, seed, logprobs)

    def generate(
        self,
        prompts: str | Sequence[str],
        options: SamplingOptions | None = None,
        *,
        num: int = 1,
        seed: int = 0,
        logprobs: bool = False,
    ) -> list[Sample]:
        """`num` finished texts for each prompt, in the order of the prompts. See `stream`."""
        stream = self.stream(prompts, options, num=num, seed=seed, logprobs=logprobs)
        return list(stream.samples())


class TextStream(Iterator[TokenEvent]):
    """The events of one call, and what they took. Arguments and errors: `Generator.stream`.

    `seconds` counts the time spent here, not the reader's; `tokens` the ids written so far.
    """

    def __init__(
        self,
        generator: Generator,
        prompts: list[str],
        options: SamplingOptions,
        num: int,
        seed: int,
        logprobs: bool,
    ) -> None:
        if num < 1:
            raise GenerationError(f"{num} texts were asked for: ask for 1 or more.")
        uniforms(seed, 0)  # refuse a bad seed now, not at the first token
        if num > options.beams > 1:
            raise GenerationError(
                f"{num} texts were asked for of {options.beams} beams: "
                "ask for at most one text a beam, or give more beams."
            )
        tokenizer = generator.tokenizer
        options = _with_ids(options, tokenizer)
        self.prompts = prompts
        self.num = num
        self.logprobs = logprobs
        self.seconds = 0.0
        self.context_length = generator.backend.context_length
        self._new: Counter[int] = Counter()  # tokens of each sample
        start = perf_counter()
        self._prompt_ids = [ids.tolist() for ids in tokenizer.encode_batch(prompts)]
        # Byte-level tokens begin a word with the space before it.
        self._space = tokenizer.encode(" ").tolist() if tokenizer.kind == "bpe" else None
        # The words of each prompt that the model has never seen, for the caller to tell.
        self.unknown = [
            tokenizer.unknown(prompt) if tokenizer.unknown_id in ids else []
            for prompt, ids in zip(prompts, self._prompt_ids, strict=True)
        ]
        write = self._search if options.beams > 1 else self._draw
        self._events = write(generator, options, seed)
        self.seconds += perf_counter() - start

    def __next__(self) -> TokenEvent:
        start = perf_counter()
        try:
            event = next(self._events)
        finally:
            self.seconds += perf_counter() - start
        if event.id is not None:
            self._new[event.sample] += 1
        return event

    @property
    def tokens(self) -> int:
        return self._new.total()

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.tokens else 0.0

    @property
    def ends_in_space(self) -> bool:
        """Whether a prompt ends in a space that the model is used to write itself, with a word."""
        return any(ids[-1:] == self._space for ids in self._prompt_ids)

    @property
    def outgrown(self) -> bool:
        """Whether a text so far is longer than what the model can look back on."""
        return self.context_length is not None and any(
            len(self._prompt_ids[sample // self.num]) + new > self.context_length
            for sample, new in self._new.items()
        )

    def samples(self) -> Iterator[Sample]:
        """The finished texts, in the order of the prompts; each as soon as those before it are."""
        told: dict[int, list[TokenEvent]] = {}
        turn = 0
        for event in self:
            told.setdefault(event.sample, []).append(event)
            while turn in told and (reason := told[turn][-1].finish_reason):
                events = told.pop(turn)
                yield Sample(
                    self.prompts[turn // self.num],
                    "".join(event.text for event in events),
                    [event.id for event in events if event.id is not None],
                    reason,
                    [event.logprob for event in events if event.logprob is not None]
                    if self.logprobs
                    else None,
                )
                turn += 1

    def _draw(
        self, generator: Generator, options: SamplingOptions, seed: int
    ) -> Iterator[TokenEvent]:
        waiting = self._drawn(generator.tokenizer, options, seed)
        batch: RunningBatch[Drawn] = RunningBatch(generator.backend, generator.tokenizer.stop_id)
        while True:
            # Rows join when half the places are free: each joining costs the others a pause.
            if len(batch.rows) <= generator.batch_size // 2:
                batch.admit(list(islice(waiting, generator.batch_size - len(batch.rows))))
            if not batch.rows:
                return
            going = []
            for place, row in enumerate(batch.rows):
                logits = batch.logits[place]
                new_id = row.choose(logits)
                logprob = float(log_probabilities(logits)[new_id]) if self.logprobs else None
                event = row.take(new_id, logprob)
                if event.finish_reason is None:
                    going.append(place)
                yield event
            batch.keep(going)
            batch.advance()

    def _search(
        self, generator: Generator, options: SamplingOptions, seed: int
    ) -> Iterator[TokenEvent]:
        tokenizer = generator.tokenizer
        searches = (
            Search(Beam(number * self.num, number, ids, options, tokenizer), uniforms(seed, index))
            for number, ids, index in self._numbered()
        )
        width = max(1, generator.batch_size // options.beams)
        return write_searches(searches, generator.backend, tokenizer.stop_id, width, self.num)

    def _drawn(
        self, tokenizer: Tokenizer, options: SamplingOptions, seed: int
    ) -> Iterator["Drawn"]:
        for number, ids, index in self._numbered():
            for k in range(self.num):
                draws = uniforms(seed, index + k)
                yield Drawn(number * self.num + k, number, ids, options, tokenizer, draws=draws)

    def _numbered(self) -> Iterator[tuple[int, list[int], int]]:
        """Each prompt's number, its ids, and how many texts were begun for the same prompt."""
        given: Counter[str] = Counter()
        for number, (prompt, ids) in enumerate(zip(self.prompts, self._prompt_ids, strict=True)):
            yield number, ids, given[prompt]
            given[prompt] += self.num


class Drawn(Text):
    """A text whose ids are drawn one by one."""

    def __init__(self, *of_text: Any, draws: np.random.Generator) -> None:
        super().__init__(*of_text)
        self._draws = draws

    def choose(self, logits: NDArray[np.float32]) -> int:
        """The next id, given its logits (V,)."""
        ids = np.frombuffer(self.ids, np.int64)  # a view: `ids` may grow once it is gone
        return choose(logits, self.options, self._draws, ids, self.prompt_length, self.stop_id)


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
                f"it is {tokenizer.tokens(ids)}; give one of its tokens."
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
