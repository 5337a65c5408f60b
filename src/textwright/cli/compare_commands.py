"""Commands that score models of any kind: compare, bits."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from textwright.cli.flags import (
    AsJson,
    Device,
    Fresh,
    TemplateText,
    Text,
    Unit,
    part_of,
    with_corpus,
)
from textwright.cli.shell import keeping, print_json
from textwright.errors import ConfigError, TextwrightError

if TYPE_CHECKING:
    from textwright.comparison.comparison import Model
    from textwright.corpus import CorpusOptions
    from textwright.evaluation.kept import KeptResults
    from textwright.progress import OnStage


class Look(StrEnum):
    """What a report can say of each run besides."""

    INSIDE = "inside"
    SWEEP = "sweep"
    MEMORISATION = "memorisation"


MODEL = "a run folder, a folder with a model of transformers, or the URL of an OpenAI-compatible "
MODEL += "server that answers echo with logprobs"
Part = Annotated[
    str,
    typer.Option("--part", help="The held-out part of a run: test (the default) or valid."),
]
Documents = Annotated[
    int, typer.Option("--documents", min=0, help="Score so many, evenly spaced; 0: all.")
]


def compare(
    models: Annotated[list[str], typer.Argument(metavar="MODEL…", help=f"Each is {MODEL}.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The report: a file that ends in .html or .md.")
    ] = None,
    looks: Annotated[
        list[Look] | None,
        typer.Option(
            "--with",
            help="What the report says of each run besides. inside: surprisal, attention or gates, "
            "and saliency over a held-out text. sweep: which sampling setting suits it. "
            "memorisation: what it copies (with --json the whole audit). Repeatable.",
            show_default=False,
        ),
    ] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus",
            help="Text that is new to all models, taken whole; without it, what the first run "
            "holds out. Repeatable.",
        ),
    ] = None,
    part: Part = "",
    documents: Documents = 0,
    text: Text = "",
    template: TemplateText = "",
    unit: Unit = "",
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            help="Beginning of a text in the report, in place of a held-out one. Repeatable.",
        ),
    ] = None,
    temperature: Annotated[
        float,
        typer.Option("--temperature", min=0.0, help="Temperature with which all models write."),
    ] = 1.0,
    top_p: Annotated[
        float,
        typer.Option("--top-p", min=0.0, max=1.0, help="Top-p with which all models write."),
    ] = 1.0,
    characters: Annotated[
        int, typer.Option("--characters", min=1, help="Length of each text that is written.")
    ] = 300,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of what is written.")] = 0,
    easy: Annotated[
        bool,
        typer.Option(
            "--easy/--no-easy", help="Score also n-grams, PPMd and xz that know the training text."
        ),
    ] = True,
    device: Device = "auto",
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Score models side by side on one held-out text, and write a report.

    Bits per character with intervals, paired differences, what counting and compressors reach,
    speed, size, diversity, and texts from equal prompts. Whatever would be unfair is refused: a
    model that was trained on the text, another split, another treatment of the text.
    """
    from textwright.cli.display import Progression
    from textwright.cli.display.comparison import show_comparison
    from textwright.comparison.comparison import compare_models
    from textwright.comparison.subjects import Writing
    from textwright.report.comparison import write_comparison
    from textwright.report.page import check_writable
    from textwright.report.run_sections import run_sections

    if out:
        check_writable(out)
    elif looks and not (as_json and {*looks} == {Look.MEMORISATION}):
        raise ConfigError("--with adds to the report: name its file with --out.")
    with keeping(fresh, as_json) as kept, Progression(quiet=as_json) as shown:
        comparison = compare_models(
            models,
            corpus or [],
            part=part_of(part, corpus),
            options=_options(corpus, text, template, unit),
            documents=documents,
            writing=Writing(temperature, top_p, characters, seed),
            prompts=prompt or [],
            easy=easy,
            device=device,
            on_progress=shown.show,
            kept=kept,
        )
        found = comparison.to_json()
        if as_json and Look.MEMORISATION in (looks or []):
            found["runs"] = [
                {**model.to_json(), **_memorisation(model, device, shown.show, kept)}
                for model in comparison.models
            ]
    if as_json:
        print_json(found)
    else:
        show_comparison(comparison)
    if out:  # last, so that a full disk does not take the scores with it
        with keeping(fresh, quiet=True) as kept, Progression(quiet=as_json) as shown:
            more = run_sections(comparison, looks or [], device, shown.show, kept)
        write_comparison(comparison, out, more)
        if not as_json:
            typer.echo(f"The report: {out}")


def _memorisation(
    model: Model, device: str, on_progress: OnStage, kept: KeptResults
) -> dict[str, object]:
    """The key `memorisation` of a model: all of it, if it is a run's and can be had."""
    from textwright.cli.display import err
    from textwright.memorisation.memorisation import Examiner
    from textwright.run import Run

    if model.kind != "run":
        return {}
    try:
        examiner = Examiner(Run.load(Path(model.name)), (), device, on_progress, kept)
        return {"memorisation": examiner.measure().to_json()}
    except TextwrightError as error:
        err.print(f"What {model.name} has memorized could not be measured: {error}")
        return {}


def bits(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"This is {MODEL}.")],
    corpus: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CORPUS…",
            help="Text that is new to the model, taken whole. A run needs none: it holds some out.",
            show_default=False,
        ),
    ] = None,
    part: Part = "",
    documents: Documents = 0,
    text: Text = "",
    template: TemplateText = "",
    unit: Unit = "",
    device: Device = "auto",
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Audit a model: bits per character of the text as it is, with the proof.

    The proof is a decoder that restores a sample of the text, byte for byte, from the model's own
    probabilities and the bits that it is charged for.
    """
    from textwright.cli.display import Progression
    from textwright.cli.display.comparison import show_audit
    from textwright.comparison.audit import audit

    with keeping(fresh, as_json) as kept, Progression(quiet=as_json) as shown:
        found = audit(
            model,
            corpus or [],
            part=part_of(part, corpus),
            options=_options(corpus, text, template, unit),
            documents=documents,
            device=device,
            on_progress=shown.show,
            kept=kept,
        )
    if as_json:
        print_json(found.to_json())
    else:
        show_audit(found)


def _options(corpus: list[str] | None, text: str, template: str, unit: str) -> CorpusOptions | None:
    """How to read the corpus; None if nothing is said about it."""
    from textwright.config import Config

    settings = with_corpus([], text, template, unit)
    if not settings:
        return None
    if not corpus:
        raise ConfigError(
            "--text, --template and --unit say how a corpus is read; name one, or leave them out."
        )
    return Config.resolve(settings=settings).corpus
