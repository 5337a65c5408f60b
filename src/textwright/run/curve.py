"""The loss curve of a run, as its metrics.jsonl records it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from textwright.run.folder import Run

POINTS = 400  # of the training curve; each is a mean, so that the line is smooth


@dataclass(frozen=True)
class LossCurve:
    """Losses in nats a token by step; for counts, by the length of their n-grams.

    training: (step, loss), each the mean since the point before · held_out: (step, loss, bits per
    character) · best: the step whose weights were kept; None: none was evaluated. mixed: the
    held-out losses are those of the mixture with counts, the others of the neural model alone.
    """

    by: str
    mixed: bool
    training: list[tuple[int, float]]
    held_out: list[tuple[int, float, float]]
    best: int | None

    def to_json(self) -> dict[str, Any]:
        return {
            "by": self.by,
            "mixed": self.mixed,
            "training": [[step, round(loss, 4)] for step, loss in self.training],
            "held_out": [
                [step, round(loss, 4), round(bits, 4)] for step, loss, bits in self.held_out
            ],
            "best": self.best,
        }


def read_curve(run: Run, points: int = POINTS) -> LossCurve:
    """points: the most of the training curve. Raises RunError if a line is damaged."""
    metrics = run.metrics()
    steps = [(m["step"], m["loss"]) for m in metrics if m["event"] == "step"]
    group = max(1, -(-len(steps) // points))
    groups = [steps[i : i + group] for i in range(0, len(steps), group)]
    evaluations = [m for m in metrics if m["event"] == "evaluation"]
    best = [m["step"] for m in evaluations if m["best"]]
    counted = run.config.model.counted
    return LossCurve(
        by="n-gram length" if counted else "step",
        mixed=bool(run.config.counts.longest) and not counted,
        training=[(g[-1][0], sum(loss for _, loss in g) / len(g)) for g in groups],
        held_out=[
            (m["step"], m["scores"]["loss"], m["scores"]["bits_per_character"]) for m in evaluations
        ],
        best=best[-1] if best else None,
    )
