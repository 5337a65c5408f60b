"""The texts of one call, token by token as the engine writes them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

from textwright.errors import GenerationError
from textwright.writing.backend import looks_back
from textwright.writing.engine import Engine
from textwright.writing.request import (
    NO_COST,
    ErrorEvent,
    FinishReason,
    Request,
    TokenEvent,
)


@dataclass(frozen=True)
class Sample:
    """One finished text. `text` goes on from the prompt and does not repeat it."""

    prompt: str
    text: str
    ids: list[int]  # all new tokens, including those of a stop text, without the stop token
    finish_reason: FinishReason
    logprobs: list[float] | None = None  # of each id, if requested: the model's own, in nats


class TextStream(Iterator[TokenEvent]):
    """The events of requests that are alike but for their prompts, and what they took.

    The samples are numbered through: prompt number · num + number of the sample within its prompt.
    `seconds` is the time spent writing, without the time that the reader of the events takes;
    `tokens` is the number of ids written so far. Raises GenerationError where the logits are not
    numbers, and where memory runs out.
    """

    def __init__(self, engine: Engine, requests: Sequence[Request], num: int) -> None:
        self.prompts = [request.prompt for request in requests]
        self.num = num
        self.seconds = 0.0
        self.context_length = looks_back(engine.backend)
        self.endings: Counter[FinishReason] = Counter()  # of the texts that have ended so far
        self.cost = NO_COST  # of the rule against copies, so far; not counted for beams
        self._engine = engine
        self._requests = requests
        self._new: Counter[int] = Counter()  # number of new tokens of each sample
        for request in requests:
            engine.submit(request)
        self._events = self._write()

    def __next__(self) -> TokenEvent:
        return next(self._events)

    @property
    def tokens(self) -> int:
        return self._new.total()

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.tokens else 0.0

    @property
    def ends_in_space(self) -> bool:
        """Whether a prompt ends in a space that this tokenizer puts at the start of a word."""
        tokenizer = self._engine.tokenizer
        return tokenizer.kind == "bpe" and any(
            text.endswith(" ")
            for prompt in self.prompts
            for text in tokenizer.texts(prompt.ids[-1:])
        )

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
        written = [event for event in events if event.id is not None]
        request = self._requests[events[0].request]
        return Sample(
            request.prompt.text,
            "".join(event.text for event in events),
            [event.id for event in written if event.id is not None],
            reason,
            None
            if request.logprobs is None
            else [event.scored.logprob for event in written if event.scored],
        )

    def _write(self) -> Iterator[TokenEvent]:
        while self._engine.busy:
            start = perf_counter()
            try:
                events = self._engine.step()
            finally:
                self.seconds += perf_counter() - start
            for event in events:
                if isinstance(event, TokenEvent):
                    yield self._counted(event)
                elif isinstance(event, ErrorEvent):
                    if isinstance(event.error, MemoryError):
                        raise self._memory_ran_out() from event.error
                    raise event.error

    def _counted(self, event: TokenEvent) -> TokenEvent:
        """The event with the number of its sample among those of all prompts."""
        if event.request:
            event = event._replace(sample=event.request * self.num + event.sample)
        if event.id is not None:
            self._new[event.sample] += 1
        if event.finish_reason:
            self.endings[event.finish_reason] += 1
        if event.cost is not NO_COST:
            self.cost += event.cost
        return event

    def _memory_ran_out(self) -> GenerationError:
        beams, prompts = self._requests[0].options.beams, len(self.prompts)
        batch_size = self._engine.batch_size
        searches = min(prompts, max(1, batch_size // beams))
        rows = min(prompts * self.num, batch_size) if beams == 1 else searches * beams
        if rows > beams:
            remedy = f"write fewer with --batch-size {rows // 2}"
        elif beams > 1:
            remedy = "use fewer --beams"
        else:
            remedy = "shorten the prompt or --max-new-tokens"
        texts = "a text" if rows == 1 else f"{rows} texts at the same time"
        return GenerationError(f"Memory ran out while writing {texts}: {remedy}.")
