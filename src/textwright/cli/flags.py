"""Flags that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from textwright.errors import ConfigError, CorpusError, GenerationError

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CORPUS…",
        help="Files, folders, globs, or a hub data set (owner/name): text, CSV, TSV, JSON, JSONL, "
        "Parquet, each also .gz.",
        show_default=False,
    ),
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/recipes.")]
PresetName = Annotated[
    str, typer.Option("--preset", help="Begin from a shipped configuration (textwright presets).")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A TOML file of options; it overrides the preset.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="One option: section.key=value, such as train.epochs=3. Repeatable."
    ),
]
Text = Annotated[str, typer.Option("--text", help="The column of a table that holds the text.")]
TemplateText = Annotated[
    str,
    typer.Option(
        "--template",
        help="A document's text from several columns, such as '{title} | {directions}'.",
    ),
]
Unit = Annotated[
    str,
    typer.Option("--unit", help="Plain text: one document a file, line or block of lines."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Compute all anew, even what is kept from before.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Start = Annotated[
    str,
    typer.Option(
        "--from",
        help="Begin from trained weights, with their tokenizer: a run, a folder with a GPT-2, "
        "Llama, Qwen2 or Qwen3 in Hugging Face's form, a GGUF file, or a hub name "
        "(openai-community/gpt2).",
    ),
]
Valid = Annotated[
    list[str] | None, typer.Option("--valid", help="Held-out documents, taken as they are.")
]
Test = Annotated[
    list[str] | None, typer.Option("--test", help="Test documents, taken as they are.")
]
Threads = Annotated[int, typer.Option("--threads", help="Processor threads; 0: one a core.")]


def need(sources: list[str] | None) -> list[str]:
    if not sources:
        raise CorpusError("No corpus was named; give a file, a folder or a hub data set.")
    return sources


def part_of(part: str, sources: list[str] | None) -> str:
    """The held-out part that --part names, where no corpus is named in its place."""
    if part not in ("", "test", "valid"):
        raise ConfigError(f"--part is test or valid, not {part!r}.")
    if part and sources:
        raise ConfigError("A corpus that is named is scored whole: leave out --part.")
    return part or "test"


def with_corpus(settings: list[str] | None, text: str, template: str, unit: str) -> list[str]:
    """The settings, and those of the corpus that have flags of their own."""
    if text and template:
        raise ConfigError(
            "--text and --template both say what a document's text is; leave out one of them."
        )
    given = {"template": template or (text and "{" + text + "}"), "unit": unit}
    # Quoted, since a setting is TOML, which would take quotes and braces for its own.
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in given.items() if value}
    return [*(settings or []), *(f"corpus.{key}={value}" for key, value in quoted.items())]


def with_threads(settings: list[str] | None, threads: int) -> list[str]:
    return [*(settings or []), *([f"train.threads={threads}"] if threads else [])]


def numbers(text: str, option: str) -> list[float]:
    """The numbers of a comma-separated list."""
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise GenerationError(f"{option} {text!r} should be numbers, such as 1.0,0.2.") from None
