"""What a server does, apart from HTTP: it admits requests, has them written, gives the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from textwright.server.bodies import CompletionBody, InspectBody, TokenizeBody
from textwright.server.completion import Completion, Part
from textwright.server.errors import ApiError, refused
from textwright.server.limits import Limits
from textwright.server.metrics import Metrics
from textwright.server.served import Asked, ServedRun
from textwright.server.worker import Worker

LONG = 100_000  # characters of a prompt that takes a while to read

_Body = TypeVar("_Body", bound=CompletionBody | InspectBody | TokenizeBody)
_Found = TypeVar("_Found")


class Writing:
    """A completion that has been admitted. It has to be closed, whatever becomes of it."""

    def __init__(
        self,
        service: Service,
        served: ServedRun,
        body: CompletionBody,
        asked: Asked,
        begun: float,
    ) -> None:
        """begun: when the request came, in the time of the event loop."""
        self.completion = Completion(served, body, asked)
        self._service, self._width, self._begun = service, body.width, begun
        self._ticket = service.worker.submit(served.name, asked.requests)
        # One timer for the whole answer: one for each wait would cost as much as the wait.
        self._timer = self._ticket.loop.call_at(
            begun + service.limits.seconds, self._ticket.batches.put_nowait, None
        )
        service.texts += self._width

    async def parts(self) -> AsyncIterator[list[Part]]:
        """The parts of the answer, all that have come at a time. Raises what went wrong."""
        seconds, first = self._service.limits.seconds, True
        if parts := self.completion.begin():
            yield parts
        while not self.completion.done:
            batch = await self._ticket.arrived()
            if batch is None:
                raise _too_slow(seconds)
            if first:
                self._service.metrics.first_token(self._ticket.loop.time() - self._begun)
                first = False
            if parts := self.completion.take(batch):
                yield parts
            if self.completion.error is not None:
                raise self.completion.error

    async def whole(self) -> dict[str, object]:
        """The answer in one. Raises what went wrong."""
        async for parts in self.parts():
            self.completion.keep(parts)
        return self.completion.whole()

    async def stream(self) -> AsyncIterator[bytes]:
        """The answer as events that a server sends. An error is the last of them."""
        completion = self.completion
        try:
            async for parts in self.parts():
                yield b"".join(_event(completion.chunk(part)) for part in parts)
            if (last := completion.last_chunk()) is not None:
                yield _event(last)
        except Exception as error:
            yield _event(refused(error).to_json())
        yield b"data: [DONE]\n\n"

    def close(self) -> None:
        """End what is still being written, and free its places."""
        self._timer.cancel()
        self._service.texts -= self._width
        self._service.worker.release(self._ticket)
        self._service.metrics.wrote(self._ticket.run, *self.completion.tokens)


class Service:
    """Runs that are served under their names, one worker for all."""

    def __init__(self, runs: Sequence[ServedRun], limits: Limits) -> None:
        self.runs = {served.name: served for served in runs}
        self.limits = limits
        self.texts = 0  # that run or wait, beams and looks into a model included
        self.worker = Worker({name: served.engine for name, served in self.runs.items()})
        # For looks into a model and for long prompts, one at a time: texts go on meanwhile, and
        # short prompts do not wait for long ones.
        self.inside = ThreadPoolExecutor(1, "textwright-inside")
        self.metrics = Metrics(lambda: self.texts)

    def close(self) -> None:
        """End the threads when they have done what they were asked for."""
        self.worker.close()
        self.inside.shutdown()

    def find(self, name: str | None) -> ServedRun:
        """The run of a name; of none, the first. Raises ApiError where there is none."""
        if name is None:
            return next(iter(self.runs.values()))
        if name not in self.runs:
            raise ApiError(
                404,
                f"There is no model {name[:100]!r} here; there is {', '.join(self.runs)}.",
                param="model",
                code="model_not_found",
            )
        return self.runs[name]

    def find_for_tokens(self, name: str | None) -> ServedRun:
        """The run of a name; of none, the only one. Raises ApiError where there are several: tokens
        of one mean nothing to another."""
        if name is None and len(self.runs) > 1:
            raise ApiError(
                422,
                f"Each run has tokens of its own: name one as model ({', '.join(self.runs)}), or "
                "serve one run alone to clients that name none, such as lm-eval.",
                param="model",
            )
        return self.find(name)

    async def read(self, function: Callable[[_Body], _Found], body: _Body) -> _Found:
        """Call a function that reads the prompt of a body, in another thread. One that waits there
        is not read if who asked is gone by then."""
        prompt = body.prompt
        texts = [prompt] if isinstance(prompt, str) else prompt if isinstance(prompt, list) else []
        length = sum(len(text) for text in texts if isinstance(text, str))
        pool = self.inside if length > LONG else None
        return await asyncio.get_running_loop().run_in_executor(pool, function, body)

    async def begin(self, body: CompletionBody) -> Writing:
        """Admit a request. Raises a TextwrightError where it is refused."""
        if body.suffix:
            raise ApiError(
                400,
                "suffix is not supported: these models write from left to right.",
                param="suffix",
            )
        served, begun = self.find(body.model), asyncio.get_running_loop().time()
        width, most = body.width, self.limits.texts
        if width > most:
            raise ApiError(
                422,
                f"The request asks for {width} texts and beams, and {most} are the most: send "
                "several requests.",
            )
        with self.places(width):  # also while its prompts wait to be read
            try:
                async with asyncio.timeout(self.limits.seconds):
                    asked = await self.read(served.ask, body)
            except TimeoutError:
                raise _too_slow(self.limits.seconds) from None
            return Writing(self, served, body, asked, begun)

    @contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Take so many places of the queue. Raises ApiError where it has fewer left."""
        if self.texts + count > self.limits.queue:
            raise ApiError(
                429,
                f"{self.texts} texts run or wait, and {self.limits.queue} are the most: try again "
                "soon.",
                code="queue_full",
                retry_after=1,
            )
        self.texts += count
        try:
            yield
        finally:
            self.texts -= count


def _too_slow(seconds: float) -> ApiError:
    return ApiError(
        400, f"The answer took longer than {seconds:g} seconds: ask for less text.", code="timeout"
    )


def _event(content: object) -> bytes:
    return b"data: %b\n\n" % _encode(content).encode()


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
