"""Checkpoints: all that a trainer needs to continue, one folder for each step that was saved.

checkpoints/step-…/  model.safetensors  trainer.safetensors  progress.json
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textwright.files import replacing
from textwright.run.arrays import Arrays, load_arrays, save_arrays
from textwright.run.storing import damaged, storing

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

    def keep(self, checkpoint: Checkpoint, best_step: int) -> None:
        """Write a checkpoint, then delete all but the newest ones and the best."""
        for unfinished in self.folder.glob(".step-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        with storing(self.folder.parent), replacing(self._at(checkpoint.step)) as beside:
            beside.mkdir()
            save_arrays(checkpoint.weights, beside / "model.safetensors")
            save_arrays(checkpoint.tensors, beside / "trainer.safetensors")
            record = {"kind": KIND, "progress": checkpoint.progress}
            (beside / "progress.json").write_text(json.dumps({**record, "sha256": _sum(record)}))
        for step in self.steps()[:-KEPT]:
            if step != best_step:
                _delete(self._at(step))

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
        file = self._at(step) / "model.safetensors"
        return load_arrays(file) if file.exists() else None

    def steps(self) -> list[int]:
        """Steps with a checkpoint, in order."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*"))

    def _at(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"


def _read_progress(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text("utf-8"))
        if "kind" not in record:  # format version 1: the numbers alone, one under another name
            record["micro_batches"] = record.pop("parts")
            return dict(record)
        kept = record.pop("sha256")
        if kept != _sum(record):
            raise ValueError("its content is not what its checksum records")
        if record["kind"] != KIND:
            raise ValueError(f"its kind is {record['kind']!r}, not {KIND!r}")
        return dict(record["progress"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise damaged(file, error) from None


def _sum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _delete(folder: Path) -> None:
    """Delete a checkpoint. If this is interrupted, what is left has no checkpoint's name."""
    unfinished = folder.with_name(f".{folder.name}.old")
    with suppress(OSError):
        folder.rename(unfinished)
        shutil.rmtree(unfinished)
