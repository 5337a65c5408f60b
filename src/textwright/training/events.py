"""What a training reports as it goes."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import ClassVar

from textwright.evaluation.copying import Copying
from textwright.run import Run
from textwright.training.trainer import Evaluation, Finished, Progress, Step


@dataclass(frozen=True)
class Ready:
    """Everything is prepared, and training begins or continues from an earlier step. changed: the
    options that differ from those the run had before. choices: what was chosen for the corpus, and
    how to change it."""

    kind: ClassVar = "ready"
    run: Run
    progress: Progress
    epoch: float
    total_steps: int
    parameters: int
    trained: int  # parameters that train; fewer if there are adapters
    documents: int
    held_out: int
    tokens: int
    device: str
    dtype: str
    threads: int
    changed: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Preview:
    """A text that the model wrote at an evaluation."""

    kind: ClassVar = "preview"
    step: int
    epoch: float
    text: str


@dataclass(frozen=True)
class Copied:
    """How much of what a run with counts writes stands in its training text."""

    kind: ClassVar = "copied"
    copying: Copying


TrainingEvent = Ready | Step | Evaluation | Preview | Copied | Finished
TrainingEvents = Generator[TrainingEvent]
