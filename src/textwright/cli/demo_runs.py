"""The demo: an LSTM and a GPT learn the grammar's notes, whose entropy is known, side by side."""

from __future__ import annotations

import shutil
from pathlib import Path

from textwright import grammar
from textwright.api import load
from textwright.cli.display import TrainDisplay, err, out, show_rivals
from textwright.config import Config
from textwright.errors import RunError
from textwright.evaluation.runs import score_run
from textwright.run import FILES, Run
from textwright.run.lock import HOLDER, LOCK, check_idle
from textwright.training.session import train_run

NOTES = 4_000
PRESETS = {"lstm": "demo", "gpt": "demo-gpt"}
CORPUS = "notes.txt"


def run_demo(folder: Path, display: TrainDisplay) -> None:
    """Train both presets in `folder`, compare their losses with the entropy, write with each.

    An earlier demo in the folder is replaced. Raises RunError where it holds anything else.
    """
    text = "".join(f"{note}\n" for note in grammar.documents(NOTES, seed=1))
    notes = folder / CORPUS
    try:
        if folder.exists():
            _clear(folder, text)
        folder.mkdir(parents=True)
        notes.write_text(text, "utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"The demo cannot use {folder} ({reason}); name another --out.") from None
    measures = grammar.measures()
    floor = measures.entropy / (measures.tokens + 1)  # its end is a target too
    err.print(
        f"{NOTES:,} kitchen notes, written by a small grammar that knows their odds: their entropy "
        f"is {floor:.3f} nats a token. No honest model can go below it."
    )
    rivals = []
    for name, preset in PRESETS.items():
        err.print(f"\n{name.upper()}")
        config = Config.resolve(preset=preset)
        events = train_run([notes], folder / name, config, on_progress=display.progression.show)
        summary = display.follow(events)
        if display.interrupted:
            return
        writer = load(folder / name)
        scores, _ = score_run(writer.run)
        rivals.append((name.upper(), scores, summary["seconds"]))
        [sample] = writer.generate(seed=7)
        out.print(f"\n{sample.text}\n", markup=False)
    show_rivals(rivals, floor)


def _clear(folder: Path, notes: str) -> None:
    """Delete an earlier demo, recognized by the text of its notes and the presets of its runs."""
    names = {path.name for path in folder.iterdir()}
    runs = [(folder / name, preset) for name, preset in PRESETS.items() if name in names]
    ours = names <= {CORPUS, *PRESETS} and all(_is_run(path, preset) for path, preset in runs)
    if not ours or (names and _read(folder / CORPUS) != notes):
        raise RunError(f"{folder} holds something other than a demo; name another --out.")
    shutil.rmtree(folder)


def _is_run(folder: Path, preset: str) -> bool:
    """True for a run of this preset without other files, and for one killed before it held any.
    What a kill left of files that were being written is removed. Raises RunError while it trains.
    """
    check_idle(folder)
    Run.settle(folder)
    names = {path.name for path in folder.iterdir()} - {LOCK, HOLDER}
    return names <= {*FILES} and (not names or Run.load(folder).config.preset == preset)


def _read(file: Path) -> str:
    return file.read_text("utf-8", "replace") if file.is_file() else ""
