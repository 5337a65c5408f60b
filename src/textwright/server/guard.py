"""What every request passes before it is read: the name it asks for, the key, the size of its body,
and how long that may take to come. Plain ASGI, so that a client that goes away is noticed behind
it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from textwright.server.errors import ApiError
from textwright.server.limits import Limits
from textwright.server.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)

# The names of this machine: a page elsewhere can give its own name this machine's address, and a
# browser then lets its scripts read the answers, but sends that name.
LOCAL = re.compile(rb"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
GONE = 499  # the client went before there was an answer
OPEN = ("/health", "/")  # need no key, as all under OPEN_FOLDER: the page asks for it
OPEN_FOLDER = "/web/"
BODY_SECONDS = 60.0  # in which a body has to come
# Many times the longest body, up to which one that is too long is read and thrown away: a client
# that is still sending when its connection closes does not see why.
DISCARDED = 4
HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]


class Guard:
    """An ASGI app around another. key: what `Authorization: Bearer` has to give; empty: nothing ·
    local: `Host` has to be a name of this machine."""

    def __init__(
        self, app: App, *, key: str, local: bool, limits: Limits, metrics: Metrics
    ) -> None:
        self._app, self._key, self._local = app, key.encode(), local
        self._limits, self._metrics = limits, metrics

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun, status = time.perf_counter(), GONE

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = message.get("headers", [])
                named = {name for name, _ in given}
                message["headers"] = [*given, *(one for one in HEADERS if one[0] not in named)]
            await send(message)

        try:
            self._check_host(scope)
            self._check_key(scope)
            body = await self._read(scope, receive)
            if body is not None:
                await self._app(scope, _again(body, receive), answer)
        except ApiError as error:
            await refuse(answer, error)
        except Exception:
            if status != GONE:  # half an answer is out
                raise
            log.exception("A request failed.")
            await refuse(answer, ApiError(500, "The server failed; its log has the reason."))
        finally:
            # The pattern of the path, not the path: a client could make any number of those.
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.answered(route, status, time.perf_counter() - begun)

    def _check_host(self, scope: MutableMapping[str, Any]) -> None:
        host = dict(scope["headers"]).get(b"host", b"")
        if self._local and not LOCAL.fullmatch(host):
            raise ApiError(
                400,
                f"The request is for {host.decode('latin-1')[:100]!r}, and this server answers to "
                "127.0.0.1, localhost and [::1] alone: send one of them as the header Host.",
                code="wrong_host",
            )

    def _check_key(self, scope: MutableMapping[str, Any]) -> None:
        path = scope["path"]
        if not self._key or path in OPEN or path.startswith(OPEN_FOLDER):
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, key = given.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(key.strip(), self._key):
            raise ApiError(
                401,
                "The key is missing or wrong: send the one that the server was started with, as "
                "Authorization: Bearer KEY.",
                code="invalid_api_key",
            )

    async def _read(self, scope: MutableMapping[str, Any], receive: Receive) -> bytes | None:
        """The whole body; None if the client went before it was sent."""
        most = self._limits.bytes
        stated = dict(scope["headers"]).get(b"content-length", b"")
        if stated.isdigit() and int(stated[:20]) > DISCARDED * most:
            raise _too_long(most)
        body, size = bytearray(), 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    size += len(piece := message.get("body", b""))
                    body += piece if size <= most else b""
                    ended = not message.get("more_body", False)
                    if size > DISCARDED * most or (ended and size > most):
                        raise _too_long(most)
                    if ended:
                        return bytes(body)
        except TimeoutError:
            raise ApiError(
                408, f"The body did not come within {BODY_SECONDS:.0f} seconds: send it at once."
            ) from None


async def refuse(send: Send, error: ApiError) -> None:
    """Answer with an error."""
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(error.to_json()).encode()})


def _too_long(most: int) -> ApiError:
    return ApiError(413, f"The body has more than {most} bytes: send less text.")


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, then what else the client does."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
