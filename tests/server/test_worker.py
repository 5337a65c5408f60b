"""The thread that writes: what it delivers, and when."""

import asyncio
import itertools

import pytest

from textwright.server import worker as module
from textwright.server.worker import Worker
from textwright.writing.prompt import Prompt
from textwright.writing.request import Request, TokenEvent

TOKENS = 50


class Counting:
    """In place of an engine: a token of each request a step."""

    def __init__(self):
        self.left, self.numbers = {}, itertools.count()

    @property
    def busy(self):
        return bool(self.left)

    def submit(self, request):
        number = next(self.numbers)
        self.left[number] = TOKENS
        return number

    def cancel(self, number):
        self.left.pop(number, None)

    def step(self):
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
