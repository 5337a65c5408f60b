"""The one decode loop: requests join and leave a running batch at token boundaries.

Each text is the one that its seed alone would give, whatever runs beside it. An error while a
request joins, is sampled or is turned into text ends that request only. Where memory runs out in
the model's own step, the newest request ends, until the others fit.

Letters: B rows that run together, V vocabulary.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby, islice
from typing import Any

from textwright.errors import GenerationError
from textwright.freed import keep_freed_memory
from textwright.tokenizer import Tokenizer
from textwright.writing.backend import Backend
from textwright.writing.beams import Beam, Search
from textwright.writing.drawn import Drawn, draw_ids
from textwright.writing.echo import Echoes
from textwright.writing.request import ErrorEvent, Event, Request
from textwright.writing.rows import Row, RunningBatch
from textwright.writing.sampling_steps import Logits

# Tokens of prompts that a step scores, alone and beside texts, which wait for it.
BLOCK, BLOCK_BESIDE = 512, 64


class Job:
    """A request on its way: what of it has yet to begin, and what runs.

    Its parts are texts, or the one search for all of them.
    """

    def __init__(self, number: int, request: Request, tokenizer: Tokenizer) -> None:
        self.number, self.request = number, request
        beams = request.options.beams
        self.running = 0  # parts that have begun and not ended
        self.waiting = request.num if beams == 1 else min(1, request.num)  # that have not begun
        self.width = beams  # places that a part takes
        self._tokenizer = tokenizer
        self._parts = self._texts()

    def begin(self, count: int) -> list[Row]:
        """The first rows of so many parts."""
        self.waiting -= count
        self.running += count
        return list(islice(self._parts, count))

    def _texts(self) -> Iterator[Row]:
        for sample, draws in enumerate(self.request.draws()):
            if self.width > 1:
                prompt = Beam(self.number, sample, self.request, self._tokenizer)
                yield from Search(prompt, draws).running
            else:
                yield Drawn(self.number, sample, self.request, self._tokenizer, draws)


class Engine:
    """Writes what is submitted, at most `batch_size` rows together; all beams of one request run
    together, however many. Raises GenerationError where `batch_size` is below 1.
    """

    def __init__(self, backend: Backend, tokenizer: Tokenizer, *, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise GenerationError(f"The batch size is {batch_size}: give 1 or more.")
        self.backend, self.tokenizer, self.batch_size = backend, tokenizer, batch_size
        self._batch: RunningBatch[Row] = RunningBatch(backend, tokenizer.stop_id)
        self._jobs: dict[int, Job] = {}  # all that have not ended, by number
        self._queue: deque[Job] = deque()  # those of which something waits
        self._echoes = Echoes(backend, tokenizer.stop_id)  # prompts that are scored before
        self._taken = 0  # places of the batch that are taken
        self._submitted = 0
        keep_freed_memory()

    @property
    def busy(self) -> bool:
        """Whether a request has not ended."""
        return bool(self._jobs)

    def submit(self, request: Request) -> int:
        """Queue a request → its number, which its events carry."""
        number = self._submitted
        self._submitted += 1
        job = self._jobs[number] = Job(number, request, self.tokenizer)
        if request.echo:
            self._echoes.add(number, request)
        else:
            self._queue.append(job)
        return number

    def cancel(self, number: int) -> None:
        """End a request at once, without an event. One that has ended already stays as it is."""
        job = self._jobs.pop(number, None)
        if job is None:
            return
        self._echoes.cancel(number)
        with suppress(ValueError):  # all of it has begun
            self._queue.remove(job)
        self._taken -= job.running * job.width
        rows = self._batch.rows
        if job.running:
            self._batch.keep([place for place, row in enumerate(rows) if row.prompt != number])

    def step(self) -> list[Event]:
        """Score some tokens of echoed prompts; read the newest id of each row, let waiting requests
        join, and choose the next ids.

        Returns what came of it. The events of a search come when it is over.
        """
        events: list[Event] = []
        self._score(events)
        self._advance(events)
        if self._queue:
            self._admit(events)
        self._choose(events)
        return events

    def _advance(self, events: list[Event]) -> None:
        while self._batch.rows:
            try:
                return self._batch.advance()
            except MemoryError as error:
                self._fail(max(row.prompt for row in self._batch.rows), error, events)
            except Exception as error:  # nothing tells whose it is
                for number in {row.prompt for row in self._batch.rows}:
                    self._fail(number, error, events)

    def _fail(self, number: int, error: Exception, events: list[Event]) -> None:
        self.cancel(number)
        events.append(ErrorEvent(number, error))

    # --- scoring ---------------------------------------------------------------------------------

    def _score(self, events: list[Event]) -> None:
        """Score some tokens of the prompts that are echoed; of those that have ended, the texts can
        begin."""
        for event in self._echoes.read(BLOCK_BESIDE if self._batch.rows else BLOCK):
            if isinstance(event, ErrorEvent):
                self._fail(event.request, event.error, events)
                continue
            events.append(event)
            job = self._jobs[event.request]
            if job.waiting:
                self._queue.append(job)
            else:
                del self._jobs[event.request]

    # --- joining ---------------------------------------------------------------------------------

    def _admit(self, events: list[Event]) -> None:
        """Let rows join where all that wait find a place, or half of the places are free.

        The others wait while a prompt is read, so many of them are better read together.
        """
        if not self._fits() and self._taken > self.batch_size // 2:
            return
        joining: list[Row] = []
        while self._queue:
            job, free = self._queue[0], self.batch_size - self._taken
            if job.width > free and self._taken:
                break
            count = min(job.waiting, max(1, free // job.width))
            self._taken += count * job.width
            try:
                joining += job.begin(count)
            except Exception as error:
                self._fail(job.number, error, events)
                continue
            if not job.waiting:
                self._queue.popleft()
        self._join(joining, events)

    def _fits(self) -> bool:
        free = self.batch_size - self._taken
        for job in self._queue:
            free -= job.waiting * job.width
            if free < 0:
                return False
        return True

    def _join(self, rows: list[Row], events: list[Event]) -> None:
        """Where not all can join together, each request tries by itself."""
        try:
            self._batch.admit(rows)
        except Exception as error:
            requests = [list(group) for _, group in groupby(rows, key=lambda row: row.prompt)]
            if len(requests) == 1:
                return self._fail(rows[0].prompt, error, events)
            for one in requests:
                self._join(one, events)

    # --- choosing --------------------------------------------------------------------------------

    def _choose(self, events: list[Event]) -> None:
        """Continue every row, and let those that have ended leave."""
        rows = self._batch.rows
        groups: dict[Any, list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(row.group, []).append(place)
        # What stands in the places of rows that do not just go on: each with its parent's place.
        instead: dict[int, Sequence[tuple[int, Row]]] = {}
        errors: dict[int, Exception] = {}
        for places in groups.values():
            some = [rows[place] for place in places]
            logits = self._batch.logits if len(some) == len(rows) else self._batch.logits[places]
            try:
                match some[0]:
                    case Beam():
                        beams = self._search(some[0].search, places, logits, events)
                        instead |= dict.fromkeys(places, ()) | {places[0]: beams}
                    case _:
                        for place in self._draw(some, places, logits, events, errors):
                            instead[place] = ()
            except Exception as error:
                errors.update(dict.fromkeys((row.prompt for row in some), error))
        if instead:
            kept = [one for at, row in enumerate(rows) for one in instead.get(at, [(at, row)])]
            self._batch.replace([row for _, row in kept], [parent for parent, _ in kept])
        for number, reason in errors.items():
            self._fail(number, reason, events)

    def _draw(
        self,
        rows: list[Any],
        places: list[int],
        logits: Logits,
        events: list[Event],
        errors: dict[int, Exception],
    ) -> list[int]:
        """The places of the texts that have ended. Those of a request that fails are left."""
        ended = []
        for place, row, outcome in zip(places, rows, draw_ids(rows, logits), strict=True):
            if isinstance(outcome, Exception):
                errors.setdefault(row.prompt, outcome)
            elif row.prompt not in errors:
                events.append(outcome)
                if outcome.finish_reason is not None:
                    self._end_part(row.prompt)
                    ended.append(place)
        return ended

    def _search(
        self, search: Search, places: list[int], logits: Logits, events: list[Event]
    ) -> list[tuple[int, Row]]:
        """The beams that go on, each with its parent's place."""
        parents = search.step(logits)
        if not search.running:
            events += search.events()
            self._end_part(search.number)
        return [(places[at], beam) for at, beam in zip(parents, search.running, strict=True)]

    def _end_part(self, number: int) -> None:
        job = self._jobs[number]
        job.running -= 1
        self._taken -= job.width
        if not job.running and not job.waiting:
            del self._jobs[number]
