"""A server under mixed load for a while: is its memory flat, and every text that of its seed?

    python benchmarks/server_soak.py RUN --minutes 10 --out server_soak.json

Sixteen clients ask for one thing after another, as chance has it: streams and whole answers, one
text or several, with and without log-probabilities, with different sampling options, scores of a
prompt, and streams that are left in the middle. Every text is written again by `Writer.generate`,
alone, and compared. The table has a row for each half minute. In float32 a product may round a row
otherwise beside other rows, so a draw that lies on the boundary of two tokens may fall on its other
side, after which the texts part: the first five that differ are printed, to be looked at. Exits
with 1 where more than one text in 200 differs, where an answer is missing, or where memory has
grown between the first third and the last. Linux.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from server_harm import PATIENCE, files, memory, texts_left
from serving import Server

from textwright.api import Writer, load

CLIENTS = 16
HALF_MINUTE = 30.0
GROWTH = 16 << 20  # bytes
PROMPTS = ["", "The", "A ", "wine", "It was", "the the the", "1 2 3"]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0},
    {"temperature": 0.6, "top_k": 20},
    {"top_p": 0.9},
    {"min_p": 0.05, "repetition_penalty": 1.2},
    {"typical_p": 0.8, "presence_penalty": 0.4, "frequency_penalty": 0.1},
    {"no_repeat_ngram": 3},
    {"beams": 3, "temperature": 0},
]


def wanted(chance: random.Random) -> dict[str, Any]:
    """What a client asks for."""
    body = {
        "prompt": chance.choice(PROMPTS),
        "seed": chance.randrange(10**6),
        "max_tokens": chance.choice([1, 8, 30, 120]),
        "stream": chance.random() < 0.7,
        **chance.choice(SETTINGS),
    }
    if "beams" not in body:
        body["n"] = chance.choice([1, 1, 1, 3])
    if chance.random() < 0.3:
        body |= {"logprobs": chance.choice([0, 3])}
    if chance.random() < 0.1:
        body |= {"echo": True, "logprobs": 1}
    return body


async def read(client: httpx.AsyncClient, body: dict[str, Any]) -> list[str]:
    """The texts of an answer, by index."""
    texts: dict[int, str] = {}
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code} {(await answer.aread()).decode()}: {body}")
        if not body["stream"]:
            await answer.aread()
            return [choice["text"] for choice in answer.json()["choices"]]
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    return [texts[index] for index in sorted(texts)]


async def ask(url: str, seconds: float, chance: random.Random) -> list[tuple[Any, list[str]]]:
    """What the clients asked for, and got."""
    came: list[tuple[Any, list[str]]] = []
    end = time.monotonic() + seconds

    async def one(client: httpx.AsyncClient) -> None:
        while time.monotonic() < end:
            body = wanted(chance)
            reading = asyncio.wait_for(read(client, body), PATIENCE)
            if chance.random() < 0.05:  # it goes away
                with suppress(TimeoutError):
                    await asyncio.wait_for(reading, 0.02)
            else:
                came.append((body, await reading))

    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        await asyncio.gather(*(one(client) for _ in range(CLIENTS)))
    return came


def alone(writer: Writer, body: dict[str, Any]) -> list[str]:
    """The texts of the same seed, written by themselves."""
    named = {"n": "num", "max_tokens": "max_new_tokens"}
    left = {"prompt", "stream", "logprobs", "echo"}
    options = {named.get(key, key): value for key, value in body.items() if key not in left}
    samples = writer.generate(body["prompt"], batch_size=1, **{"beams": 1, **options})
    return [(sample.prompt if body.get("echo") else "") + sample.text for sample in samples]


def main() -> None:
    """Serve the run, ask for so many minutes, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("server_soak.json"))
    given = parser.parse_args()
    writer, chance = load(given.run), random.Random(given.seed)
    server = Server(given.run, [], 1)
    rows: list[dict[str, Any]] = []
    other: list[Any] = []
    print("| minutes | texts | characters | differing | memory, MB | open files |", flush=True)
    print("| ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    try:
        loaded = 0.0
        while loaded < 60 * given.minutes:
            begun = time.monotonic()
            came = asyncio.run(ask(server.url, HALF_MINUTE, chance))
            loaded += time.monotonic() - begun
            found = [(text, body) for body, texts in came for text in texts]
            again = [text for body, _ in came for text in alone(writer, body)]
            differing = [(t, a, b) for (t, b), a in zip(found, again, strict=True) if t != a]
            other += differing
            pid = server.process.pid
            row = {
                "minutes": loaded / 60,
                "texts": len(found),
                "characters": sum(len(text) for text, _ in found),
                "differing": len(differing),
                "memory": memory(pid),
                "files": files(pid),
            }
            rows.append(row)
            shown = [*row.values()]
            shown[0], shown[4] = f"{row['minutes']:.1f}", row["memory"] >> 20
            print(f"| {' | '.join(map(str, shown))} |", flush=True)
        left = texts_left(server.url)
    finally:
        server.end()
    third = max(1, len(rows) // 3)
    first, last = (
        float(np.median([row["memory"] for row in part])) for part in (rows[:third], rows[-third:])
    )
    print(f"{sum(row['texts'] for row in rows):,} texts, {len(other)} of them differ;", end=" ")
    print(f"memory grew by {(last - first) / (1 << 20):.1f} MB; {left:g} texts are left")
    for text, own, body in other[:5]:
        print(json.dumps({"asked": body, "came": text, "alone": own}))
    given.out.write_text(json.dumps({"rows": rows, "differing": other}, indent=1) + "\n", "utf-8")
    few = len(other) <= sum(row["texts"] for row in rows) / 200
    sys.exit(not few or last - first > GROWTH or bool(left))


if __name__ == "__main__":
    main()
