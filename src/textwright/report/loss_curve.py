"""The loss curve of a run, as a picture."""

from __future__ import annotations

import importlib.util

from textwright.run import Run
from textwright.run.curve import read_curve


def draw_loss_curve(run: Run) -> bool:
    """Write loss.png into the run. False if matplotlib (`textwright[report]`) is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    # Not pyplot, which would choose a backend for the whole process, a notebook's included.
    from matplotlib.figure import Figure

    curve = read_curve(run)
    figure = Figure(figsize=(8, 4.5), dpi=120)
    axes = figure.subplots()
    name = "training, without the counts" if curve.mixed else "training"
    axes.plot(*_columns(curve.training), color="#b8c4d6", label=name)
    if curve.held_out:
        held_out = [(step, loss) for step, loss, _ in curve.held_out]
        axes.plot(*_columns(held_out), color="#c2410c", marker="o", markersize=4, label="held out")
        step, loss = min(held_out, key=lambda point: point[1])
        below = curve.training and curve.training[-1][1] > loss  # where the training's line is not
        axes.annotate(
            f"{loss:.3f}",
            (step, loss),
            xytext=(0, -15 if below else 8),
            textcoords="offset points",
            ha="center",
            color="#c2410c",
        )
        axes.margins(y=0.12)  # room for it
    axes.set(xlabel=curve.by, ylabel="loss, nats a token", title=run.path.resolve().name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    with run.written("loss.png") as beside:
        figure.savefig(beside, format="png")
    return True


def _columns(points: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [loss for _, loss in points]
