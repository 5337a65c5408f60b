"""The command that looks inside a run while it reads a text."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from textwright.cli.flags import AsJson, RunPath, numbers
from textwright.cli.shell import print_json
from textwright.errors import EvaluationError, GenerationError, RunError

if TYPE_CHECKING:
    from textwright.run import Run


class View(StrEnum):
    """What `textwright inspect` shows."""

    NEXT = "next"
    SURPRISAL = "surprisal"
    ATTENTION = "attention"
    GATES = "gates"
    SALIENCY = "saliency"
    UNITS = "units"


def inspect(
    run: RunPath,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="A text for the model to read. Repeatable."),
    ] = None,
    view: Annotated[
        list[View] | None,
        typer.Option(
            "--view",
            help="next: the likeliest tokens after the text (the default). surprisal: the bits "
            "that each token of the text costs, and what was likelier. attention: where the heads "
            "of a GPT look. gates: the quantities of recurrent cells. saliency: the tokens that "
            "the likeliest next one depends on. units: recurrent units that tell something about "
            "held-out text. Repeatable.",
            show_default=False,
        ),
    ] = None,
    temperatures: Annotated[str, typer.Option("--temperatures", help="Comma-separated.")] = "1.0",
    top: Annotated[int, typer.Option("--top", min=1, help="Number of tokens to show.")] = 5,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            help="Write a page for a browser, with all views that the run has unless some are "
            "named.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run expects after a text, and look inside it while it reads."""
    from textwright.api import load
    from textwright.cli.display import Progression, err, show_readings, show_units
    from textwright.inspection.text import TABLES, read_text

    values = numbers(temperatures, "--temperatures")
    if html:
        from textwright.report.page import check_writable

        check_writable(html)
    writer = load(run)
    named = [chosen.value for chosen in view or []]
    model = telling = None
    possible = [*TABLES]
    if as_json or html or not {*named} <= {*TABLES}:
        from textwright.inspection.inner import open_model, views_of
        from textwright.inspection.units import telling_units

        model = open_model(writer.run)
        possible += views_of(model)
    for name in named:
        if name not in possible:
            raise GenerationError(_lack(writer.run, name))
    views = named or (possible if as_json or html else ["next"])
    with Progression(quiet=as_json) as shown:
        readings = [
            read_text(writer.generator, model, text, values, top, views, bool(html), shown.show)
            for text in prompt or [""]
        ]
        if model and "units" in views and (named or html):
            try:
                parts = (writer.run.held_out(part) for part in ("valid", "test"))
                held_out = [text for part in parts for text in part]
                telling = telling_units(model, writer.tokenizer, held_out, on_progress=shown.show)
            except (EvaluationError, RunError) as error:  # a page has other views to show
                if named:
                    raise
                err.print(f"Without units: {error}")
    if html:
        from textwright.report.inspection import write_inspection

        write_inspection(html, writer.run, readings, telling)
        err.print(f"Wrote {html}.")
    if as_json:
        units = {"units": telling.to_json()} if telling else {}
        print_json({"steps": [reading.to_json() for reading in readings], **units})
    elif not html:
        if views != ["units"]:  # which are not of a text
            show_readings(readings, views)
        if telling:
            show_units(telling)


def _lack(run: Run, view: str) -> str:
    """Why a run has nothing to show in a view."""
    if run.config.model.counted:
        return f"{run.path} holds counts alone, which have no {view}; view next or surprisal."
    kind = "is no GPT" if view == "attention" else "is not recurrent"
    return f"The model of {run.path} {kind}, so it has no {view}."
