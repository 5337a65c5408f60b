"""The command that writes: generate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textwright.cli.flags import AsJson, RunPath
from textwright.cli.shell import print_json
from textwright.errors import GenerationError

if TYPE_CHECKING:
    from textwright.writing.form import Form
    from textwright.writing.stream import Sample, TextStream


def generate(
    run: RunPath,
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
    temperature: Annotated[
        float | None,
        typer.Option(help="Below 1 safer, above 1 bolder; 0 always the likeliest, inf uniform."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Only the k likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Only the likeliest tokens that together reach p.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Only tokens at least this share as likely as the best.")
    ] = None,
    typical_p: Annotated[
        float | None, typer.Option(help="Only the most typical tokens that together reach p.")
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1: tokens used before become less likely.")
    ] = None,
    presence_penalty: Annotated[
        float | None, typer.Option(help="Taken off the logit of every token written before.")
    ] = None,
    frequency_penalty: Annotated[
        float | None, typer.Option(help="Taken off once for each time it was written.")
    ] = None,
    no_repeat_ngram: Annotated[
        int | None, typer.Option(help="No run of so many tokens occurs twice.")
    ] = None,
    logit_bias: Annotated[
        list[str] | None, typer.Option(help="token=number added to its logit. Repeatable.")
    ] = None,
    forbid: Annotated[
        list[str] | None, typer.Option(help="A token never to be written. Repeatable.")
    ] = None,
    min_new_tokens: Annotated[int | None, typer.Option(help="At least so many tokens.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="At most so many tokens.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="A text that ends the text. Repeatable.")
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Same as --temperature 0.")] = False,
    beams: Annotated[
        int | None,
        typer.Option(
            help="Follow so many texts side by side and write the best --num of them: "
            "sampled beams, or with --greedy beam search."
        ),
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(help="Beams rank by score / tokens^this: above 0 longer texts gain."),
    ] = None,
    early_stopping: Annotated[
        str | None,
        typer.Option(
            help="true: end when as many texts as beams have ended; false: when also no other is "
            "better as it is; never: when none can become better."
        ),
    ] = None,
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
            help="Tell the model's own log-probability of each token, in nats, in --json or "
            "--out FILE.jsonl.",
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the texts to this file.")] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Write text with a trained run."""
    from textwright.api import load
    from textwright.cli.display import converse, show_stream, tell_outgrown, tell_prompts
    from textwright.writing.sampling_options import explain as explain_sampling

    if greedy and temperature is not None:
        raise GenerationError("--greedy is temperature 0: leave out --temperature.")
    given = {
        "temperature": 0.0 if greedy else temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical_p,
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "no_repeat_ngram": no_repeat_ngram,
        "logit_bias": _biases(logit_bias),
        "forbid": forbid,
        "min_new_tokens": min_new_tokens,
        "max_new_tokens": max_new_tokens,
        "stop": stop,
        "beams": beams,
        "length_penalty": length_penalty,
        "early_stopping": _early_stopping(early_stopping),
    }
    if logprobs and not as_json and not (out and out.suffix == ".jsonl"):
        raise GenerationError("--logprobs needs --json or --out FILE.jsonl, which tell them.")
    if interactive and (prompt or prompts or field or out or as_json or logprobs or num != 1):
        raise GenerationError(
            "--interactive asks for the prompts and shows one text each: leave out --prompt, "
            "--prompts, --field, --num, --out, --json and --logprobs."
        )
    if field and (prompt or prompts):
        raise GenerationError("With --field the template begins the text: leave out the prompt.")
    writer = load(run, device)
    options = writer.options(**{key: value for key, value in given.items() if value is not None})
    if options.beams == 1 and (length_penalty is not None or early_stopping is not None):
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
    if interactive:
        converse(writer, options, seed)
        return
    form = writer.form() if field else None
    if form:
        fields = _fields(field or [])
        stream = writer.generator.fill(form, fields, options, num=num, seed=seed, logprobs=logprobs)
    else:
        starts = [*(prompt or []), *_lines(prompts)] or [""]
        stream = writer.generator.stream(starts, options, num=num, seed=seed, logprobs=logprobs)
    tell_prompts(stream)
    if as_json or out:
        records = [_record(sample, form) for sample in stream.samples()]
        if out:
            _write_texts(out, records)
        if as_json:
            print_json(_describe(records, stream, seed))
    else:
        show_stream(stream)
    tell_outgrown(stream)


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


def _biases(texts: list[str] | None) -> dict[str, float] | None:
    """`token=number`, each; the token may hold = itself."""
    if texts is None:
        return None
    biases = {}
    for text in texts:
        token, equals, number = text.rpartition("=")
        if not equals:
            raise GenerationError(f"--logit-bias {text!r} is not of the form token=number.")
        try:
            biases[token] = float(number)
        except ValueError:
            raise GenerationError(f"--logit-bias {text!r} should end in a number.") from None
    return biases


def _early_stopping(text: str | None) -> bool | str | None:
    """true and false as truth values, however they are written."""
    return {"true": True, "false": False}.get((text or "").lower(), text)


def _fields(texts: list[str]) -> dict[str, str]:
    """`name=value`, each; the value may hold = itself."""
    fields: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise GenerationError(f"--field {text!r} is not of the form name=value.")
        if name in fields:
            raise GenerationError(f"--field {name} is given twice: choose one value.")
        fields[name] = value
    return fields


def _write_texts(path: Path, records: list[dict[str, Any]]) -> None:
    """Each text in full, an empty line between two; JSON lines if the name ends so."""
    if path.suffix == ".jsonl":
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    else:
        lines = ["\n\n".join(record["prompt"] + record["text"] for record in records) + "\n"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines), "utf-8")
    except OSError as error:
        raise GenerationError(f"Cannot write to {path}: {error.strerror}.") from None


def _describe(records: list[dict[str, Any]], stream: TextStream, seed: int) -> dict[str, Any]:
    return {
        "samples": records,
        "seed": seed,
        "seconds": stream.seconds,
        "tokens_per_second": stream.tokens_per_second,
    }


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
