"""What a page says of a run, whether a server or the page itself writes."""

from __future__ import annotations

from math import inf
from typing import Any

from textwright.errors import RunError, TextwrightError
from textwright.run.curve import read_curve
from textwright.run.folder import Run
from textwright.writing.form import Form
from textwright.writing.generator import with_ids

_SEARCH = {"beams", "length_penalty", "early_stopping"}  # a page shows texts as they are written


def about(run: Run, license: str = "") -> dict[str, Any]:
    """The JSON document: names, sizes, fields of the template, sampling options, model card.

    off: options of the run that a page leaves out, at the value that turns them off elsewhere.
    """
    model, tokenizer = run.config.model, run.tokenizer
    return {
        "name": run.path.resolve().name,
        "family": model.family,
        "title": model.title,
        "tokenizer": {
            "kind": tokenizer.kind,
            "size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
            "stop_id": tokenizer.stop_id,
        },
        "fields": fields_of(run),
        "options": _options(run),
        "off": {"beams": 1} if run.config.sample.beams > 1 else {},
        "prompt": run.config.train.sample_prompt,
        "license": license,
        "card": card_of(run),
        "loss_curve": _curve(run),
    }


def fields_of(run: Run) -> list[str]:
    """The fields that can be given: none of a template with one, which is left to the model."""
    try:
        fields = Form(run.config.corpus, run.tokenizer).fields
    except TextwrightError:  # there is no template, or none that can be told apart again
        return []
    return fields if len(fields) > 1 else []


def _options(run: Run) -> dict[str, Any]:
    """The run's own sampling options, tokens as ids."""
    sample = with_ids(run.config.sample, run.tokenizer)
    options = sample.model_dump(exclude_unset=True, exclude={*_SEARCH, "logit_bias"})
    bias = sample.logit_bias
    options["no_copy"] = sample.no_copy
    options["logit_bias"] = [[token, value] for token, value in bias.items() if value > -inf]
    options["forbid"] = [*sample.forbid, *(token for token in bias if bias[token] == -inf)]
    if sample.temperature == inf:
        options["temperature"] = "Infinity"  # which JSON has no number for
    return options


def _curve(run: Run) -> dict[str, Any] | None:
    """The loss curve; None if the record is damaged, which keeps nobody from writing."""
    try:
        return read_curve(run, points=150).to_json()
    except RunError:
        return None


def card_of(run: Run) -> str:
    """The model card, without how to use the run's folder."""
    if not run.has("README.md"):
        return ""
    return (run.path / "README.md").read_text("utf-8", "replace").partition("\n## Use\n")[0]
