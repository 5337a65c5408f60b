"""The one decode loop: the events of all texts of one call, over any backend.

Letters: B rows that run together, T time, V vocabulary.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

from textwright.errors import GenerationError
from textwright.tokenizer import Tokenizer
from textwright.writing.backend import Backend
from textwright.writing.beams import Beam, Search, write_searches
from textwright.writing.prompt import Prompt
from textwright.writing.rows import RunningBatch
from textwright.writing.sampling import uniforms
from textwright.writing.sampling_options import SamplingOptions
from textwright.writing.sampling_steps import NoTokenLeftError, log_probabilities
from textwright.writing.sequences import KnownSequences
from textwright.writing.text import Cost, Drawn, FinishReason, TokenEvent


@dataclass(frozen=True)
class Sample:
    """One finished text. `text` goes on from the prompt and does not repeat it."""

    prompt: str
    text: str
    ids: list[int]  # all new tokens, including those of a stop text, without the stop token
    finish_reason: FinishReason
    logprobs: list[float] | None = None  # of each id, if requested: the model's own, in nats


class TextStream(Iterator[TokenEvent]):
    """The events of `num` texts for each prompt, and what they took.

    `seconds` is the time spent writing, without the time that the reader of the events takes;
    `tokens` is the number of ids written so far. Tokens in `options` are given as ids. Raises
    GenerationError where the logits are not numbers, and where memory runs out.
    """

    def __init__(
        self,
        backend: Backend,
        tokenizer: Tokenizer,
        prompts: Sequence[Prompt],
        options: SamplingOptions,
        *,
        num: int,
        seed: int,
        logprobs: bool,
        batch_size: int,
        known: KnownSequences | None = None,
    ) -> None:
        self.prompts = prompts
        self.num = num
        self.logprobs = logprobs
        self.seconds = 0.0
        self.context_length = backend.context_length
        self.endings: Counter[FinishReason] = Counter()  # of the texts that have ended so far
        self._backend = backend
        self._tokenizer = tokenizer
        self._options = options
        self._seed = seed
        self._batch_size = batch_size
        self._known = known
        self.cost = Cost()  # of the rule against copies, so far; not counted for beams
        self._new: Counter[int] = Counter()  # number of new tokens of each sample
        self._events = self._search() if options.beams > 1 else self._draw()

    def __next__(self) -> TokenEvent:
        start = perf_counter()
        try:
            event = next(self._events)
        except MemoryError as error:
            raise self._memory_ran_out() from error
        finally:
            self.seconds += perf_counter() - start
        if event.id is not None:
            self._new[event.sample] += 1
        if event.finish_reason:
            self.endings[event.finish_reason] += 1
        return event

    @property
    def tokens(self) -> int:
        return self._new.total()

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.tokens else 0.0

    @property
    def ends_in_space(self) -> bool:
        """Whether a prompt ends in a space that this tokenizer puts at the start of a word."""
        if self._tokenizer.kind != "bpe":
            return False
        space = self._tokenizer.encode(" ").tolist()
        return any(prompt.ids[-1:] == space for prompt in self.prompts)

    @property
    def outgrown(self) -> bool:
        """Whether a text so far is longer than the model's context."""
        return self.context_length is not None and any(
            len(self.prompts[sample // self.num].ids) + new > self.context_length
            for sample, new in self._new.items()
        )

    def samples(self) -> Iterator[Sample]:
        """The finished texts in the order of the prompts; each as soon as those before it are.

        If writing stops with an error, the texts that were finished out of turn come before it.
        """
        events: dict[int, list[TokenEvent]] = {}
        turn = 0
        try:
            for event in self:
                events.setdefault(event.sample, []).append(event)
                while turn in events and events[turn][-1].finish_reason:
                    yield self._sample(events.pop(turn))
                    turn += 1
        except (Exception, KeyboardInterrupt):
            for number in sorted(events):
                if events[number][-1].finish_reason:
                    yield self._sample(events[number])
            raise

    def _sample(self, events: list[TokenEvent]) -> Sample:
        reason = events[-1].finish_reason
        assert reason is not None
        return Sample(
            self.prompts[events[0].sample // self.num].text,
            "".join(event.text for event in events),
            [event.id for event in events if event.id is not None],
            reason,
            [event.logprob for event in events if event.logprob is not None]
            if self.logprobs
            else None,
        )

    def _draw(self) -> Iterator[TokenEvent]:
        waiting = self._drawn()
        batch: RunningBatch[Drawn] = RunningBatch(self._backend, self._tokenizer.stop_id)
        while True:
            # Rows join when half the places are free: the others wait while a prompt is read.
            if len(batch.rows) <= self._batch_size // 2:
                batch.admit(list(islice(waiting, self._batch_size - len(batch.rows))))
            if not batch.rows:
                return
            going = []
            for place, row in enumerate(batch.rows):
                logits = batch.logits[place]
                try:
                    new_id = row.choose(logits)
                except NoTokenLeftError:
                    yield row.end("no_token_left")
                    continue
                self.cost += row.cost
                logprob = float(log_probabilities(logits)[new_id]) if self.logprobs else None
                event = row.take(new_id, logprob)
                if event.finish_reason is None:
                    going.append(place)
                yield event
            batch.keep(going)
            batch.advance()

    def _drawn(self) -> Iterator[Drawn]:
        for number, prompt, index in self._numbered():
            for k in range(self.num):
                sample, draws = number * self.num + k, uniforms(self._seed, index + k)
                yield Drawn(
                    sample, number, prompt, self._options, self._tokenizer, draws, self._known
                )

    def _search(self) -> Iterator[TokenEvent]:
        searches = (
            Search(
                Beam(
                    number * self.num,
                    number,
                    prompt,
                    self._options,
                    self._tokenizer,
                    self._known,
                ),
                uniforms(self._seed, index),
            )
            for number, prompt, index in self._numbered()
        )
        width = max(1, self._batch_size // self._options.beams)
        return write_searches(searches, self._backend, self._tokenizer.stop_id, width, self.num)

    def _numbered(self) -> Iterator[tuple[int, Prompt, int]]:
        """Each prompt with its number, and how many texts were begun before for the same prompt."""
        begun: Counter[str] = Counter()
        for number, prompt in enumerate(self.prompts):
            yield number, prompt, begun[prompt.text]
            begun[prompt.text] += self.num

    def _memory_ran_out(self) -> GenerationError:
        beams, prompts = self._options.beams, len(self.prompts)
        searches = min(prompts, max(1, self._batch_size // beams))
        rows = min(prompts * self.num, self._batch_size) if beams == 1 else searches * beams
        if rows > beams:
            remedy = f"write fewer with --batch-size {rows // 2}"
        elif beams > 1:
            remedy = "use fewer --beams"
        else:
            remedy = "shorten the prompt or --max-new-tokens"
        texts = "a text" if rows == 1 else f"{rows} texts at the same time"
        return GenerationError(f"Memory ran out while writing {texts}: {remedy}.")
