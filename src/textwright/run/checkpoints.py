"""Checkpoints: all that a trainer needs to continue, one folder for each step that was saved.

checkpoints/step-…/  model.safetensors  trainer.safetensors  progress.json
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textwright.errors import RunError
from textwright.files import hash_json, remove_folder, replacing, settle
from textwright.run.arrays import Arrays, load_arrays, save_arrays
from textwright.run.storing import STEP, damaged, storing

KEPT = 2  # number of the newest ones; the best is kept too
KIND = "training"


@dataclass(frozen=True)
class Checkpoint:
    """A trainer's state after a step. progress: numbers · weights: the parameters that train, by
    name · tensors: optimizer, carried state and random state."""

    step: int
    progress: dict[str, Any]
    weights: Arrays
    tensors: Arrays


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def keep(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then delete all but the newest ones and the best one of each."""
        with storing(self.folder.parent), replacing(self._at(checkpoint.step)) as beside:
            beside.mkdir()
            save_arrays(checkpoint.weights, beside / "model.safetensors")
            save_arrays(checkpoint.tensors, beside / "trainer.safetensors")
            record = {"kind": KIND, "progress": checkpoint.progress}
            text = json.dumps({**record, "sha256": hash_json(record)})
            (beside / "progress.json").write_text(text)
        newest = self.steps()[-KEPT:]
        needed = {*newest, *map(self._best_at, newest)}  # resuming from any of them finds its best
        for step in self.steps():
            if step not in needed:
                remove_folder(self._at(step))

    def settle(self) -> None:
        """Remove what a kill left of checkpoints that were being written or deleted."""
        for left in self.folder.glob(".step-*"):
            settle(left.with_name(left.stem[1:]))

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint, or None. Raises RunError that names a damaged file."""
        steps = self.steps()
        if not steps:
            return None
        folder = self._at(steps[-1])
        return Checkpoint(
            steps[-1],
            _read_progress(folder / "progress.json"),
            load_arrays(folder / "model.safetensors"),
            load_arrays(folder / "trainer.safetensors"),
        )

    def weights(self, step: int) -> Arrays | None:
        """The weights after a step, or None if no checkpoint of it is kept."""
        file = self.weights_file(step)
        return load_arrays(file) if file.exists() else None

    def weights_file(self, step: int) -> Path:
        """Where the weights after a step are."""
        return self._at(step) / "model.safetensors"

    def steps(self) -> list[int]:
        """Steps with a checkpoint, in order. A copy beside them, such as step-….bak, is none."""
        names = [path.name for path in self.folder.glob("step-*")]
        return sorted(int(name.removeprefix("step-")) for name in names if STEP.fullmatch(name))

    def best_step(self) -> int | None:
        """The step of the best weights, as the newest checkpoint records it."""
        steps = self.steps()
        return self._best_at(steps[-1]) if steps else None

    def _best_at(self, step: int) -> int | None:
        """The step that was the best at a checkpoint; None if that cannot be read."""
        with suppress(RunError):
            return _read_progress(self._at(step) / "progress.json").get("best_step")
        return None

    def _at(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"


def _read_progress(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text("utf-8"))
        if "kind" not in record:  # format version 1: the numbers alone, one under another name
            record["micro_batches"] = record.pop("parts")
            return dict(record)
        kept = record.pop("sha256")
        if kept != hash_json(record):
            raise ValueError("its content is not what its checksum records")
        if record["kind"] != KIND:
            raise ValueError(f"its kind is {record['kind']!r}, not {KIND!r}")
        return dict(record["progress"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise damaged(file, error) from None
