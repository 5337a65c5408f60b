"""Commands that train, and the one that looks at a corpus first: demo, corpus, train."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Annotated

import typer

from textwright.cli.flags import (
    AsJson,
    ConfigFile,
    PresetName,
    Settings,
    Sources,
    Start,
    TemplateText,
    Test,
    Text,
    Threads,
    Unit,
    Valid,
    need,
    with_corpus,
    with_threads,
)
from textwright.cli.shell import INTERRUPTED, print_json, speaks
from textwright.cli.starting import importing
from textwright.errors import ConfigError


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the demo's runs; an earlier demo is replaced.")
    ] = Path("runs/demo"),
) -> None:
    """Train a small LSTM and a small GPT on the built-in corpus and compare them (90 seconds)."""
    with importing():
        from textwright.cli.demo_runs import run_demo
        from textwright.cli.display import TrainDisplay

    with TrainDisplay() as display:
        run_demo(out, display)
    if display.interrupted:
        raise typer.Exit(INTERRUPTED)


def corpus(
    sources: Sources = None,
    preset: PresetName = "",
    config: ConfigFile = None,
    start: Start = "",
    settings: Settings = None,
    valid: Valid = None,
    test: Test = None,
    text: Text = "",
    template: TemplateText = "",
    unit: Unit = "",
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Look at a corpus before training: its size, what would be lost, the cost of training."""
    from textwright.cli.display import Progression, show_survey
    from textwright.corpus import Corpus
    from textwright.models.pretrained import find_origin
    from textwright.run import Run
    from textwright.run.origin import choose_config
    from textwright.training.survey import survey

    settings = with_threads(with_corpus(settings, text, template, unit), threads)
    origin = find_origin(start) if start else None
    chosen = choose_config(preset, config, settings, init_from=origin)
    named = Corpus(
        need(sources),
        chosen.corpus,
        valid=valid or [],
        test=test or [],
        whole_symbols=chosen.tokenizer.kind == "symbols",
        like=origin.config.corpus if isinstance(origin, Run) else None,
    )
    with Progression(quiet=as_json) as shown:
        found = survey(named, chosen, shown.show, origin)
    if as_json:
        print_json(found.to_json())
    else:
        show_survey(found, chosen)


def train(
    sources: Sources = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The run folder; default runs/<name of the corpus>."),
    ] = None,
    preset: PresetName = "",
    config: ConfigFile = None,
    start: Start = "",
    settings: Settings = None,
    valid: Valid = None,
    test: Test = None,
    text: Text = "",
    template: TemplateText = "",
    unit: Unit = "",
    time_budget: Annotated[
        str, typer.Option("--time-budget", help="Stop after this time of training: 90s, 20m, 2h.")
    ] = "",
    threads: Threads = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out where it was interrupted.")
    ] = False,
    private: Annotated[
        bool,
        typer.Option("--private", help="Keep no documents of the corpus on disk, nor where it is."),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard logs into the run folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on a corpus.

    Held-out documents are chosen automatically, the best weights are kept, and the run folder holds
    all that generate, evaluate and inspect need. Ctrl-C stops after the current step, and --resume
    continues from there.
    """
    with importing():
        from textwright.cli.display import TrainDisplay, err
        from textwright.models.pretrained import find_origin
        from textwright.run.origin import choose_config
        from textwright.training.session import train_run

    settings = with_threads(with_corpus(settings, text, template, unit), threads)
    if time_budget:
        settings.append(f"train.time_budget={time_budget}")
    if resume and not (out or sources):
        raise ConfigError("Name the run to resume: --out runs/NAME.")
    out = out or default_run(sources)
    origin = find_origin(start) if start else None
    resumed = out if resume else None
    chosen = choose_config(preset, config, settings, resume=resumed, init_from=origin)
    board = out / "tensorboard" if tensorboard and speaks() else None
    err.quiet = not speaks()
    with TrainDisplay(quiet=as_json or not speaks(), tensorboard=board) as display:
        events = train_run(
            sources or [] if resume else need(sources),
            out,
            chosen,
            valid=valid or [],
            test=test or [],
            init_from=origin,
            private=private,
            resume=resume,
            on_progress=display.progression.show,
        )
        summary = display.follow(events)
    if as_json and speaks():
        print_json(summary)
    if display.interrupted:
        raise typer.Exit(INTERRUPTED)


def default_run(sources: list[str] | None) -> Path:
    """runs/<name of the corpus> without its endings; for a pattern, the folder that it searches."""
    first = Path(need(sources)[0])
    while glob.has_magic(str(first)):
        first = first.parent
    return Path("runs") / (first.name.partition(".")[0] or "corpus")
