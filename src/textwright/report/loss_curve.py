"""What a run looks like to a person: its loss curve and its model card."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from textwright.config import Config, GPTOptions
from textwright.run import Run

STEPS_DRAWN = 400  # points of the training curve; each is a mean, so that the line is calm


def draw_loss_curve(run: Run) -> bool:
    """Write loss.png into the run; False where matplotlib (`textwright[report]`) is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    metrics = run.metrics()
    steps = [m for m in metrics if m["event"] == "step"]
    evaluations = [m for m in metrics if m["event"] == "evaluation"]
    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=120)
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
    pyplot.close(figure)
    return True


def write_model_card(run: Run) -> None:
    """Write README.md into the run: what it was trained on, how well it does, how to use it."""
    corpus, config = run.corpus(), run.config
    metrics = run.metrics()
    evaluations = [m for m in metrics if m["event"] == "evaluation"]
    best = min(evaluations, key=lambda e: e["scores"]["loss"])
    last = [m for m in metrics if m["event"] == "ready"][-1]
    files = "\n".join(f"- {_file(file)}" for file in corpus["files"])
    name, shape = _model(config)
    run.write_text(
        "README.md",
        f"""# {run.path.resolve().name}

An autoregressive {name} language model, trained by textwright{_from(config.preset)}.

| | |
| --- | --- |
| model | {shape} |
| tokens | {config.tokenizer.kind}, {run.tokenizer.vocab_size:,} in the vocabulary |
| trained | {best["step"]:,} steps of {config.train.batch_size} rows ({best["epoch"]:.2f} epochs) |
| computed on | {last["device"]}, {last["dtype"]}, {_counted(last)}, torch {last["torch"]} |
{_begun(config, evaluations)}| held-out loss | {best["scores"]["loss"]:.4f} nats a token |
| held-out bits per character | {best["scores"]["bits_per_character"]:.4f} {_interval(best)} |

## Corpus

{files}

{corpus["documents"]:,} documents, {corpus["characters"]:,} characters; held out for validation:
{corpus["parts"]["valid"]:,}, for testing: {corpus["parts"]["test"]:,}.

## Use

```
textwright generate {run.path} --prompt "{config.train.sample_prompt}"
```

The model repeats what its corpus says, true or not, and may repeat passages of it.
""",
    )


def _model(config: Config) -> tuple[str, str]:
    """What the model is called, and its shape in a few words."""
    model = config.model
    if isinstance(model, GPTOptions):
        context = model.context_length or config.data.context_length
        shape = f"{model.layers} blocks of {model.heads} heads, width {model.width}"
        return "GPT", f"{shape}, context of {context} tokens"
    embedding = f"embedding {model.embedding_size}"
    return model.cell.upper(), f"{model.layers} × {model.cell} of {model.hidden_size}, {embedding}"


def _begun(config: Config, evaluations: list[dict[str, Any]]) -> str:
    """What training began from, and how good that was; nothing for fresh weights."""
    origin = config.model.init_from
    if origin is None:
        return ""
    revision = f" at {origin.revision[:12]}" if origin.revision else ""
    scores = evaluations[0]["scores"]
    return (
        f"| began from | {origin.source}{revision} (sha256 {origin.sha256[:16]}…) |\n"
        f"| held-out loss before training | {scores['loss']:.4f} nats a token, "
        f"{scores['bits_per_character']:.4f} bits a character |\n"
    )


def _from(preset: str) -> str:
    return f" from the preset `{preset}`" if preset else ""


def _file(file: dict[str, Any]) -> str:
    return f"`{Path(file['path']).name}` (sha256 {file['sha256'][:16]}…)"


def _counted(start: dict[str, Any]) -> str:
    threads = f"{start['threads']} thread{'s' * (start['threads'] > 1)}"
    return threads if start["processes"] == 1 else f"{start['processes']} processes of {threads}"


def _interval(evaluation: dict[str, Any]) -> str:
    low, high = evaluation["scores"]["interval"]
    return f"({low:.4f} to {high:.4f})"
