"""textwright itself, by its command line: the default, and presets."""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from competitors import Found, Row, Score, Task
from textwright.corpus import CorpusOptions

# The presets of the published systems, each on its own corpus.
PUBLISHED = {
    "nietzsche-char-lstm": "nietzsche",
    "shakespeare-char-gpt": "shakespeare",
    "wine-gpt": "wine",
    "anime-lstm": "anime",
    "recipes-lstm": "recipes",
}


def measure_with(preset: str, timed: bool = True) -> Callable[[Task], Found]:
    """A function that measures a preset; an empty name is the default."""
    return lambda task: measure(task, preset, timed)


def measure(task: Task, preset: str, timed: bool) -> Found:
    """`textwright train` and `textwright evaluate` of the checkout `task.source`."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = ["train", task.file, "--out", str(run), "--threads", str(task.threads)]
        command += ["--set", f"train.seed={task.seed}", "--json"]
        if timed:
            command += ["--time-budget", f"{task.seconds}s"]
        if preset:
            command += ["--preset", preset]
        for setting in corpus_settings(task, preset) + lifted_ends(preset, timed):
            command += ["--set", setting]
        trained = json.loads(_textwright(task, *command))
        _refuse_other_documents(run, task)
        scores = json.loads(_textwright(task, "evaluate", str(run), "--json", "--device", "cpu"))
    low, high = scores["interval"]["bits_per_character"]
    return Found(Score(scores["bits_per_character"], (low, high)), facts=trained)


def corpus_settings(task: Task, preset: str) -> list[str]:
    """Settings that make a preset read the task's documents: its own cleaning is undone."""
    settings = []
    if preset:
        found = Path(task.source) / "src" / "textwright" / "presets" / f"{preset}.toml"
        if not found.exists():
            raise FileNotFoundError(f"{task.source} has no preset {preset}.")
        plain = CorpusOptions().model_dump()
        named = tomllib.loads(found.read_text("utf-8")).get("corpus", {})
        settings = [f"corpus.{key}={json.dumps(plain[key])}" for key in named]
    return [*settings, f"corpus.template={json.dumps(task.template)}"]


def lifted_ends(preset: str, timed: bool) -> list[str]:
    """Settings for a published preset: it trains until its time is up, not for some epochs."""
    if preset not in PUBLISHED or not timed:
        return []
    return ["train.epochs=1e6", "train.max_steps=1000000000", "train.early_stopping=0"]


def _textwright(task: Task, *arguments: str) -> str:
    """Run a command of the checkout → what it printed."""
    environment = os.environ | {"PYTHONPATH": str(Path(task.source) / "src")}
    command = [sys.executable, "-m", "textwright", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"textwright {arguments[0]} failed: {done.stderr.strip()[-1000:]}")
    return done.stdout


def _refuse_other_documents(run: Path, task: Task) -> None:
    """Raise RuntimeError if the run did not hold out the task's test documents."""
    with gzip.open(run / "heldout.jsonl.gz", "rb") as file:
        records: list[Any] = [json.loads(line.decode("utf-8", "surrogatepass")) for line in file]
    if [record["text"] for record in records if record["part"] == "test"] != task.test:
        raise RuntimeError("The run holds other test documents than the other rows are scored on.")


ROWS = [
    Row(
        "default",
        "`textwright train FILE --time-budget …`, nothing else set.",
        measure_with(""),
        ours=True,
    ),
    Row(
        "small-gpt",
        "`textwright train FILE --preset small-gpt --time-budget …`.",
        measure_with("small-gpt"),
        ours=True,
    ),
    Row(
        "counts",
        "`textwright train FILE --preset counts`: interpolated Kneser–Ney over the "
        "tokens that the default takes.",
        measure_with("counts", timed=False),
        timed=False,
        ours=True,
    ),
    *(
        Row(
            name,
            f"`textwright train FILE --preset {name} --time-budget …`: the published system's "
            "network and settings, trained until the time is up.",
            measure_with(name),
            ours=True,
            corpora=(corpus,),
        )
        for name, corpus in PUBLISHED.items()
    ),
]
