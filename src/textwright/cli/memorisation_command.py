"""The command that looks for the training text in what a run writes: memorisation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from textwright.cli.flags import AsJson, Device, Fresh, RunPath
from textwright.cli.shell import keeping, print_json
from textwright.errors import ConfigError, EvaluationError


def memorisation(
    run: RunPath,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus",
            help="The training text, if it is no longer where it was. Repeatable.",
        ),
    ] = None,
    text: Annotated[
        str,
        typer.Option(
            "--text",
            help="Only trace the text in this file (- is the standard input) to the training "
            "documents that its spans stand in.",
        ),
    ] = "",
    shortest: Annotated[
        int | None,
        typer.Option(
            "--shortest",
            min=1,
            help="With --text: characters of a span, at least (30).",
            show_default=False,
        ),
    ] = None,
    texts: Annotated[
        int, typer.Option("--texts", min=2, help="Texts to write for each measurement.")
    ] = 64,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of texts and samples.")] = 0,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a page: a name in .html or .md.")
    ] = None,
    device: Device = "auto",
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Measure what a run has memorized of its training text, and show where it comes from.

    Each number stands beside that of held-out text, which the run cannot have copied.
    """
    from textwright.cli.display import Progression
    from textwright.cli.display.memorisation import show_memorisation, show_traced
    from textwright.memorisation.memorisation import Examiner
    from textwright.memorisation.training_text import SHORTEST
    from textwright.report.memorisation import section
    from textwright.report.page import check_writable, write_page
    from textwright.run import Run

    if html and text:
        raise ConfigError("--html shows the measurements, not a text: leave out --text or --html.")
    if shortest and not text:
        raise ConfigError("--shortest is of the spans of a text: name its file with --text.")
    if html:
        check_writable(html)
    searched = _read(text) if text else None
    with keeping(fresh, as_json) as kept, Progression(quiet=as_json) as shown:
        examiner = Examiner(Run.load(run), corpus or (), device, shown.show, kept)
        if searched is not None:
            traced = examiner.trace(searched, shortest or SHORTEST)
        else:
            found = examiner.measure(texts, seed)
    if searched is not None:
        print_json(traced.to_json()) if as_json else show_traced(traced)
        return
    if html:
        write_page(f"What {run.resolve().name} has memorized", [section(found)], html)
    if as_json:
        print_json(found.to_json())
    else:
        show_memorisation(found)


def _read(name: str) -> str:
    """The text of a file, or of the standard input, without a line break at its end."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise EvaluationError(f"Cannot read the text in {name}: {reason}.") from None
    if not text.strip():
        where = "The standard input" if name == "-" else name
        raise EvaluationError(f"{where} holds no text: give some to be traced.")
    return text.rstrip("\n")
