"""The demo: train on the grammar's notes, whose entropy is known, and set the model beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

from textwright import grammar
from textwright.api import load
from textwright.config import Config
from textwright.display import TrainDisplay, err, out
from textwright.errors import RunError
from textwright.run import Run
from textwright.training import train_run

NOTES = 4_000
PRESET = "demo"


def run_demo(folder: Path, display: TrainDisplay) -> None:
    """Train the preset `demo` in `folder`, set its loss beside the truth, write three notes.

    An earlier demo in the folder is replaced. Raises RunError where it holds anything else.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "config.toml").exists() or Run.load(folder).config.preset != PRESET:
            raise RunError(f"{folder} holds something other than a demo; name another --out.")
        shutil.rmtree(folder)
    notes = folder / "notes.txt"
    folder.mkdir(parents=True, exist_ok=True)
    notes.write_text("".join(f"{note}\n" for note in grammar.documents(NOTES, seed=1)), "utf-8")
    measures = grammar.measures()
    floor = measures.entropy / (measures.tokens + 1)  # its end is a target too
    err.print(
        f"{NOTES:,} kitchen notes, written by a small grammar that knows their odds: their entropy "
        f"is {floor:.3f} nats a token. No honest model can go below it.\n"
    )
    config = Config.resolve(preset=PRESET)
    summary = display.follow(
        train_run([notes], folder, config, on_progress=display.progression.show)
    )
    if display.interrupted:
        return
    err.print(
        f"\nHeld-out loss {summary['best']['loss']:.3f}, the truth {floor:.3f}. Three notes by the "
        "model:\n"
    )
    for sample in load(folder).generate(num=3, seed=7):
        out.print(sample.text + "\n", markup=False)
