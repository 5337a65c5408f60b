"""The model card of a run: its README.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textwright.config import Config
from textwright.run import Run
from textwright.wording import counted


def write_model_card(run: Run) -> None:
    """Write README.md into the run: its corpus, its scores and how to use it."""
    corpus, config, model = run.corpus(), run.config, run.config.model
    metrics = run.metrics()
    evaluations = [m for m in metrics if m["event"] == "evaluation"]
    last = [m for m in metrics if m["event"] == "ready"][-1]
    size = f"{counted(corpus['documents'], 'document')}, "
    size += counted(corpus["characters"], "character")
    files = "\n".join(f"- {_file(file)}" for file in corpus["files"])
    run.write_text(
        "README.md",
        f"""# {run.path.resolve().name}

An autoregressive {model.title} language model, trained by textwright{_from(config.preset)}.

| | |
| --- | --- |
| model | {model.describe(config.data.context_length)} |
| tokens | {config.tokenizer.kind}, {run.tokenizer.vocab_size:,} in the vocabulary |
| computed on | {last["device"]}, {last["dtype"]}, {_workers(last)}, torch {last["torch"]} |
{_counts(run)}{_begun(config, evaluations)}{_best(config, evaluations)}
## Corpus

{files}

{size}; held out for validation:
{corpus["parts"]["valid"]:,}, for testing: {corpus["parts"]["test"]:,}.

## Use

```
textwright generate {run.path} --prompt "{config.train.sample_prompt}"
```

The model repeats what its corpus contains, true or not, and may repeat passages of it.
""",
    )


def _counts(run: Run) -> str:
    """A row with the counts beside a neural model; empty if there are none."""
    if not run.config.counts.longest or run.counts is None:
        return ""
    usual = run.mixture().usual
    return (
        f"| counts beside it | n-grams of up to {counted(run.counts.order, 'token')}, with a mean "
        f"share of {usual.counts:.2f}; of the text being read, {usual.memory:.2f} |\n"
    )


def _begun(config: Config, evaluations: list[dict[str, Any]]) -> str:
    """Rows with the origin of the training and its scores; empty for fresh weights."""
    origin = config.origin
    if origin is None:
        return ""
    revision = f" at {origin.revision[:12]}" if origin.revision else ""
    row = f"| began from | {origin.source}{revision} (sha256 {origin.sha256[:16]}…) |\n"
    for scores in [m["scores"] for m in evaluations if not m["step"]]:
        row += (
            f"| held-out loss before training | {scores['loss']:.4f} nats a token, "
            f"{scores['bits_per_character']:.4f} bits a character |\n"
        )
    return row


def _best(config: Config, evaluations: list[dict[str, Any]]) -> str:
    """Rows with the steps and scores of the best weights; empty if metrics.jsonl was lost."""
    best = [m for m in evaluations if m["best"]]
    if not best:
        return ""
    scores, epochs = best[-1]["scores"], best[-1]["epoch"]
    low, high = scores["interval"]
    if config.model.counted:
        made = f"| counted | n-grams of up to {counted(best[-1]['step'], 'token')} |\n"
    else:
        steps, rows = counted(best[-1]["step"], "step"), counted(config.train.batch_size, "row")
        made = f"| trained | {steps} of {rows} ({epochs:.2f} epochs) |\n"
    return (
        f"{made}"
        f"| held-out loss | {scores['loss']:.4f} nats a token |\n"
        f"| held-out bits per character | {scores['bits_per_character']:.4f} "
        f"({low:.4f} to {high:.4f}) |\n"
    )


def _from(preset: str) -> str:
    return f" from the preset `{preset}`" if preset else ""


def _file(file: dict[str, Any]) -> str:
    return f"`{Path(file['path']).name}` (sha256 {file['sha256'][:16]}…)"


def _workers(start: dict[str, Any]) -> str:
    threads = counted(start["threads"], "thread")
    return threads if start["processes"] == 1 else f"{start['processes']} processes of {threads}"
