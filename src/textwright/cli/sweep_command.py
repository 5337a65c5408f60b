"""The command that looks for the best sampling setting of a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from textwright.cli.flags import AsJson, Device, Fresh, RunPath, numbers
from textwright.cli.shell import keeping, print_json

COUNTS = "counts"


def sweep(
    run: RunPath,
    temperatures: Annotated[
        str, typer.Option("--temperatures", help="Comma-separated, such as 0.7,1,1.2.")
    ] = "",
    top_p: Annotated[str, typer.Option("--top-p", help="Comma-separated, at temperature 1.")] = "",
    min_p: Annotated[str, typer.Option("--min-p", help="Comma-separated, at temperature 1.")] = "",
    judge: Annotated[
        str,
        typer.Option(
            "--judge",
            help="Who says how likely a text is: counts of held-out documents, or another run, by "
            "its folder.",
        ),
    ] = COUNTS,
    texts: Annotated[
        int, typer.Option("--texts", min=10, help="Texts to write for each setting.")
    ] = 100,
    max_new_tokens: Annotated[
        int,
        typer.Option(
            "--max-new-tokens",
            min=0,
            help="Most new tokens of a text; 0: as the run's [sample] table says.",
        ),
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of what is written.")] = 0,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus",
            help="Real text that is new to the run, in place of what it holds out. Repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A picture that ends in .png, or a page: .html or .md."),
    ] = None,
    save: Annotated[
        bool,
        typer.Option("--save", help="Make the recommended setting the run's default for writing."),
    ] = False,
    device: Device = "auto",
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Find the sampling setting whose texts are most like real text.

    Each value of temperature, top-p and min-p is tried with the others off, and its texts are
    measured beside equally many real ones, which the run has not read. bits/char: under a judge
    that is not the run; fewer is safer, not better. distinct-2: different pairs of words, as a
    share of all. self-BLEU: how alike the texts are. repetition: share of four-word sequences that
    a text repeats. loops: texts that end going round in circles. new: sequences of 8 tokens that
    the training text does not have. distance: from real text in bits, self-BLEU and repetition, in
    standard errors; another sample of real text would be at about 1. nearest: how often, in random
    halves of the texts, no other setting was nearer.
    """
    from textwright.cli.display import Progression, console, err
    from textwright.cli.display.sweep import show_sweep
    from textwright.errors import CorpusError, RunError
    from textwright.report.sweep import check_picture, write_sweep
    from textwright.run import Run
    from textwright.run.recorded import recorded_corpus
    from textwright.sweep.sweep import choose_settings
    from textwright.sweep.sweep_run import save_setting, sweep_run
    from textwright.training.recorded import known_sequences

    settings = choose_settings(
        {
            "temperature": _numbers(temperatures, "--temperatures"),
            "top_p": _numbers(top_p, "--top-p"),
            "min_p": _numbers(min_p, "--min-p"),
        }
    )
    if out:
        check_picture(out)
    opened = Run.load(run)
    with keeping(fresh, as_json) as kept, Progression(quiet=as_json) as shown:
        sequences = None
        try:
            recorded_corpus(opened)
            sequences = partial(known_sequences, opened, on_progress=shown.show)
        except (RunError, CorpusError):
            err.print(
                f"What is copied is not measured, as the text that {run} was trained on is gone, "
                "was changed, or was not recorded."
            )
        found = sweep_run(
            opened,
            settings,
            judge=None if judge == COUNTS else Run.load(Path(judge)),
            sources=corpus or [],
            texts=texts,
            max_tokens=max_new_tokens,
            known_sequences=sequences,
            seed=seed,
            device=device,
            on_progress=shown.show,
            kept=kept,
        )
    if out:
        write_sweep(found, run.resolve().name, out)
    if save:
        save_setting(opened, found.recommended)
    if as_json:
        print_json(found.to_json())
    else:
        show_sweep(found)
        if save:
            console.out.print(f"{run} writes with {found.recommended.name} from now on.")


def _numbers(text: str, option: str) -> list[float]:
    return numbers(text, option) if text else []
