"""Listens on a port until it is told to stop, and then lets streams finish."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from textwright.errors import ServerError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_access(host: str, key: str, no_auth: bool) -> None:
    """Raise ServerError where other machines could reach a server that asks for no key, and for a
    key that nobody can send."""
    if key and not (key.strip() and key.isascii() and key.strip().isprintable()):
        raise ServerError(
            "The key is empty, or no header can hold it: give one of letters, digits and signs of "
            "ASCII."
        )
    if key and no_auth:
        raise ServerError("--api-key asks for a key and --no-auth for none: leave out one of them.")
    if not key and not no_auth and host not in LOOPBACK:
        raise ServerError(
            f"Other machines can reach {host}: give --api-key KEY, which they have to send, or "
            "--no-auth to let anybody write."
        )


def name_runs(paths: list[Path]) -> dict[str, Path]:
    """Runs by the names of their folders. Raises ServerError where two are the same."""
    named: dict[str, Path] = {}
    for path in paths:
        name = path.resolve().name
        if name in named:
            raise ServerError(
                f"Two runs are named {name} ({named[name]} and {path}): rename the folder of one."
            )
        named[name] = path
    return named


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address. Raises ServerError where that cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except UnicodeError:  # a part of a name is empty or too long
        raise ServerError(f"No machine can be named {host!r}: give another --host.") from None
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ServerError(
            f"Cannot listen on port {port} of {host} ({reason}): stop what uses it, or "
            "name another with --port."
        ) from None


def name_address(host: str, bound: socket.socket) -> str:
    """Where what a socket is bound to is found."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{bound.getsockname()[1]}"


def serve(app: Any, bound: socket.socket, seconds: float, on_start: Callable[[], None]) -> None:
    """Answer requests until SIGTERM or Ctrl-C. Then new ones are refused, those that run finish
    within so many seconds, and the call returns. A second Ctrl-C ends at once."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            # uvicorn's own raises the signal again in the end, and the process would die of it.
            wanted = (signal.SIGINT, signal.SIGTERM)
            before = {number: signal.signal(number, self.handle_exit) for number in wanted}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_start()

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(seconds) + 1,
    )
    Server(config).run(sockets=[bound])
