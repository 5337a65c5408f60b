"""Tokens a second of 1, 8, 32 and 128 texts at a time, beside another checkout's code, in turn.

    python benchmarks/engine.py recipes-lstm wine-gpt --out engine.json [--source OTHER_CHECKOUT]

Each code runs in a process of its own that is kept, and both write in turn, so that what else the
machine does disturbs both alike. The models are those of the presets, untrained, because each token
costs the same; the tokenizer is the corpus'. The table gives medians over rounds and the median of
the ratios, each of two neighboring measurements.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# New tokens of each text; the stop is forbidden, so all are written. wine-gpt's context is 80 ids.
TOKENS = {"recipes-lstm": 300, "wine-gpt": 77}
CORPORA = {
    "recipes-lstm": "epicurious_recipes.json.gz",
    "wine-gpt": "winemag-data-130k-v2_first10001.csv.gz",
}
HERE = Path(__file__).resolve().parent


def prepare(preset: str, folder: Path) -> None:
    """Keep the tokenizer and the untrained weights of a preset for all workers."""
    import numpy as np
    import torch

    from textwright.config import Config
    from textwright.corpus import Corpus
    from textwright.models import build
    from textwright.tokenizer import Tokenizer

    config = Config.resolve(preset=preset)
    corpus = Path(os.environ.get("TEXTWRIGHT_CORPORA", ".")) / CORPORA[preset]
    documents = Corpus([str(corpus)], config.corpus).documents("train")
    Tokenizer.train(config.tokenizer, documents).save(folder / "tokenizer.json")
    torch.manual_seed(0)
    model = build(config.model, config.tokenizer.vocab_size, config.data.context_length)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    np.savez(folder / "weights.npz", **weights)


def work(preset: str, folder: Path, seconds: float) -> None:
    """Write as many texts at a time as each line of the input says; print tokens a second."""
    import numpy as np

    from textwright.config import Config
    from textwright.families import implementation
    from textwright.tokenizer import Tokenizer
    from textwright.writing.generator import Generator
    from textwright.writing.sampling_options import SamplingOptions

    config, count = Config.resolve(preset=preset), TOKENS[preset]
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    options = config.model.with_context(config.data.context_length)
    backend = implementation(config.model.backend)(dict(np.load(folder / "weights.npz")), options)
    sampling = SamplingOptions(max_new_tokens=count, min_new_tokens=count)
    for line in sys.stdin:
        texts = int(line)
        generator = Generator(backend, tokenizer, batch_size=texts)
        start, written = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            stream = generator.stream(config.train.sample_prompt, sampling, num=texts)
            for event in stream:
                written += event.id is not None
                if event.sample == 0 and time.perf_counter() - start > seconds:
                    break
        print(written / (time.perf_counter() - start), flush=True)


class Worker:
    """The code of one checkout, ready to write."""

    def __init__(self, source: Path, preset: str, folder: Path, given: argparse.Namespace) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(given.threads))
        self.process = subprocess.Popen(
            [sys.executable, __file__, preset, "--worker", folder, "--seconds", str(given.seconds)],
            env=os.environ | threads | {"PYTHONPATH": str(source / "src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, texts: int) -> float:
        """Tokens a second."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{texts}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def compare(preset: str, given: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second by number of texts and code, a value for each round."""
    sources = {"here": HERE.parent} | ({"other": given.source} if given.source else {})
    with tempfile.TemporaryDirectory() as name:
        prepare(preset, Path(name))
        workers = {who: Worker(s, preset, Path(name), given) for who, s in sources.items()}
        found: dict[int, dict[str, list[float]]] = {}
        for number in range(given.rounds + 1):
            for texts in given.texts:
                for who, worker in workers.items():
                    speed = worker.measure(texts)
                    if number:  # the first round warms up
                        found.setdefault(texts, {}).setdefault(who, []).append(speed)
        for worker in workers.values():
            worker.process.communicate()
    for texts, speeds in found.items():
        line = f"| {preset} | {texts} | {statistics.median(speeds['here']):,.0f} |"
        if "other" in speeds:
            ratios = [a / b for a, b in zip(speeds["here"], speeds["other"], strict=True)]
            line += (
                f" {statistics.median(speeds['other']):,.0f} | {statistics.median(ratios):.2f} |"
            )
        print(line, flush=True)
    return {str(texts): speeds for texts, speeds in found.items()}


def commit(source: Path) -> str:
    """The commit of a checkout, where it is one."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, cwd=source, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Read the command line, alternate, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="+", choices=TOKENS)
    parser.add_argument("--source", type=Path, help="another checkout, measured beside this one")
    parser.add_argument("--texts", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("engine.json"))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        return work(given.presets[0], given.worker, given.seconds)
    print("| preset | texts | here, tokens/s | other, tokens/s | ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    record = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": given.threads,
        "python": platform.python_version(),
        "commit": commit(HERE),
        "other": commit(given.source) if given.source else None,
        "tokens_per_second": {preset: compare(preset, given) for preset in given.presets},
    }
    given.out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
