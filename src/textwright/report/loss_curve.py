"""The loss curve of a run, as a picture."""

from __future__ import annotations

import importlib.util

from textwright.run import Run

STEPS_DRAWN = 400  # points of the training curve; each is a mean, so that the line is smooth


def draw_loss_curve(run: Run) -> bool:
    """Write loss.png into the run. False if matplotlib (`textwright[report]`) is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    # Not pyplot, which would choose a backend for the whole process, a notebook's included.
    from matplotlib.figure import Figure

    metrics = run.metrics()
    steps = [m for m in metrics if m["event"] == "step"]
    evaluations = [m for m in metrics if m["event"] == "evaluation"]
    figure = Figure(figsize=(8, 4.5), dpi=120)
    axes = figure.subplots()
    group = max(1, -(-len(steps) // STEPS_DRAWN))
    groups = [steps[i : i + group] for i in range(0, len(steps), group)]
    axes.plot(
        [g[-1]["step"] for g in groups],
        [sum(m["loss"] for m in g) / len(g) for g in groups],
        color="#b8c4d6",
        label="training",
    )
    if evaluations:
        x, y = [e["step"] for e in evaluations], [e["scores"]["loss"] for e in evaluations]
        axes.plot(x, y, color="#c2410c", marker="o", markersize=4, label="held out")
        best = min(evaluations, key=lambda e: e["scores"]["loss"])
        axes.annotate(
            f"{best['scores']['loss']:.3f}",
            (best["step"], best["scores"]["loss"]),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            color="#c2410c",
        )
    axes.set(xlabel="step", ylabel="loss, nats a token", title=run.path.resolve().name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    with run.written("loss.png") as beside:
        figure.savefig(beside, format="png")
    return True
