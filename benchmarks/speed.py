"""The training step and the writing of S1 or S4 beside other code, in turn, in one run.

    python benchmarks/speed.py recipes-lstm [CORPUS] --out speed.json [--keras PYTHON]
    python benchmarks/speed.py wine-gpt     [CORPUS] --out speed.json [--keras PYTHON]

Each round times some training steps of Keras and of textwright on the same rows, and the writing
of one text at a time (by Keras' `predict` loop and by textwright) and of 32 together. Beside
wine-gpt, `transformers` writes with a GPT-2 of equal vocabulary, width, layers and heads. The table
gives medians over rounds. PYTHON is a Python that has Keras; by default the one that runs this.
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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rows_against_keras import Recorded, write_rows

from textwright.backends.numpy_gpt import NumpyGPT
from textwright.backends.numpy_lstm import NumpyLSTM
from textwright.config import Config
from textwright.corpus import Corpus
from textwright.families import GPTOptions
from textwright.models import TorchBackend, build
from textwright.tokenizer import Tokenizer
from textwright.training.trainer import Trainer
from textwright.writing.backend import Backend
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions

STEPS = 30  # timed in each round, after WARM_UP
WARM_UP = 5
# New tokens of each text; the stop is forbidden, so all are written. wine-gpt's context is 80 ids.
TOKENS = {"recipes-lstm": 300, "wine-gpt": 77}
KERAS_TOKENS = {"recipes-lstm": 100, "wine-gpt": 77}  # fewer: its loop gets slower with each
CORPORA = {
    "recipes-lstm": "epicurious_recipes.json.gz",
    "wine-gpt": "winemag-data-130k-v2_first10001.csv.gz",
}
SECONDS = 3.0  # shortest time that writing is timed for
HERE = Path(__file__).parent

Write = Callable[[int], None]
"""Writes the given number of texts together."""


def time_training(config: Config, rows: Path) -> float:
    """Median milliseconds of a step."""
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


def time_writing(write: Write, texts: int, tokens: int) -> float:
    """Tokens a second; `write` writes `tokens` of each text."""
    write(texts)
    start, written = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        write(texts)
        written += texts * tokens
    return written / (time.perf_counter() - start)


def writers(config: Config, tokenizer: Tokenizer) -> dict[str, Write]:
    """The writers by name, at temperature 1. Weights are untrained: each token costs the same."""
    torch.manual_seed(0)
    model = build(config.model, config.tokenizer.vocab_size, config.data.context_length)
    prompt, count = config.train.sample_prompt, TOKENS[config.preset]
    options = SamplingOptions(max_new_tokens=count, min_new_tokens=count)

    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}

    def textwright(backend: Backend) -> Write:
        generator = Generator(backend, tokenizer)
        return lambda texts: generator.generate(prompt, options, num=texts) and None

    found = {"textwright, torch": textwright(TorchBackend(model))}
    if isinstance(config.model, GPTOptions):
        numpy = NumpyGPT(weights, config.model.with_context(config.data.context_length))
        found["transformers"] = transformers_writer(config, tokenizer.encode(prompt).tolist())
    else:
        numpy = NumpyLSTM(weights)
    found["textwright, NumPy"] = textwright(numpy)
    return found


def transformers_writer(config: Config, prompt: list[int]) -> Write:
    """`generate` of a GPT-2 with the preset's sizes, except that GPT-2 sets the width of a head."""
    from transformers import GPT2Config, GPT2LMHeadModel, logging

    logging.set_verbosity_error()
    sizes = config.model
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.tokenizer.vocab_size,
            n_positions=config.data.context_length,
            n_embd=sizes.width,
            n_layer=sizes.layers,
            n_head=sizes.heads,
            n_inner=sizes.feedforward_width,
            activation_function=sizes.activation,
            tie_word_embeddings=False,
            bos_token_id=0,
            eos_token_id=None,
        )
    ).eval()
    start = torch.tensor([[0, *prompt]])
    how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "pad_token_id": 0}

    def write(texts: int) -> None:
        ids = start.expand(texts, -1)
        mask = torch.ones_like(ids)
        model.generate(ids, attention_mask=mask, max_new_tokens=TOKENS[config.preset], **how)

    return write


def run_keras(python: str, preset: str, rows: Path, threads: int) -> dict[str, float]:
    """One round of keras_rows.py, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "keras.json"
        command = [python, str(HERE / "keras_rows.py"), preset, str(rows), "--out", str(out)]
        command += ["--measure-at", str(WARM_UP + STEPS), "--threads", str(threads)]
        command += ["--write", str(KERAS_TOKENS[preset])]
        subprocess.run(
            command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=HERE
        )
        return json.loads(out.read_text("utf-8"))


def processor() -> str:
    """The processor's name, where the system gives it."""
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
    parser.add_argument("preset", choices=TOKENS)
    parser.add_argument("corpus", nargs="?", help="default: the preset's, in $TEXTWRIGHT_CORPORA")
    parser.add_argument("--out", type=Path, default=Path("speed.json"))
    parser.add_argument("--keras", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()

    torch.set_num_threads(given.threads)
    config = Config.resolve(preset=given.preset)
    corpora = Path(os.environ.get("TEXTWRIGHT_CORPORA", "."))
    corpus = given.corpus or str(corpora / CORPORA[given.preset])
    documents = Corpus([corpus], config.corpus).documents("train")
    tokenizer = Tokenizer.train(config.tokenizer, documents)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.npz"
        write_rows(config, corpus, rows, WARM_UP + STEPS)
        for _ in range(given.rounds):
            keras = run_keras(given.keras, given.preset, rows, given.threads)
            measured = {
                "training step, Keras (ms)": keras["milliseconds_a_step"],
                "training step, textwright (ms)": time_training(config, rows),
                "one text, Keras predict loop (tokens/s)": keras["tokens_per_second"],
            }
            written = writers(config, tokenizer)
            for texts, called in ((1, "one text"), (32, "32 texts")):
                for name, write in written.items():
                    speed = time_writing(write, texts, TOKENS[given.preset])
                    measured[f"{called}, {name} (tokens/s)"] = speed
            for name, value in measured.items():
                found.setdefault(name, []).append(value)
            print(json.dumps(measured), flush=True)
    record = {
        "preset": given.preset,
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
