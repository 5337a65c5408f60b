"""Servers as tests use them: in the process, without a network, or on a port of 127.0.0.1."""

import asyncio
import json
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn

from textwright.server.app import create_app
from textwright.server.limits import Limits
from textwright.server.listen import listen
from textwright.server.served import open_run


def make_app(*paths: Path, key: str = "", origins=(), local: bool = False, **limits):
    """An app that serves runs under their folders' names."""
    bounds = Limits(**limits)
    runs = [open_run(path.name, path, bounds) for path in paths]
    return create_app(runs, limits=bounds, key=key, origins=origins, local=local)


def ask(app, *bodies, path="/v1/completions", **headers):
    """Answers to bodies that are posted at the same time; bytes are sent as they are."""

    async def post():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await asyncio.gather(*(one(client, body) for body in bodies))

    async def one(client, body):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json", **headers}
        return await client.post(path, content=content, headers=sent)

    return asyncio.run(post())


def get(app, path, method="GET", **headers):
    """The answer to a GET, or to another method without a body."""

    async def go():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(go())


def complete(app, **body):
    """The answer to one completion, which has to succeed."""
    [answer] = ask(app, body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(text: str):
    """What a stream has sent, and whether it ended as a stream ends."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return list(map(json.loads, lines))


@contextmanager
def running(app):
    """The app on a free port of 127.0.0.1 → its address."""
    bound = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
