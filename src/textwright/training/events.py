"""What a training reports as it goes."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import ClassVar

from textwright.evaluation.copying import Copying
from textwright.evaluation.scores import Scores
from textwright.run import Run


@dataclass(frozen=True)
class Step:
    """One optimizer step. loss: nats a target, estimated where the softmax is sampled · seconds:
    training time so far · micro_batches: pieces that the batch was split into."""

    kind: ClassVar = "step"
    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    micro_batches: int


@dataclass(frozen=True)
class Evaluation:
    """Held-out scores after a step, or before the first; best: better than all before."""

    kind: ClassVar = "evaluation"
    step: int
    epoch: float
    scores: Scores
    best: bool


@dataclass(frozen=True)
class Finished:
    """Why the training ended: "epochs", "max_steps", "time_budget", "early_stopping", or "counted"
    for a model that is not trained by steps."""

    kind: ClassVar = "finished"
    step: int
    epoch: float
    reason: str
    seconds: float


@dataclass(frozen=True)
class Progress:
    """Everything a trainer remembers that is not a tensor."""

    step: int = 0
    evaluated: int = -1  # the last step that was evaluated
    best_step: int = -1
    best_loss: float = math.inf
    best_bits_per_character: float = math.inf
    without_gain: int = 0  # evaluations since the best
    stalled: int = 0  # evaluations since the best or the last cut of the rate
    rate_scale: float = 1.0
    seconds: float = 0.0
    tokens: int = 0
    micro_batches: int = 1  # pieces of a batch that memory asked for, if more than the options


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
