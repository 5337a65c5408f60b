"""The one thread that writes. Requests reach it by a queue, and their events go back by another, so
that the side that talks to clients never waits for a model, nor a model for a client.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from textwright.writing.engine import Engine
from textwright.writing.request import ErrorEvent, Event, Request, TokenEvent

# Seconds for each ticket from one delivery to the next, but for beginnings and ends. A send costs
# about 0.15 ms, because the two threads take turns in Python: where there are many tickets, more of
# each comes at a time.
PAUSE = 0.001

_Found = TypeVar("_Found")
Batch = list[tuple[int, Event]]  # each event with the place of its request within the ticket


class Ticket:
    """Requests that were submitted together to the engine of one run."""

    def __init__(self, run: str, requests: Sequence[Request]) -> None:
        self.run, self.requests = run, requests
        self.loop = asyncio.get_running_loop()
        self.batches: asyncio.Queue[Batch | None] = asyncio.Queue()  # None: the time is over
        # For the worker's thread only: the numbers that the engine gave the requests, and whether
        # nothing has come yet.
        self.numbers: list[int] = []
        self.waits = True

    async def arrived(self) -> Batch | None:
        """All that has come, as soon as something has; None: the time is over."""
        batches = [await self.batches.get()]
        while not self.batches.empty():
            batches.append(self.batches.get_nowait())
        whole: Batch = []
        for batch in batches:
            if batch is None:
                return None
            whole += batch
        return whole


class Worker:
    """Drives one engine for each run. engines: by the name of the run, makes a new one."""

    def __init__(self, engines: Mapping[str, Callable[[], Engine]]) -> None:
        self._make = engines
        self._engines = {name: make() for name, make in engines.items()}
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._calls: deque[Callable[[], None]] = deque()  # that wait for their turn
        self._lost: list[tuple[Ticket, int, Event]] = []  # errors that have not been told
        self._places: dict[tuple[str, int], tuple[Ticket, int]] = {}  # by run and number
        self._thread: Thread | None = None

    def submit(self, run: str, requests: Sequence[Request]) -> Ticket:
        """Have requests written; their events come to the ticket's `batches`."""
        self.start()
        ticket = Ticket(run, requests)
        self._orders.put(partial(self._try, self._submit, ticket))
        return ticket

    def release(self, ticket: Ticket) -> None:
        """End what of the ticket is still being written. Every ticket is released once."""
        self._orders.put(partial(self._try, self._release, ticket))

    async def call(self, function: Callable[[], _Found]) -> _Found:
        """Call a function between two steps of the engines, which share the models with it. After
        it they have the time that it took, however many calls wait."""
        self.start()
        loop = asyncio.get_running_loop()
        found: asyncio.Future[_Found] = loop.create_future()

        def answer() -> None:
            if found.done():  # who asked has gone
                return
            try:
                value = function()
            except Exception as error:
                _send(loop, _settle, found, None, error)
            else:
                _send(loop, _settle, found, value, None)

        self._orders.put(partial(self._calls.append, answer))
        return await found

    def start(self) -> None:
        """Start the thread, if it has not been started."""
        if self._thread is None:
            self._thread = Thread(target=self._work, name="textwright-engine", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread when it has done what it was ordered to before."""
        if self._thread is not None:
            self._orders.put(None)
            self._thread.join()
            self._thread = None

    # --- in the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        kept: dict[Ticket, Batch] = {}  # what has not been delivered
        due = turn = 0.0  # of the next delivery, of the next call
        while self._obey():
            if self._calls and ((begun := time.perf_counter()) >= turn or not self._writes):
                self._calls.popleft()()
                turn = 2 * time.perf_counter() - begun
            ready = self._write(kept)
            if (now := time.perf_counter()) >= due:
                due, ready = now + PAUSE * len(kept), set(kept)
            arrived: dict[asyncio.AbstractEventLoop, dict[Ticket, Batch]] = {}
            for ticket in ready:
                arrived.setdefault(ticket.loop, {})[ticket] = kept.pop(ticket)
            for loop, batches in arrived.items():  # one call, however many texts
                _send(loop, _deliver, batches)
        for call in self._calls:
            call()

    @property
    def _writes(self) -> bool:
        return any(engine.busy for engine in self._engines.values())

    def _write(self, kept: dict[Ticket, Batch]) -> set[Ticket]:
        """Add what a step of each engine wrote → the tickets of which something begins or ends."""
        found, self._lost = self._lost, []
        for run, engine in [*self._engines.items()]:
            if engine.busy:
                found += self._step(run, engine)
        ready: set[Ticket] = set()
        for ticket, place, event in found:
            kept.setdefault(ticket, []).append((place, event))
            if ticket.waits or not isinstance(event, TokenEvent) or event.finish_reason:
                ticket.waits = False
                ready.add(ticket)
        return ready

    def _obey(self) -> bool:
        """Do what was ordered; where nothing is to be written, wait for an order. False: end."""
        with suppress(Empty):
            while True:
                order = self._orders.get(block=not (self._writes or self._calls or self._lost))
                if order is None:
                    return False
                order()
        return True

    def _step(self, run: str, engine: Engine) -> list[tuple[Ticket, int, Event]]:
        """What a step of an engine wrote, and whose it is."""
        try:
            return [(*self._places[run, event.request], event) for event in engine.step()]
        except Exception as error:
            return self._replace(run, error)

    def _try(self, order: Callable[[Ticket], None], ticket: Ticket) -> None:
        """Do what was ordered for a ticket. Where that fails, the engine is broken."""
        try:
            order(ticket)
        except Exception as error:
            lost = self._replace(ticket.run, error)
            self._lost += [*lost, (ticket, 0, ErrorEvent(0, error))]

    def _replace(self, run: str, error: Exception) -> list[tuple[Ticket, int, Event]]:
        """A new engine in place of one that is broken → what this means for whom."""
        self._engines[run] = self._make[run]()
        found: list[tuple[Ticket, int, Event]] = []
        for key in [key for key in self._places if key[0] == run]:
            ticket, place = self._places.pop(key)
            ticket.numbers.clear()
            found.append((ticket, place, ErrorEvent(place, error)))
        return found

    def _submit(self, ticket: Ticket) -> None:
        engine = self._engines[ticket.run]
        for place, request in enumerate(ticket.requests):
            number = engine.submit(request)
            ticket.numbers.append(number)
            self._places[ticket.run, number] = ticket, place

    def _release(self, ticket: Ticket) -> None:
        for number in ticket.numbers:
            self._engines[ticket.run].cancel(number)
            self._places.pop((ticket.run, number), None)


def _send(loop: asyncio.AbstractEventLoop, *call: Any) -> None:
    with suppress(RuntimeError):  # nobody is there to hear it: the loop is closed
        loop.call_soon_threadsafe(*call)


def _deliver(batches: dict[Ticket, Batch]) -> None:
    for ticket, batch in batches.items():
        ticket.batches.put_nowait(batch)


def _settle(future: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    if not future.done():  # who asked may have gone
        future.set_exception(error) if error else future.set_result(value)
