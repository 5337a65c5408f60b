"""The command line: thin. It reads flags, calls the library, shows what comes back.

Heavy imports stand inside the commands that need them, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from textwright import __version__
from textwright.errors import ConfigError, CorpusError, GenerationError, TextwrightError

if TYPE_CHECKING:
    from textwright.fields import Form
    from textwright.generator import Sample, Stream

INTERRUPTED = 130  # the exit code of what Ctrl-C stopped, as shells give it


class Commands(TyperGroup):
    """All commands; says so when Ctrl-C ends one."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if _speaks():
                typer.echo("\ntextwright: interrupted.", err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    epilog="Begin with: textwright demo · textwright train my.txt · textwright generate runs/my",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"textwright {__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    """Train, understand and trust small autoregressive text models."""


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
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")
]
Start = Annotated[
    str,
    typer.Option(
        "--from",
        help="Begin from trained weights, with their tokenizer: a run, a folder with a GPT-2 in "
        "Hugging Face's form, or a hub name (openai-community/gpt2).",
    ),
]
Valid = Annotated[
    list[str] | None, typer.Option("--valid", help="Held-out documents, taken as they are.")
]
Test = Annotated[
    list[str] | None, typer.Option("--test", help="Test documents, taken as they are.")
]
Threads = Annotated[int, typer.Option("--threads", help="Processor threads; 0: one a core.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same text.")]


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Where the demo's runs go; an earlier demo is replaced.")
    ] = Path("runs/demo"),
) -> None:
    """Train a small LSTM and a small GPT on the built-in corpus and compare them (90 seconds)."""
    from textwright.demo import run_demo
    from textwright.display import TrainDisplay

    with TrainDisplay() as display:
        run_demo(out, display)
    if display.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command()
def corpus(
    sources: Sources = None,
    preset: PresetName = "",
    config: ConfigFile = None,
    start: Start = "",
    settings: Settings = None,
    valid: Valid = None,
    test: Test = None,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Look at a corpus before training: its size, what would be lost, what training would cost."""
    from textwright.corpus import Corpus
    from textwright.display import Progression, show_survey
    from textwright.pretrained import find_origin
    from textwright.resuming import choose_config
    from textwright.survey import survey

    origin = find_origin(start) if start else None
    chosen = choose_config(preset, config, _with_threads(settings, threads), init_from=origin)
    named = Corpus(
        _need(sources),
        chosen.corpus,
        valid=valid or [],
        test=test or [],
        whole_symbols=chosen.tokenizer.kind == "symbols",
    )
    with Progression(quiet=as_json) as shown:
        found = survey(named, chosen, shown.show, origin.tokenizer if origin else None)
    if as_json:
        _print_json(found.to_json())
    else:
        show_survey(found, chosen)


@app.command()
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
    time_budget: Annotated[
        str, typer.Option("--time-budget", help="Stop after so much training: 90s, 20m, 2h.")
    ] = "",
    threads: Threads = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out where it was interrupted.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Keep no held-out documents in the run folder.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard logs into the run folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on a corpus.

    Documents are held out by themselves, the best weights are kept, and the run folder holds all
    that generate, evaluate and inspect need. Ctrl-C stops after the current step; --resume goes on.
    """
    from textwright.display import TrainDisplay, err
    from textwright.pretrained import find_origin
    from textwright.resuming import choose_config
    from textwright.training import train_run

    settings = _with_threads(settings, threads)
    if time_budget:
        settings.append(f"train.time_budget={time_budget}")
    out = out or _default_run(sources)
    origin = find_origin(start) if start else None
    resumed = out if resume else None
    chosen = choose_config(preset, config, settings, resume=resumed, init_from=origin)
    speaks = _speaks()
    board = out / "tensorboard" if tensorboard and speaks else None
    err.quiet = not speaks
    with TrainDisplay(quiet=as_json or not speaks, tensorboard=board) as display:
        events = train_run(
            sources or [] if resume else _need(sources),
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
    if as_json and speaks:
        _print_json(summary)
    if display.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command()
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
    seed: Seed = 0,
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
    from textwright.display import converse, show_stream, tell_outgrown, tell_unknown
    from textwright.fields import FormStream
    from textwright.sampling import explain as explain_sampling

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
        "early_stopping": {"true": True, "false": False}.get(early_stopping or "", early_stopping),
    }
    if logprobs and not as_json and not (out and out.suffix == ".jsonl"):
        raise GenerationError("--logprobs needs --json or --out FILE.jsonl, which tell them.")
    if interactive and (prompt or prompts or out or as_json or logprobs or num != 1):
        raise GenerationError(
            "--interactive asks for the prompts and shows one text each: leave out --prompt, "
            "--prompts, --num, --out, --json and --logprobs."
        )
    if field and (prompt or prompts or interactive):
        raise GenerationError("With --field the template begins the text: leave out the prompt.")
    writer = load(run, device)
    options = writer.options(**{key: value for key, value in given.items() if value is not None})
    if explain:
        typer.echo("\n".join(explain_sampling(options)))
        return
    if interactive:
        converse(writer, options, seed)
        return
    form = writer.form() if field else None
    if form:
        fields = _fields(field or [])
        stream: Stream = FormStream(writer.generator, form, fields, options, num, seed, logprobs)
    else:
        starts = [*(prompt or []), *_lines(prompts)] or [""]
        stream = writer.generator.stream(starts, options, num=num, seed=seed, logprobs=logprobs)
    tell_unknown(stream)
    if as_json or out:
        records = [_record(sample, form) for sample in stream.samples()]
        if out:
            _write_texts(out, records)
        if as_json:
            _print_json(_describe(records, stream, seed))
    else:
        show_stream(stream)
    tell_outgrown(stream)


@app.command()
def evaluate(
    run: RunPath,
    sources: Sources = None,
    part: Annotated[
        str, typer.Option("--part", help="The held-out part to score, test (if not told) or valid.")
    ] = "",
    fields: Annotated[
        bool,
        typer.Option(
            "--fields", help="Tell also how well the run keeps to the fields of its template."
        ),
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Score a run on its held-out documents, or on another corpus taken whole."""
    from textwright.display import Progression, show_adherence, show_scores
    from textwright.run import Run
    from textwright.scoring import score_run

    if part not in ("", "test", "valid"):
        raise ConfigError(f"--part is test or valid, not {part!r}.")
    if part and sources:
        raise ConfigError("A corpus that is named is scored whole: leave out --part.")
    with Progression(quiet=as_json) as shown:
        shown.show("Scoring", 0, 0)
        scores, adherence = score_run(Run.load(run), sources or [], part or "test", device, fields)
    if as_json:
        told = {"adherence": adherence.to_json()} if adherence else {}
        _print_json({**scores.to_json(), **told})
        return
    show_scores(scores)
    if adherence:
        show_adherence(adherence)


@app.command()
def inspect(
    run: RunPath,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", help="What the model has read. Repeatable.")
    ] = None,
    temperatures: Annotated[str, typer.Option("--temperatures", help="Comma-separated.")] = "1.0",
    top: Annotated[int, typer.Option("--top", min=1, help="How many of the likeliest tokens.")] = 5,
    gates: Annotated[
        bool, typer.Option("--gates", help="What the recurrent cells held at each token read.")
    ] = False,
    attention: Annotated[
        bool, typer.Option("--attention", help="What each head looks at to say what comes next.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What the model expects next: the likeliest tokens after a prompt, at several temperatures."""
    from textwright.api import load
    from textwright.display import show_tables
    from textwright.inspection import next_tokens, tracer

    values = _numbers(temperatures, "--temperatures")
    writer = load(run)
    trace = tracer(writer.run) if gates or attention or as_json else None
    steps = next_tokens(writer.generator, prompt or [""], values, top, trace)
    if gates and not all(step.gates for step in steps):
        raise GenerationError(f"The model of {run} is not recurrent, so it has no gates.")
    if attention and not all(step.attention for step in steps):
        raise GenerationError(f"The model of {run} is recurrent, so it has no attention.")
    if as_json:
        _print_json({"steps": [step.to_json() for step in steps]})
    else:
        show_tables(steps)


@app.command()
def export(
    run: RunPath,
    to: Annotated[str, typer.Option("--to", help="transformers, onnx or gguf.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder.")],
    as_json: AsJson = False,
) -> None:
    """Write a run in the form of another program, and read it back to compare.

    transformers: a folder for AutoModelForCausalLM and AutoTokenizer. onnx: for ONNX Runtime, with
    state in and out. gguf: for llama.cpp, where the model is a GPT-2 with a byte-level BPE.
    """
    from textwright.display import Progression, show_export
    from textwright.export import export_run
    from textwright.run import Run

    with Progression(quiet=as_json) as shown:
        exported = export_run(Run.load(run), to, out, shown.show)
    if as_json:
        _print_json(exported.to_json())
    else:
        show_export(exported)


@app.command()
def presets(as_json: AsJson = False) -> None:
    """List the shipped configurations."""
    from textwright.config import presets as shipped

    if as_json:
        _print_json(shipped())
        return
    width = max(map(len, shipped()))
    for name, purpose in shipped().items():
        typer.echo(f"{name:{width}}  {purpose}")


@app.command()
def summary(
    target: Annotated[str, typer.Argument(metavar="RUN|PRESET", help="A run folder or a preset.")],
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """The table of a model's parameters; a preset needs no corpus for it."""
    from textwright.config import Config
    from textwright.display import show_summary
    from textwright.run import Run
    from textwright.scoring import summarize

    if (Path(target) / "config.toml").exists():
        kept = Run.load(Path(target))
        found = summarize(kept.config, kept.tokenizer.vocab_size)
    else:
        chosen = Config.resolve(preset=target, settings=settings or [])
        found = summarize(chosen, chosen.tokenizer.vocab_size)
    if as_json:
        _print_json(found)
    else:
        show_summary(target, found)


def _speaks() -> bool:
    """Of several processes on one training, the first."""
    return os.environ.get("RANK", "0") == "0"


def _need(sources: list[str] | None) -> list[str]:
    if not sources:
        raise CorpusError("No corpus was named; give a file, a folder or a hub data set.")
    return sources


def _default_run(sources: list[str] | None) -> Path:
    """runs/<name of the corpus>, its endings off."""
    first = Path(_need(sources)[0])
    return Path("runs") / (first.name.partition(".")[0] or "corpus")


def _with_threads(settings: list[str] | None, threads: int) -> list[str]:
    return [*(settings or []), *([f"train.threads={threads}"] if threads else [])]


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise GenerationError(f"Cannot read the prompts in {path}: {reason}.") from None
    if not lines:
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


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise GenerationError(f"{option} {text!r} should be numbers, such as 1.0,0.2.") from None


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


def _describe(records: list[dict[str, Any]], stream: Stream, seed: int) -> dict[str, Any]:
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


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))


def main() -> None:
    """Run the command line; every error that a user can cause is one sentence and exit code 2."""
    try:
        app()
    except TextwrightError as error:
        typer.echo(f"textwright: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
