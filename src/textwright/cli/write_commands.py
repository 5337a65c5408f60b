"""The command that writes: generate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from textwright.cli.flags import AsJson, RunPath
from textwright.cli.shell import print_json
from textwright.cli.starting import importing
from textwright.errors import GenerationError

if TYPE_CHECKING:
    from textwright.writing.form import Form
    from textwright.writing.stream import Sample


def generate(
    run: RunPath,
    *,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", help="Start of the text. Repeatable.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="A file with one prompt a line.")
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            help="name=value: a field of the run's template that is given; the model writes the "
            "others. Repeatable.",
        ),
    ] = None,
    num: Annotated[int, typer.Option("--num", help="Texts for each prompt.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same text.")] = 0,
    sampling: dict[str, Any],
    greedy: Annotated[bool, typer.Option("--greedy", help="Same as --temperature 0.")] = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Type prompts; an empty line or Ctrl-D ends.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the sampling steps in force, in order.")
    ] = False,
    logprobs: Annotated[
        bool,
        typer.Option(
            "--logprobs",
            help="Give the model's own log-probability of each token, in nats, in --json or "
            "--out FILE.jsonl.",
        ),
    ] = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Texts written at the same time.")
    ] = 32,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write each text to this file when it ends; what was in it is replaced."
        ),
    ] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus",
            help="The training text that --no-copy reads, where it is no longer where it was. "
            "Repeatable.",
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Write text with a trained run. Sampling options that are not given are the run's own."""
    with importing():
        from textwright.api import load
        from textwright.cli.display import (
            Progression,
            converse,
            show_cost,
            show_stream,
            warn_of_prompts,
            warn_of_texts,
        )
        from textwright.writing.sampling_options import explain as explain_sampling

    if greedy and "temperature" in sampling:
        raise GenerationError("--greedy is temperature 0: leave out --temperature.")
    if greedy:
        sampling["temperature"] = 0.0
    if logprobs and not as_json and not (out and out.suffix == ".jsonl"):
        raise GenerationError("--logprobs needs --json or --out FILE.jsonl.")
    if interactive and (prompt or prompts or field or out or as_json or logprobs or num != 1):
        raise GenerationError(
            "--interactive asks for the prompts and shows one text each: leave out --prompt, "
            "--prompts, --field, --num, --out, --json and --logprobs."
        )
    if field and (prompt or prompts):
        raise GenerationError("With --field the template begins the text: leave out the prompt.")
    if out and prompts and out.is_file() and prompts.is_file() and out.samefile(prompts):
        raise GenerationError(
            f"--out would replace the prompts in {prompts}: name another file for the texts."
        )
    writer = load(run, device, corpus=corpus or ())
    options = writer.options(**sampling)
    if options.beams == 1 and {"length_penalty", "early_stopping"} & sampling.keys():
        raise GenerationError(
            "--length-penalty and --early-stopping are about beams: add --beams, such as --beams 5."
        )
    if explain:
        steps = explain_sampling(options)
        if as_json:
            print_json({"steps": steps})
        else:
            typer.echo("\n".join(steps))
        return
    if options.no_copy:
        with Progression(quiet=as_json) as shown:
            writer.known_sequences(options.no_copy, shown.show)
    elif corpus:
        raise GenerationError("--corpus is what --no-copy reads: add --no-copy, or leave it out.")
    if interactive:
        converse(writer, options, seed)
        return
    generator = replace(writer.generator, batch_size=batch_size)
    form = writer.form() if field else None
    if form:
        given = _fields(field or [])
        stream = generator.fill(form, given, options, num=num, seed=seed, logprobs=logprobs)
    else:
        starts = [*(prompt or []), *_lines(prompts)] or [""]
        stream = generator.stream(starts, options, num=num, seed=seed, logprobs=logprobs)
    warn_of_prompts(stream)
    costs = options.no_copy and options.beams == 1  # of beams it is not counted
    if as_json or out:
        records = []
        with TextFile(out) if out else nullcontext() as file:
            for sample in stream.samples():
                record = _record(sample, form)
                if file:
                    file.write(record)
                if as_json:
                    records.append(record)
        if as_json:
            speed = {"seconds": stream.seconds, "tokens_per_second": stream.tokens_per_second}
            cost = {"no_copy": stream.cost.to_json()} if costs else {}
            print_json({"samples": records, "seed": seed, **speed, **cost})
    else:
        show_stream(stream)
    if costs and not as_json:
        show_cost(stream, options.no_copy)
    warn_of_texts(stream)


class TextFile:
    """A file that holds every text that has ended, whatever happens to those that follow.

    Each text in full, an empty line between two; one JSON object a line if the name ends in .jsonl.
    What was in the file before is there until the first text is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._separator = ""
        with self._refusing():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        self._holds_old = path.is_file()  # and is no device, which cannot be emptied

    def write(self, record: dict[str, Any]) -> None:
        """Append a text and hand it to the system. Raises GenerationError, as on a full disk."""
        if self._path.suffix == ".jsonl":
            text = json.dumps(record, ensure_ascii=False)
        else:
            text = self._separator + record["prompt"] + record["text"]
            self._separator = "\n"
        with self._refusing():
            if self._holds_old:
                self._file.truncate(0)
                self._holds_old = False
            self._file.write(text + "\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):  # a write that failed was reported; closing repeats it
            self._file.close()

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise GenerationError(f"Cannot write to {self._path}: {error.strerror}.") from None


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = path.read_text("utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise GenerationError(f"Cannot read the prompts in {path}: {reason}.") from None
    if lines == [""]:
        raise GenerationError(f"{path} holds no prompts: write one a line.")
    return lines


def _fields(texts: list[str]) -> dict[str, str]:
    """`name=value`, each; the value may contain `=` itself."""
    fields: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise GenerationError(f"--field {text!r} is not of the form name=value.")
        if name in fields:
            raise GenerationError(f"--field {name} is given twice: choose one value.")
        fields[name] = value
    return fields


def _record(sample: Sample, form: Form | None) -> dict[str, Any]:
    record: dict[str, Any] = {
        "prompt": sample.prompt,
        "text": sample.text,
        "tokens": len(sample.ids),
        "finish_reason": sample.finish_reason,
    }
    if sample.logprobs is not None:
        record["logprobs"] = sample.logprobs
    if form:
        record["fields"] = form.parse(sample.prompt + sample.text)
    return record
