"""The command that serves runs over HTTP: serve."""

from __future__ import annotations

from dataclasses import fields
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from textwright.errors import ServerError
from textwright.server.limits import Limits

LIMITS = Limits()
_HELP = {limit.name: limit.metadata["description"] for limit in fields(Limits)}


def serve(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN…", help="Run folders; each is a model named as its folder."),
    ],
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="The address to listen on. Any but this machine's own needs --api-key or "
            "--no-auth.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes one that is free.")
    ] = 8000,
    api_key: Annotated[
        str,
        typer.Option(
            "--api-key",
            envvar="TEXTWRIGHT_API_KEY",
            help="Clients have to send it, as they send OpenAI's.",
        ),
    ] = "",
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let other machines write without a key.")
    ] = False,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            "--cors",
            help="A page's origin, such as https://example.org, whose scripts may read the "
            "answers. Repeatable.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help=_HELP["batch_size"])] = (
        LIMITS.batch_size
    ),
    queue: Annotated[int, typer.Option("--queue", min=1, help=_HELP["queue"])] = LIMITS.queue,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, help=_HELP["seconds"])
    ] = LIMITS.seconds,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Serve runs as a page, and to programs that speak OpenAI's completions.

    Ctrl-C or SIGTERM ends it: new requests are refused, and texts that are being written finish.
    """
    for package in ("fastapi", "prometheus_client", "uvicorn"):
        if find_spec(package) is None:
            raise ServerError(f"{package} is missing: pip install 'textwright[serve]'.")
    from textwright.cli.display import Progression
    from textwright.server import listen
    from textwright.server.app import create_app
    from textwright.server.served import ServedRun, open_run

    if not isfinite(seconds):
        raise ServerError(f"--seconds is {seconds}: give a number, such as {LIMITS.seconds:g}.")
    listen.check_access(host, api_key, no_auth)
    named = listen.name_runs(runs)
    texts = min(LIMITS.texts, queue)  # more would never find room
    limits = Limits(batch_size=batch_size, queue=queue, texts=texts, seconds=seconds)
    bound = listen.listen(host, port)
    with bound:
        served: list[ServedRun] = []
        with Progression() as shown:
            for name, path in named.items():
                shown.show("Opening runs", len(served), len(named))
                served.append(open_run(name, path, limits, device, shown.show))
        app = create_app(
            served,
            limits=limits,
            key=api_key.strip(),  # as the guard does with the one that is sent
            origins=cors or (),
            local=host in listen.LOOPBACK,
        )
        address = listen.name_address(host, bound)
        started = f"Serving {', '.join(named)} at {address}/v1 · page: {address} · Ctrl-C ends"
        listen.serve(app, bound, limits.seconds, lambda: typer.echo(started, err=True))
