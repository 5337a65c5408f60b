"""Streams at the same time on a server, beside one that writes one text at a time, in turn.

    python benchmarks/serving.py RUN --out serving.json

Two servers of this code hold the same run: one as `textwright serve` starts it, one with
--batch-size 1, where all others wait. So many clients at a time ask for texts, one after another,
for some seconds; the stop is forbidden, so all texts are as long. The table gives tokens a second,
the time to the first token, and the time between two tokens (median and 99th percentile, in
milliseconds) as the clients see them. The clients run in one process of their own.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
SERVERS = {"textwright": [], "one at a time": ["--batch-size", "1"]}


@dataclass
class Load:
    """What the clients have seen. Times are in seconds."""

    tokens: int = 0
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)


class Server:
    """A server in a process of its own."""

    def __init__(self, run: Path, options: list[str], threads: int) -> None:
        counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        path = {"PYTHONPATH": str(HERE.parent / "src")}
        command = [sys.executable, "-m", "textwright", "serve", str(run), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--queue", "10000", *options],
            env=os.environ | counts | path,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr
        said: list[str] = []
        while not said or not said[-1].startswith("Serving"):
            said.append(self.process.stderr.readline())
            if not said[-1]:
                raise SystemExit(f"The server did not start: {''.join(said)}")
        self.url = said[-1].split(" at ")[1].split("/v1")[0]

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


def stop_id(url: str) -> int:
    """The id that ends a text."""
    with urllib.request.urlopen(f"{url}/tokenizer_info") as answer:
        stop = json.load(answer)["eos_token"]
    body = json.dumps({"prompt": stop}).encode()
    sent = urllib.request.Request(
        f"{url}/tokenize", body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(sent) as answer:
        return int(json.load(answer)["tokens"][0])


async def client(url: str, body: dict[str, Any], end: float, load: Load, seed: int) -> None:
    """Ask for one text after another, and note when its tokens come."""
    address = urlsplit(url)
    while time.perf_counter() < end:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        data = json.dumps({**body, "seed": seed}).encode()
        seed += 1000
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        asked, last = time.perf_counter(), None
        async for line in reader:
            if not line.startswith(b"data: {"):
                continue
            now = time.perf_counter()
            if now > end:
                break
            if last is None:
                load.first.append(now - asked)
            else:
                load.between.append(now - last)
            last = now
            load.tokens += 1
        writer.close()


async def measure(url: str, streams: int, tokens: int, seconds: float) -> dict[str, float]:
    """The load of so many clients on one server."""
    stop = stop_id(url)
    body = {"prompt": None, "stream": True, "max_tokens": tokens, "logit_bias": {stop: -100}}
    load, begun = Load(), time.perf_counter()
    clients = (client(url, body, begun + seconds, load, seed) for seed in range(streams))
    await asyncio.gather(*clients)
    return {
        "tokens_per_second": load.tokens / seconds,
        **spread("first", load.first),
        **spread("between", load.between),
    }


def spread(name: str, values: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    ranked = sorted(values) or [float("nan")]
    return {
        f"{name}_ms": 1000 * statistics.median(ranked),
        f"{name}_ms_p99": 1000 * ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))],
    }


def main() -> None:
    """Start both servers, load them in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--tokens", type=int, default=200, help="new ones of each text")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("serving.json"))
    given = parser.parse_args()
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=HERE, capture_output=True, text=True).stdout.strip()
    servers: dict[str, Server] = {}
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    try:
        for name, options in SERVERS.items():
            servers[name] = Server(given.run, options, given.threads)
        for server in servers.values():  # warm up
            asyncio.run(measure(server.url, 4, 20, 1.0))
        for _ in range(given.rounds):
            for streams in given.streams:
                for name, server in servers.items():
                    one = asyncio.run(measure(server.url, streams, given.tokens, given.seconds))
                    found.setdefault(str(streams), {}).setdefault(name, []).append(one)
    finally:
        for server in servers.values():
            server.end()
    print("| streams | server | tokens/s | first token, ms | p99 | between tokens, ms | p99 |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for streams, by_server in found.items():
        for name, rounds in by_server.items():
            cells = [statistics.median(one[key] for one in rounds) for key in rounds[0]]
            shown = " | ".join(f"{cell:,.0f}" if cell >= 100 else f"{cell:.1f}" for cell in cells)
            print(f"| {streams} | {name} | {shown} |")
    record = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": given.threads,
        "python": platform.python_version(),
        "commit": commit,
        "tokens": given.tokens,
        "found": found,
    }
    given.out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
