"""Bits per character of a GGUF file, by textwright and by llama.cpp, on the same ids.

    python benchmarks/gguf_bits.py model.gguf epicurious_recipes.json.gz --out gguf_bits.json

Held-out documents are scored whole, each alone: the stop token, the document's tokens, the stop
token. textwright widens the stored numbers to float32. llama.cpp multiplies stored numbers of few
bits with activations in 8 bits, so the two agree up to that rounding; on a file of float32 numbers
they agree to rounding in float32. Also prints the time and memory of opening the file.
"""

import argparse
import json
import math
import os
import platform
import re
import subprocess
import time
from itertools import islice
from pathlib import Path

import llama_cpp
import numpy as np
import torch

from textwright.corpus import Corpus, CorpusOptions
from textwright.evaluation.neural import score
from textwright.families import GPTOptions
from textwright.models import LanguageModel, build_with
from textwright.models.pretrained import find_published
from textwright.tokenizer import Tokenizer

HERE = Path(__file__).parent


def anonymous_memory() -> int:
    """Bytes of this process' anonymous memory (Linux only, else 0)."""
    status = Path("/proc/self/status")
    found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text() if status.exists() else "")
    return 1024 * int(found[1]) if found else 0


def open_file(file: str) -> tuple[LanguageModel, Tokenizer, dict[str, float]]:
    """The model, its tokenizer, and the seconds and bytes that each step took."""
    opened: dict[str, float] = {}
    start, before = time.perf_counter(), anonymous_memory()

    def note(step: str) -> None:
        nonlocal start
        opened[f"{step}_seconds"] = time.perf_counter() - start
        opened[f"{step}_bytes"] = anonymous_memory() - before
        start = time.perf_counter()

    published = find_published(file)
    options = GPTOptions(**published.model)
    note("header")
    tokenizer = published.tokenizer
    note("tokenizer")
    weights = published.weights()
    model = build_with(weights, published.path, options, tokenizer.vocab_size, 0).eval()
    note("weights")
    return model, tokenizer, opened


def score_by_llama(file: str, rows: list[np.ndarray], threads: int) -> list[np.ndarray]:
    """Each target's nats, as `evaluation.neural.score` returns them."""
    model = llama_cpp.Llama(
        file,
        n_ctx=max(map(len, rows)),
        n_threads=threads,
        n_threads_batch=threads,
        logits_all=True,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        verbose=False,
    )
    nats = []
    for row in rows:
        model.reset()
        model.eval(row[:-1].tolist())
        logits = torch.from_numpy(model.scores[: len(row) - 1])
        targets = torch.from_numpy(row[1:].astype(np.int64))
        nats.append(torch.nn.functional.cross_entropy(logits, targets, reduction="none").numpy())
    return nats


def main() -> None:
    """Read the command line, score, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="a GGUF file")
    parser.add_argument("corpus")
    parser.add_argument("--template", default="Recipe for {title} | {directions}")
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--longest", type=int, default=2_000, help="tokens; others are left out")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("gguf_bits.json"))
    given = parser.parse_args()

    torch.set_num_threads(given.threads)
    model, tokenizer, opened = open_file(given.file)
    options = CorpusOptions(template=given.template)
    texts = list(islice(Corpus([given.corpus], options).documents("test"), given.documents))
    stop = np.array([tokenizer.stop_id])
    encoded = [np.concatenate([stop, ids, stop]) for ids in tokenizer.encode_batch(texts)]
    kept = [at for at, row in enumerate(encoded) if len(row) <= given.longest]
    rows, characters = [encoded[at] for at in kept], sum(len(texts[at]) for at in kept)
    measured = {}
    for name, scored in (
        ("textwright", lambda: score(model, rows)),
        ("llama.cpp", lambda: score_by_llama(given.file, rows, given.threads)),
    ):
        start = time.perf_counter()
        nats = np.concatenate(scored())
        measured[name] = {
            "nats_per_token": float(nats.mean()),
            "bits_per_character": float(nats.sum(dtype=np.float64) / math.log(2) / characters),
            "seconds": time.perf_counter() - start,
        }
    ours, theirs = (measured[name]["bits_per_character"] for name in ("textwright", "llama.cpp"))
    asked = ["git", "rev-parse", "--short", "HEAD"]
    record = {
        "file": Path(given.file).name,
        "documents": len(rows),
        "left_out": len(texts) - len(rows),
        "characters": characters,
        "tokens": sum(len(row) - 1 for row in rows),
        "machine": platform.processor() or platform.machine(),
        "commit": subprocess.run(asked, cwd=HERE, capture_output=True, text=True).stdout.strip(),
        "threads": given.threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "llama_cpp": llama_cpp.__version__,
        "opened": opened,
        "measured": measured,
        "difference": ours / theirs - 1,
    }
    given.out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    print("| | bits a character | nats a token | seconds |\n| --- | ---: | ---: | ---: |")
    for name, found in measured.items():
        print(
            f"| {name} | {found['bits_per_character']:.4f} | {found['nats_per_token']:.4f} "
            f"| {found['seconds']:.0f} |"
        )
    print(
        f"\n{len(rows)} documents, {characters:,} characters; difference {ours / theirs - 1:+.2%}"
    )
    for step in ("header", "tokenizer", "weights"):
        seconds, held = opened[f"{step}_seconds"], opened[f"{step}_bytes"]
        print(f"{step}: {seconds:.2f} s, {held / 1e6:.0f} MB held after it")


if __name__ == "__main__":
    main()
