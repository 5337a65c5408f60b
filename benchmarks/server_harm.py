"""What a server bears: wrong requests, random bytes, and clients that stop, dawdle or vanish.

    python benchmarks/server_harm.py RUN --requests 100000 --out server_harm.json

Each kind of harm meets the same server, one after another, many at a time, and twice over: the
first time may make the process larger, the second may not. After each, nothing may be left of it:
no text that is still being written, no file that is open; and the server still writes the texts
that `textwright generate` writes of their seeds. The table gives what was answered, and the
server's memory. Exits with 1 where an answer is 5xx, or anything is left. Linux.
"""

import argparse
import asyncio
import json
import os
import random
import re
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serving import Server

from textwright.api import Writer, load

AT_A_TIME = 64
PATIENCE = 60.0  # seconds, after which an answer or an end is missing
MEMORY = 16 << 20  # bytes more than the first time that mean nothing
ANY = [None, True, 0, 1, -1, 3.5, 10**30, 1e308, "", "a", "é🙂\0", "\ud800", [], [0], {}, [[]]]
FIELDS: dict[str, list[Any]] = {
    "prompt": ["The", ["a", "b"], [2, 3], [[3], [4]], "soup " * 50],
    "max_tokens": [0, 1, 5, 30, 10**18],
    "n": [1, 2, 5, 129],
    "best_of": [1, 3],
    "stream": [True, False],
    "stream_options": [{"include_usage": True}, {"x": 1}],
    "stop": ["a", ["a", " "], ["."]],
    "echo": [True, False],
    "logprobs": [0, 1, 5, 51],
    "logit_bias": [{"5": 1}, {"5": -100}, {"x": 1}, {"-1": 2}],
    "temperature": [0, 0.7, 1, 1e-300],
    "top_p": [1, 0.5, 1e-12],
    "top_k": [0, 1, 50],
    "min_p": [0, 0.1],
    "typical_p": [1, 0.2],
    "presence_penalty": [0, 2, -1e308],
    "frequency_penalty": [0, 2],
    "repetition_penalty": [1, 2, 1e-308],
    "no_repeat_ngram": [0, 1, 3],
    "min_tokens": [0, 3],
    "beams": [1, 3],
    "seed": [0, 2**64 - 1],
    "fields": [{"x": "y"}],
    "begin": [[2], [2, 3], [10**9]],
    "return_token_ids": [True],
    "suffix": ["", "x"],
    "user": ["me"],
    "model": ["../x"],
    "tokens": [[2, 3]],
    "top": [1, 20],
    "target": [2],
    "add_special_tokens": [True],
}
PATHS = ["/v1/completions"] * 12 + ["/tokenize", "/detokenize", "/api/inspect"] * 2
PATHS += ["/tokenizer_info", "/v1/models", "/v1/models/%2e%2e", "/api/runs", "/metrics", "/health"]
PATHS += ["/", "/web/page.css", "/web/../secret", "/nothing", "/v1/chat/completions"]


@dataclass
class Harm:
    """What one kind of harm came to."""

    name: str
    answers: Counter[int] = field(default_factory=Counter)  # by status; 0: none
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0  # bytes of the server, afterwards

    def line(self) -> str:
        """A row of the table."""
        told = ", ".join(f"{status or 'none'}: {n:,}" for status, n in sorted(self.answers.items()))
        fine = "; ".join(self.problems) or "nothing"
        return f"| {self.name} | {self.answers.total():,} | {told} | {self.memory >> 20} | {fine} |"


class Client:
    """Connections to a server, as raw bytes."""

    def __init__(self, url: str) -> None:
        self.host = urlsplit(url).netloc

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.host.split(":")
        return await asyncio.open_connection(host, int(port))

    def post(self, path: str, body: bytes, length: int | None = None, more: str = "") -> bytes:
        """A request; length: the one that it states."""
        length = len(body) if length is None else length
        head = f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        return f"{head}{more}Content-Length: {length}\r\n\r\n".encode() + body

    def stream(self, tokens: int) -> bytes:
        """A request for a text that goes on for long."""
        asked = {"stream": True, "max_tokens": tokens, "n": 2, "min_tokens": tokens}
        return self.post("/v1/completions", json.dumps(asked).encode())

    async def send(self, data: bytes) -> int:
        """The status of the answer to one request, which is read to its end; 0: there is none."""
        reader, writer = await self.open()
        try:
            with suppress(ConnectionError):  # refused before all of it was sent
                writer.write(data)
                await writer.drain()
            return await asyncio.wait_for(_status(reader), PATIENCE)
        finally:
            writer.close()


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the next answer, which is read to its end."""
    found = 0
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        found = int(head.split(b" ")[1])
        if length := re.search(rb"content-length: (\d+)", head, re.I):
            await reader.readexactly(int(length[1]))
        elif re.search(rb"transfer-encoding: chunked", head, re.I):
            while size := int(await reader.readline(), 16):
                piece = await reader.readexactly(size + 2)
                if b"server_error" in piece:
                    found = 500
            await reader.readline()
    return found


async def all_of(harm: Harm, count: int, one: Callable[[int], Awaitable[int]]) -> None:
    """Do something so many times, many at a time, and count the answers."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            try:
                harm.answers[await one(number)] += 1
            except TimeoutError:
                harm.problems.append(f"number {number} had no answer")

    await asyncio.gather(*(work() for _ in range(min(AT_A_TIME, count))))


# --- harm -----------------------------------------------------------------------------------------


def fuzzed(chance: random.Random) -> bytes:
    """A body with some fields, of which some are wrong, and which may be damaged."""
    body = {}
    for name in chance.sample([*FIELDS], chance.randint(0, 6)):
        body[name] = chance.choice(ANY if chance.random() < 0.2 else FIELDS[name])
    if body.get("max_tokens") not in (0, 1, 5):
        body["max_tokens"] = chance.choice([1, 4, 12])
    data = json.dumps(body).encode()
    if chance.random() < 0.15:
        place = chance.randrange(len(data))
        data = data[:place] + chance.randbytes(chance.randint(0, 3)) + data[place + 1 :]
    return data


async def fuzz(client: Client, harm: Harm, count: int, seed: int) -> None:
    """Wrong and right requests on connections that are kept."""
    chance = random.Random(seed)
    kept: list[Any] = []

    async def one(number: int) -> int:
        path, body = chance.choice(PATHS), fuzzed(chance)
        data = client.post(path, body)
        if chance.random() < 0.1 or "info" in path or path.startswith(("/api/r", "/h", "/m")):
            data = f"GET {path} HTTP/1.1\r\nHost: {client.host}\r\n\r\n".encode()
        reader, writer = kept.pop() if kept else await client.open()
        with suppress(ConnectionError):
            writer.write(data)
            found = await asyncio.wait_for(_status(reader), PATIENCE)
            if found and found not in (408, 413):
                kept.append((reader, writer))
                return found
        writer.close()
        if found >= 500:
            harm.problems.append(f"{path} {body!r} gave {found}")
        return found

    await all_of(harm, count, one)
    for _, writer in kept:
        writer.close()


async def random_bytes(client: Client, harm: Harm, count: int, seed: int) -> None:
    """What is no HTTP, or only the beginning of it."""
    chance = random.Random(seed)
    begins = [b"", b"GET / HTTP/1.1\r\n", b"POST /v1/completions HTTP/1.1\r\nContent-Length: "]
    begins.append(b"POST /tokenize HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def one(number: int) -> int:
        reader, writer = await client.open()
        with suppress(ConnectionError):
            writer.write(chance.choice(begins) + chance.randbytes(chance.randint(0, 400)))
            writer.write_eof()
            found = await asyncio.wait_for(_status(reader), PATIENCE)
            writer.close()
            return found
        return 0

    await all_of(harm, count, one)


async def half_bodies(client: Client, harm: Harm, count: int, seed: int) -> None:
    """Bodies that end before they should: the client waits a moment, and goes."""

    async def one(number: int) -> int:
        reader, writer = await client.open()
        writer.write(client.post("/v1/completions", b'{"prompt": "The', 100))
        with suppress(TimeoutError):
            return await asyncio.wait_for(_status(reader), 0.2)
        writer.close()
        return 0

    await all_of(harm, count, one)


async def slow_readers(client: Client, harm: Harm, count: int, seed: int) -> None:
    """Streams that are read a little at a time, and left."""

    async def one(number: int) -> int:
        reader, writer = await client.open()
        writer.write(client.stream(2_000))
        status = int((await asyncio.wait_for(reader.readuntil(b"\r\n"), PATIENCE)).split()[1])
        for _ in range(10):
            await reader.read(100)
            await asyncio.sleep(0.05)
        writer.transport.abort()
        return status

    await all_of(harm, count, one)


async def vanishing(client: Client, harm: Harm, count: int, seed: int) -> None:
    """Clients that go at any moment of a stream."""
    chance = random.Random(seed)

    async def one(number: int) -> int:
        reader, writer = await client.open()
        writer.write(client.stream(500))
        left = chance.randrange(3_000)
        found = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5 * chance.random()):
                while len(found) < left and (new := await reader.read(500)):
                    found += new
        writer.transport.abort()
        return int(found.split(b" ")[1]) if found else 0

    await all_of(harm, count, one)


async def long_prompts(client: Client, harm: Harm, count: int, seed: int) -> None:
    """Ten megabytes, of a stated length and of none."""
    body = json.dumps({"prompt": "soup " * 2_000_000}).encode()
    chunked = client.post("/v1/completions", b"", more="Transfer-Encoding: chunked\r\n")
    chunked = chunked.replace(b"Content-Length: 0\r\n", b"")
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    longest = json.dumps({"prompt": "soup " * 700_000, "max_tokens": 1}).encode()
    each = [client.post("/v1/completions", body), chunked]
    each.append(client.post("/v1/completions", longest))
    await all_of(harm, count, lambda number: client.send(each[number % len(each)]))


async def idle(client: Client, harm: Harm, count: int, seed: int) -> None:
    """Connections that say nothing, while others are served."""
    opened = [await client.open() for _ in range(count)]
    body = json.dumps({"prompt": "The", "max_tokens": 5}).encode()
    harm.answers[0] += count
    for _ in range(20):
        harm.answers[await client.send(client.post("/v1/completions", body))] += 1
    for _, writer in opened:
        writer.close()


# How often each kind is done, but for `fuzz`.
OTHERS = [
    (random_bytes, 1_000),
    (half_bodies, 250),
    (slow_readers, 25),
    (vanishing, 250),
    (long_prompts, 6),
    (idle, 1_000),
]


# --- what is left ---------------------------------------------------------------------------------


def memory(pid: int) -> int:
    """Bytes that a process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def files(pid: int) -> int:
    """How many files a process has open, sockets included."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def texts_left(url: str) -> float:
    """How many texts the server writes, or has waiting."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        found = re.search(r"^textwright_texts (\S+)", answer.read().decode(), re.M)
    assert found
    return float(found[1])


def wrong_texts(url: str, writer: Writer) -> int:
    """How many of some texts are not those of their seeds."""
    wrong = 0
    for seed, prompt in enumerate(["", "The", "A", "soup"]):
        body = json.dumps({"prompt": prompt, "seed": seed, "max_tokens": 30}).encode()
        sent = urllib.request.Request(
            f"{url}/v1/completions", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(sent, timeout=PATIENCE) as answer:
            found = json.load(answer)["choices"][0]["text"]
        [wanted] = writer.generate(prompt, seed=seed, max_new_tokens=30, min_new_tokens=0)
        wrong += found != wanted.text
    return wrong


def look_after(harm: Harm, server: Server, writer: Writer, opened: int) -> None:
    """Wait until nothing is left, or note what is. opened: files that were open before."""
    pid, end = server.process.pid, time.monotonic() + PATIENCE
    while time.monotonic() < end and (texts_left(server.url) or files(pid) > opened):
        time.sleep(0.2)
    if left := texts_left(server.url):
        harm.problems.append(f"{left:g} texts are left")
    if (more := files(pid) - opened) > 0:
        harm.problems.append(f"{more} files are left")
    if wrong := wrong_texts(server.url, writer):
        harm.problems.append(f"{wrong} texts are not those of their seeds")
    harm.memory = memory(pid)
    if bad := sum(count for status, count in harm.answers.items() if status >= 500):
        harm.problems.append(f"{bad} answers are 5xx")


def main() -> None:
    """Serve the run, harm the server, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--requests", type=int, default=10_000, help="of fuzz")
    names = [fuzz.__name__, *(kind.__name__ for kind, _ in OTHERS)]
    parser.add_argument("--only", nargs="+", choices=names, help="these kinds, not all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("server_harm.json"))
    given = parser.parse_args()
    writer = load(given.run)
    kinds = [(fuzz, given.requests // 2), *OTHERS]
    kinds = [one for one in kinds if not given.only or one[0].__name__ in given.only]
    server = Server(given.run, [], 1)
    done: list[Harm] = []
    print("| harm | times | answers | memory, MB | left or wrong |", flush=True)
    print("| --- | ---: | --- | ---: | --- |", flush=True)
    try:
        client = Client(server.url)
        asyncio.run(fuzz(client, Harm("at first"), 500, given.seed - 1))
        opened = files(server.process.pid)
        for number, (kind, count) in enumerate(kinds):
            first = 0
            for time_ in ("first", "again"):
                harm, begun = Harm(f"{kind.__name__.replace('_', ' ')}, {time_}"), time.monotonic()
                asyncio.run(kind(client, harm, count, given.seed + 2 * number + bool(first)))
                harm.seconds = time.monotonic() - begun
                look_after(harm, server, writer, opened)
                if first and harm.memory - first > MEMORY:
                    harm.problems.append(f"{harm.memory - first >> 20} MB are left")
                first = harm.memory
                done.append(harm)
                print(harm.line(), flush=True)
    finally:
        server.end()
    if server.process.returncode:
        print(f"The server ended with {server.process.returncode}.")
    told = [{**vars(harm), "answers": dict(harm.answers)} for harm in done]
    given.out.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    sys.exit(any(harm.problems for harm in done) or server.process.returncode)


if __name__ == "__main__":
    main()
