"""S1's training step and writing, textwright beside the source's Keras code, in turn, in one run.

    python benchmarks/speed.py [CORPUS] --out speed.json [--keras PYTHON]

Each round times some training steps of Keras and of textwright on the same rows, and the writing
of one text at a time (by Keras' `predict` loop and by textwright) and of 32 together. The table
gives medians over rounds. PYTHON is one that has Keras; by default the one that runs this.
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

import numpy as np
import torch
from recipes_against_keras import PRESET, Recorded, write_rows

from textwright.config import Config
from textwright.corpus import Corpus
from textwright.generator import Generator
from textwright.models import TorchBackend, build
from textwright.numpy_lstm import NumpyLSTM
from textwright.sampling import SamplingOptions
from textwright.tokenizer import Tokenizer
from textwright.trainer import Trainer

STEPS = 30  # timed in each round, after WARM_UP
WARM_UP = 5
TOKENS = 300  # of each text; the stop is forbidden, so that every text has them
HERE = Path(__file__).parent


def time_training(rows: Path, threads: int) -> float:
    """Median milliseconds of a step."""
    torch.set_num_threads(threads)
    config = Config.resolve(preset=PRESET)
    arrays = np.load(rows)
    layout = Recorded(arrays["inputs"], arrays["targets"])
    model = build(config.model, config.tokenizer.vocab_size, config.data.context_length)
    trainer = Trainer(model, layout, config.train, None)
    times = []
    for _ in range(WARM_UP + STEPS):
        start = time.perf_counter()
        trainer.train_step()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[WARM_UP:])


def time_writing(tokenizer: Tokenizer, backend: str, texts: int) -> float:
    """Tokens a second at temperature 1, weights untrained: every token costs the same."""
    config = Config.resolve(preset=PRESET)
    torch.manual_seed(0)
    model = build(config.model, config.tokenizer.vocab_size, config.data.context_length)
    if backend == "numpy":
        driven = NumpyLSTM({name: t.numpy() for name, t in model.state_dict().items()})
    else:
        driven = TorchBackend(model)
    generator = Generator(driven, tokenizer)
    options = SamplingOptions(max_new_tokens=TOKENS, min_new_tokens=TOKENS)
    generator.generate(
        ["recipe for"], options.model_copy(update={"max_new_tokens": 5, "min_new_tokens": 5})
    )
    stream = generator.stream(["recipe for"], options, num=texts)
    for _ in stream:
        pass
    return stream.tokens_per_second


def run_keras(python: str, rows: Path, threads: int) -> dict[str, float]:
    """One round of keras_lstm.py, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "keras.json"
        command = [python, str(HERE / "keras_lstm.py"), str(rows), "--out", str(out)]
        command += ["--measure-at", str(WARM_UP + STEPS), "--threads", str(threads)]
        subprocess.run(
            command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=HERE
        )
        return json.loads(out.read_text("utf-8"))


def processor() -> str:
    """The processor's name, where the system tells it."""
    names = (
        [
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        if Path("/proc/cpuinfo").exists()
        else []
    )
    return names[0] if names else platform.processor()


def commit() -> str:
    """The commit that was measured."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, cwd=HERE, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Read the command line, alternate, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    corpora = Path(os.environ.get("TEXTWRIGHT_CORPORA", "."))
    recipes = corpora / "epicurious_recipes.json.gz"
    parser.add_argument("corpus", nargs="?", default=str(recipes), help="the recipes")
    parser.add_argument("--out", type=Path, default=Path("speed.json"))
    parser.add_argument("--keras", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()

    config = Config.resolve(preset=PRESET)
    documents = Corpus([given.corpus], config.corpus).documents("train")
    tokenizer = Tokenizer.train(config.tokenizer, documents)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.npz"
        write_rows(given.corpus, rows, WARM_UP + STEPS)
        for _ in range(given.rounds):
            keras = run_keras(given.keras, rows, given.threads)
            measured = {
                "training step, Keras (ms)": keras["milliseconds_a_step"],
                "training step, textwright (ms)": time_training(rows, given.threads),
                "writing one text, Keras predict loop (tokens/s)": keras["tokens_per_second"],
                "writing one text, textwright, NumPy (tokens/s)": time_writing(
                    tokenizer, "numpy", 1
                ),
                "writing one text, textwright, torch (tokens/s)": time_writing(
                    tokenizer, "torch", 1
                ),
                "writing 32 texts, textwright, NumPy (tokens/s)": time_writing(
                    tokenizer, "numpy", 32
                ),
            }
            for name, value in measured.items():
                found.setdefault(name, []).append(value)
            print(json.dumps(measured), flush=True)
    record = {
        "machine": processor(),
        "commit": commit(),
        "cores": os.cpu_count(),
        "threads": given.threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "rounds": given.rounds,
        "measured": found,
    }
    given.out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    for name, values in found.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{name:52} {middle:10,.1f}  ({low:,.1f} … {high:,.1f})")


if __name__ == "__main__":
    main()
