"""What a run records while it trains: metrics.jsonl, a line for each event, and samples.md, a text
for each evaluation.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from textwright.errors import RunError
from textwright.run.storing import damaged

SAMPLE_MARK = "## Step "
# The keys of each event in metrics.jsonl on which the model card and the curve rely.
METRICS = {
    "ready": {"device", "dtype", "threads", "processes", "torch"},
    "step": {"epoch", "loss"},
    "evaluation": {"epoch", "scores", "best"},
    "copied": {"written", "held_out"},
}
SCORES = {"loss", "bits_per_character", "interval"}


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """Every line of metrics.jsonl, except a last line cut short by a kill. Raises RunError that
    names another line that cannot be read."""
    records = []
    for number, line in enumerate(_read(file).split(b"\n")[:-1], 1):
        try:
            records.append(_checked(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RunError(
                f"Line {number:,} of {file} is damaged; restore the file from a copy, or "
                "delete that line."
            ) from None
    return records


def metrics_until(file: Path, step: int, evaluated: int) -> str:
    """The lines up to a checkpoint's step and its last evaluation. Raises RunError if the file ends
    before them."""
    last = {"ready": step, "step": step, "evaluation": evaluated, "copied": step}
    kept = [m for m in read_metrics(file) if m["step"] <= last[m["event"]]]
    if file.exists() and step and all(m["step"] != step for m in kept):
        raise RunError(
            f"{file} ends before step {step:,}, that of the newest checkpoint; restore it from a "
            "copy, or delete it: it then begins at that step."
        )
    return "".join(json.dumps(record) + "\n" for record in kept)


def samples_until(file: Path, evaluated: int) -> str:
    """The texts up to an evaluation."""
    samples = _read(file).decode("utf-8", "replace")
    samples = samples[: samples.rfind("\n\n") + 2]  # without what a full disk cut short
    # A model may write the mark too, but hardly on a line that else holds only digits.
    texts = re.split(rf"^{SAMPLE_MARK}(?=\d+$)", samples, flags=re.MULTILINE)[1:]
    return "".join(SAMPLE_MARK + t for t in texts if int(t.partition("\n")[0]) <= evaluated)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes() if file.exists() else b""
    except OSError as error:
        raise damaged(file, error) from None


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """A line of metrics.jsonl. Raises KeyError or TypeError if it is not as training wrote it."""
    missing = METRICS[record["event"]] - record.keys()
    missing |= SCORES - record["scores"].keys() if record["event"] == "evaluation" else set()
    if missing:
        raise KeyError(*missing)
    return {**record, "step": int(record["step"])}
