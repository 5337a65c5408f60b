"""The demo: train on the grammar's notes, whose entropy is known, and set the model beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

from textwright import grammar
from textwright.api import load
from textwright.config import Config
from textwright.display import TrainDisplay, err, out
from textwright.errors import RunError
from textwright.training import train_run

NOTES = 4_000


def run_demo(folder: Path, display: TrainDisplay) -> None:
    """Train the preset `demo` in `folder`, then write three notes."""
    if folder.exists() and not (folder / "notes.txt").exists():
        raise RunError(f"{folder} holds something other than a demo; name another --out.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    notes = folder / "notes.txt"
    notes.write_text("".join(f"{note}\n" for note in grammar.documents(NOTES, seed=1)), "utf-8")
    measures = grammar.measures()
    err.print(
        f"{NOTES:,} kitchen notes, written by a small grammar. Their exact entropy is "
        f"{measures.entropy / measures.words:.3f} nats a word: no honest model goes below it.\n"
    )
    config = Config.resolve(preset="demo")
    display.follow(train_run([notes], folder, config, on_progress=display.progression.show))
    err.print("\nThree notes by the model:\n")
    for sample in load(folder).generate(num=3, seed=7):
        out.print(sample.text + "\n", markup=False)
