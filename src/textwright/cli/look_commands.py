"""Commands that look at something: evaluate, cache, presets, summary."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from textwright.cli.flags import AsJson, Device, Fresh, RunPath, Settings, Sources, part_of
from textwright.cli.shell import keeping, print_json
from textwright.errors import ConfigError


def evaluate(
    run: RunPath,
    sources: Sources = None,
    part: Annotated[
        str, typer.Option("--part", help="The held-out part to score: test (the default) or valid.")
    ] = "",
    fields: Annotated[
        bool,
        typer.Option(
            "--fields", help="Score also how well the run keeps to the fields of its template."
        ),
    ] = False,
    device: Device = "auto",
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Score a run on its held-out documents, or on another corpus taken whole."""
    from textwright.cli.display import Progression, out, show_adherence, show_scores
    from textwright.evaluation.held_out import doubt_of, read_text
    from textwright.evaluation.runs import score_run
    from textwright.run import Run

    part = part_of(part, sources)
    opened = Run.load(run)
    text = read_text(sources, opened.config.corpus) if sources else None
    with keeping(fresh, as_json) as kept, Progression(quiet=as_json) as shown:
        scores, adherence = score_run(
            opened,
            text,
            part,
            device,
            fields,
            partial(shown.show, "Scoring"),
            kept,
        )
    if as_json:
        fields_scored = {"adherence": adherence.to_json()} if adherence else {}
        print_json({**scores.to_json(), **fields_scored})
        return
    show_scores(scores)
    if adherence:
        show_adherence(adherence)
    if sources and text and (doubt := doubt_of(opened, sources, text)):
        out.print(f"Note: {doubt}")


def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove all of it; a running training is not disturbed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what is kept on this machine, or remove it: corpora that trainings have encoded, and
    results of long work, which is taken up again from there."""
    from textwright.cli.display import show_cache
    from textwright.files import cache_folder
    from textwright.training.cache import (
        clear_cache,
        list_cache,
        measure_results,
        remove_abandoned,
    )

    freed = clear_cache() if clear else remove_abandoned()
    corpora = list_cache()
    results = measure_results()
    if as_json:
        print_json(
            {
                "folder": str(cache_folder()),
                "corpora": [corpus.to_json() for corpus in corpora],
                "bytes": sum(corpus.bytes for corpus in corpora),
                "results": {"parts": results[0], "bytes": results[1]},
                "freed": freed,
            }
        )
    else:
        show_cache(cache_folder(), corpora, results, freed, clear)


def presets(as_json: AsJson = False) -> None:
    """List the shipped configurations."""
    from textwright.config import presets as shipped

    if as_json:
        print_json(shipped())
        return
    width = max(map(len, shipped()))
    for name, purpose in shipped().items():
        typer.echo(f"{name:{width}}  {purpose}")


def summary(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN|PRESET|MODEL",
            help="A run folder, a preset, a model's folder in Hugging Face's form, or a GGUF file.",
        ),
    ],
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Print the table of a model's parameters, without reading its weights; a preset needs no
    corpus for it."""
    from textwright.cli.display import show_summary
    from textwright.config import Config
    from textwright.config import presets as shipped
    from textwright.families import GPTOptions
    from textwright.models.parameters import parameter_table
    from textwright.models.pretrained import find_published
    from textwright.run import Run

    kept = Run.load(Path(target)) if (Path(target) / "config.toml").exists() else None
    published = None if kept or target in shipped() else find_published(target)
    if settings and (kept or published):
        whose = "A run" if kept else "A trained model"
        raise ConfigError(f"{whose} keeps its options: leave out --set, or name a preset.")
    if published:
        found = parameter_table(GPTOptions(**published.model), published.vocab_size, 0)
    elif target == "auto":
        raise ConfigError(
            "The preset auto chooses its model from a corpus and the time: textwright corpus FILE "
            "shows it, and a run's own summary."
        )
    else:
        config = kept.config if kept else Config.resolve(preset=target, settings=settings or [])
        size = kept.tokenizer.vocab_size if kept else config.tokenizer.vocab_size
        found = parameter_table(config.model, size, config.data.context_length)
    if as_json:
        print_json(found)
    else:
        show_summary(target, found)
