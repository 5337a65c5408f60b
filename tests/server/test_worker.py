"""The thread that writes: what it delivers, and when."""

import asyncio
import itertools
import threading
import time

import pytest

from textwright.server import worker as module
from textwright.server.worker import Worker
from textwright.writing.prompt import Prompt
from textwright.writing.request import ErrorEvent, Event, Request, TokenEvent

TOKENS = 50


class Counting:
    """In place of an engine: a token of each request a step."""

    tokens = TOKENS

    def __init__(self):
        self.left, self.numbers, self.steps = {}, itertools.count(), 0

    @property
    def busy(self):
        return bool(self.left)

    def submit(self, request):
        number = next(self.numbers)
        self.left[number] = self.tokens
        return number

    def cancel(self, number):
        self.left.pop(number, None)

    def step(self):
        time.sleep(1e-4)  # without it, one that does not end fills the memory
        self.steps += 1
        events = []
        for number in [*self.left]:
            self.left[number] -= 1
            ended = not self.left[number]
            events.append(TokenEvent(number, 0, "a", 2, "length" if ended else None))
            if ended:
                del self.left[number]
        return events


async def deliveries(worker: Worker) -> list[int]:
    """How many tokens came at a time."""
    ticket, sizes = worker.submit("run", [Request(Prompt("", []))]), []
    while sum(sizes) < TOKENS:
        batch = await ticket.batches.get()
        sizes.append(len(batch))
    worker.release(ticket)
    return sizes


@pytest.mark.parametrize(("pause", "wanted"), [(0.0, [1] * TOKENS), (1e9, [1, TOKENS - 1])])
def test_the_first_token_and_the_end_come_at_once_and_others_after_a_pause(
    pause, wanted, monkeypatch
):
    monkeypatch.setattr(module, "PAUSE", pause)
    worker = Worker({"run": Counting})

    async def ask() -> list[list[int]]:
        first = await deliveries(worker)  # before it, nothing has been delivered for long
        return [first, *await asyncio.gather(*(deliveries(worker) for _ in range(3)))]

    try:
        for sizes in asyncio.run(ask()):
            assert sizes == wanted
    finally:
        worker.close()


@pytest.fixture
def worker():
    worker = Worker({"run": Counting})
    yield worker
    worker.close()


def test_however_many_calls_wait_the_engines_have_half_of_the_time(monkeypatch):
    clock, go_on = itertools.count(), threading.Event()
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(Counting, "tokens", 10**9)
    worker = Worker({"run": Counting})
    [engine] = worker._engines.values()

    def look() -> int:
        for _ in range(1000):
            next(clock)
        return engine.steps

    async def ask() -> list[int]:
        first = asyncio.create_task(worker.call(go_on.wait))
        await asyncio.sleep(0)  # so that it is the first order
        calls = [asyncio.create_task(worker.call(look)) for _ in range(20)]
        await asyncio.sleep(0)
        ticket = worker.submit("run", [Request(Prompt("", []))])
        go_on.set()
        await first
        seen = await asyncio.gather(*calls)
        worker.release(ticket)
        return seen

    try:
        seen = asyncio.run(ask())
    finally:
        worker.close()
    # A step looks at the clock twice: for the next delivery and for the next call.
    assert all(490 < after - before < 510 for before, after in itertools.pairwise(seen))


def test_calls_of_those_who_have_gone_are_left_out_and_others_are_made_before_the_end(worker):
    go_on, made = threading.Event(), []

    async def ask() -> None:
        first = asyncio.create_task(worker.call(go_on.wait))
        await asyncio.sleep(0)
        calls = [asyncio.create_task(worker.call(lambda n=n: made.append(n))) for n in range(3)]
        await asyncio.sleep(0)
        calls[1].cancel()
        await asyncio.gather(calls[1], return_exceptions=True)
        closing = threading.Thread(target=worker.close)
        closing.start()
        go_on.set()
        await asyncio.gather(first, calls[0], calls[2])
        closing.join()

    asyncio.run(ask())
    assert made == [0, 2]


@pytest.mark.parametrize("broken", ["cancel", "submit"])
def test_an_engine_that_cannot_take_an_order_is_replaced(broken, worker):
    patched = pytest.MonkeyPatch()

    def fail(*given):
        patched.undo()
        raise MemoryError

    async def last_of(ticket) -> Event:
        events = []
        while not events or isinstance(events[-1], TokenEvent):
            events += [event for _, event in await ticket.arrived()]
        return events[-1]

    async def ask() -> None:
        request = Request(Prompt("", []))
        beside, ticket = worker.submit("run", [request]), worker.submit("run", [request])
        await worker.call(lambda: patched.setattr(Counting, broken, fail))
        if broken == "cancel":
            worker.release(ticket)
        else:
            assert isinstance(await last_of(worker.submit("run", [request])), ErrorEvent)
        assert isinstance(await last_of(beside), ErrorEvent)
        assert sum(await deliveries(worker)) == TOKENS

    patched.setattr(Counting, "tokens", 10**9)
    asyncio.run(asyncio.wait_for(ask(), 10))
