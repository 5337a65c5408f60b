"""Tokens a second of a pretrained model: textwright, transformers and llama.cpp, in turn.

    python benchmarks/writing_beside_others.py MODEL.gguf --out writing.json [--rounds 3]

All write the same number of tokens after the same prompt, one text at a time, greedily, on the
same number of threads. transformers computes the model that textwright exports, llama.cpp reads the
file itself. Each reads all weights for each token, so the bytes of the weights over the time of a
token show how near that is to the memory's bandwidth, measured by adding up a large array.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import llama_cpp
import torch
import transformers

from textwright.backends.numpy_gpt import NumpyGPT
from textwright.export.gpt_forms import transformers_files
from textwright.families import GPTOptions
from textwright.models import TorchBackend, build_with
from textwright.models.pretrained import find_published
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions

PROMPT = "Once upon a time there was a kitchen in which"


def bandwidth() -> float:
    """Bytes a second that all threads together read from memory."""
    array = torch.ones(1 << 27)  # 512 MB
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        array.sum()
        best = max(best, array.nbytes / (time.perf_counter() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    published = find_published(given.model)
    assert published is not None
    tokenizer, options = published.tokenizer, GPTOptions(**published.model)
    weights = published.weights()
    model = build_with(weights, published.path, options, tokenizer.vocab_size, 1)
    size = sum(array.nbytes for array in weights.values())
    greedy = SamplingOptions(
        temperature=0, max_new_tokens=given.tokens, min_new_tokens=given.tokens
    )
    prompt = [tokenizer.stop_id, *tokenizer.encode(PROMPT).tolist()]

    def by(backend) -> Callable[[], None]:
        generator = Generator(backend, tokenizer)
        return lambda: [*generator.generate(PROMPT, greedy)]

    config, tensors = transformers_files(model, tokenizer.vocab_size, tokenizer.stop_id)
    theirs = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config)
    )
    theirs.load_state_dict({n: torch.from_numpy(a) for n, a in tensors.items()}, strict=False)
    theirs.eval()

    def by_transformers() -> None:
        ids = torch.tensor([prompt])
        count = given.tokens
        theirs.generate(ids, do_sample=False, min_new_tokens=count, max_new_tokens=count)

    def by_llama(path: str) -> Callable[[], None]:
        llama = llama_cpp.Llama(path, n_ctx=512, n_threads=threads, verbose=False)

        def write() -> None:
            llama.reset()
            for _ in islice(llama.generate(prompt, temp=0.0), given.tokens):
                pass

        return write

    stored = Path(given.model).stat().st_size
    ways = {
        "textwright, NumPy (float32)": (by(NumpyGPT(weights, options)), size),
        "textwright, torch (float32)": (by(TorchBackend(model)), size),
        "transformers (float32)": (by_transformers, size),
        f"llama.cpp ({Path(given.model).suffixes[0].strip('.')})": (
            by_llama(given.model),
            stored,
        ),
    }
    speed = bandwidth()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for write, _ in ways.values():
        write()  # warm-up
    for _ in range(given.rounds):
        for name, (write, _) in ways.items():
            start = time.perf_counter()
            write()
            times[name].append((time.perf_counter() - start) / given.tokens)
    print(f"bandwidth {speed / 1e9:.1f} GB/s, {threads} threads")
    print("| | tokens/s | weights | share of bandwidth |\n| --- | ---: | ---: | ---: |")
    rows = []
    for name, (_, read) in ways.items():
        median = statistics.median(times[name])
        rows.append({"name": name, "seconds": times[name], "bytes": read})
        share = read / median / speed
        print(f"| {name} | {1 / median:.1f} | {read / 1e6:.0f} MB | {share:.0%} |")
    machine = {"machine": platform.machine(), "threads": threads, "bandwidth": speed}
    given.out.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
