"""What the command line shows: progress, tables, texts. It computes nothing."""

from __future__ import annotations

import contextlib
import signal
import sys
import textwrap
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from textwright.errors import RunError

if TYPE_CHECKING:
    from textwright.adherence import Adherence, Interval
    from textwright.api import Writer
    from textwright.config import Config
    from textwright.evaluate import Scores
    from textwright.export import Exported
    from textwright.generator import Stream
    from textwright.inspection import NextTokens, Token
    from textwright.run import Run
    from textwright.sampling import SamplingOptions
    from textwright.survey import Survey
    from textwright.trainer import Evaluation, Finished, Step
    from textwright.training import Event, Ready, Sample

PLAIN_INTERVAL = 10.0  # seconds of training between progress lines where there is no terminal
ATTENTION_BAR = 20  # characters for a head that looks at one token only
RECENT_STEPS = 50  # over which loss and speed are shown

# Texts, paths and reasons come from users: their brackets are no markup, their :names: no emoji.
out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


class Progression(AbstractContextManager["Progression"]):
    """A bar that tells what is being done and how far it is; plain lines without a terminal."""

    def __init__(self, quiet: bool = False) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(30),
            TextColumn("{task.fields[note]}", markup=False),
        )
        self.bar = Progress(*columns, console=err, transient=True)
        self.live = err.is_terminal and not quiet
        self.plain = not err.is_terminal and not quiet
        self.stage = ""
        self.task: TaskID | None = None

    def __enter__(self) -> Self:
        if self.live:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.bar.stop()

    def show(self, stage: str, done: int, total: int, note: str = "") -> None:
        """A new stage begins, or goes on; a total of 0 means that nobody knows it."""
        if stage != self.stage and self.plain:
            err.print(f"{stage} …")
        if stage != self.stage and self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None
        self.stage = stage
        if self.task is None:
            self.task = self.bar.add_task(stage, total=None, note="")
        self.bar.update(self.task, completed=done, total=total or None, note=note)


class TrainDisplay(AbstractContextManager["TrainDisplay"]):
    """Follows a training run: preparation, steps, evaluations, samples, the end.

    On Ctrl-C the current step is finished and a checkpoint saved; a second Ctrl-C ends at once.
    """

    def __init__(self, quiet: bool = False, tensorboard: Path | None = None) -> None:
        self.quiet = quiet
        self.progression = Progression(quiet)
        self.board = _open_tensorboard(tensorboard) if tensorboard else None
        self.recent: deque[Step] = deque(maxlen=RECENT_STEPS)
        self.printed = 0.0
        self.stopping = False
        self.ready: Ready | None = None
        self.finished: Finished | None = None
        # As `train --json` prints them; before: of weights that were trained before.
        self.best: dict[str, float] | None = None
        self.before: dict[str, float] | None = None
        self.parts = 1
        self.tokens = 0

    def __enter__(self) -> Self:
        self.progression.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.progression.__exit__()
        if self.board:
            self.board.close()

    def follow(self, events: Generator[Event]) -> dict[str, Any]:
        """Show events to the end, or until Ctrl-C → the summary that `train --json` prints."""
        self.ready = self.finished = None
        with self._finishing_the_step(), closing(events):
            for event in events:
                getattr(self, f"_{type(event).__name__.lower()}")(event)
                if self.stopping:
                    break
        if self.interrupted:
            step = self._summary()["steps"]
            err.print(f"Stopped at step {step:,}; --resume goes on from there.")
        return self._summary()

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C, here or in another process, ended the training before it was over."""
        return self.finished is None

    def _ready(self, ready: Ready) -> None:
        self.ready, self.best = ready, None
        self.recent.clear()
        done = ready.progress
        self.tokens, self.printed = done.tokens, done.seconds
        if done.best_step >= 0:
            self.best = _best(done.best_step, done.best_loss, done.best_bits_per_character)
        self.before = _before(ready.run)
        self.parts = ready.run.config.train.accumulate
        if not self.quiet:
            at = f" from step {done.step:,}" if done.step else ""
            adapts = ready.trained < ready.parameters
            some = f", {ready.trained:,} of them trained" if adapts else ""
            err.print(
                f"{ready.documents:,} documents ({ready.tokens:,} tokens) to train on, "
                f"{ready.held_out:,} held out. {ready.parameters:,} parameters{some}.\n"
                f"Training{at} to step {ready.total_steps:,} at most, on {ready.device} "
                f"({ready.dtype}, {ready.threads} threads), into {ready.run.path}"
            )
        self._tell_parts(done.parts)

    def _step(self, step: Step) -> None:
        self.recent.append(step)
        self.tokens += step.tokens
        if self.board:
            self.board.add_scalar("loss/training", step.loss, step.step)
            self.board.add_scalar("learning rate", step.learning_rate, step.step)
        assert self.ready
        text = f"loss {self._loss():.3f}  {self._speed():,.0f} tokens/s  {self._left()} left"
        total = self.ready.total_steps
        self._tell_parts(step.parts)
        self.progression.plain = False  # the lines below take over
        self.progression.show(f"step {step.step:,}/{total:,}", step.step, total, text)
        if not err.is_terminal and not self.quiet and step.seconds - self.printed > PLAIN_INTERVAL:
            self.printed = step.seconds
            err.print(f"step {step.step:,}/{total:,}  {text}")

    def _tell_parts(self, parts: int) -> None:
        if parts > self.parts and self.ready and not self.quiet:
            rows = self.ready.run.config.train.batch_size
            err.print(
                f"Memory does not hold a batch of {rows} rows at once: it is computed in {parts} "
                "parts, for the same step."
            )
        self.parts = max(parts, self.parts)

    def _evaluation(self, evaluation: Evaluation) -> None:
        scores = evaluation.scores
        if evaluation.best:
            self.best = _best(evaluation.step, scores.loss, scores.bits_per_character)
        if not evaluation.step:
            self.before = self.best
        if self.board:
            self.board.add_scalar("loss/held out", scores.loss, evaluation.step)
            self.board.add_scalar("bits per character", scores.bits_per_character, evaluation.step)
        if not self.quiet:
            training = f"training {self._loss():.3f}" if evaluation.step else "before training"
            err.print(
                f"epoch {evaluation.epoch:.2f}  step {evaluation.step:,}  "
                f"{training}  held out {scores.loss:.3f} nats a token, "
                f"{scores.bits_per_character:.3f} bits a character"
                + ("  best so far" if evaluation.best else "")
            )

    def _sample(self, sample: Sample) -> None:
        if self.board:
            self.board.add_text("sample", sample.text, sample.step)
        if not self.quiet:
            for line in sample.text.splitlines() or [""]:
                err.print(textwrap.fill(line, 96, initial_indent="  │ ", subsequent_indent="  │ "))

    def _finished(self, finished: Finished) -> None:
        self.finished = finished
        reasons = {
            "epochs": "All epochs are done",
            "max_steps": "The last step is done",
            "time_budget": "The time is up",
            "early_stopping": "Held-out text gains no more",
        }
        if not self.quiet and self.ready and self.best:
            path = self.ready.run.path
            before = dict.fromkeys(self.best, "")
            if self.before:
                before = {key: f"{value:.3f} → " for key, value in self.before.items()}
            err.print(
                f"{reasons[finished.reason]} ({_clock(finished.seconds)} of training). Best: "
                f"{before['loss']}{self.best['loss']:.3f} nats a token, "
                f"{before['bits_per_character']}{self.best['bits_per_character']:.3f} bits a "
                f"character at step {self.best['step']:,}.\n"
                f"Write with it: textwright generate {path}"
            )

    def _summary(self) -> dict[str, Any]:
        assert self.ready
        last = self.finished or (self.recent[-1] if self.recent else None)
        seconds = last.seconds if last else self.ready.progress.seconds
        return {
            "run": str(self.ready.run.path),
            "steps": last.step if last else self.ready.progress.step,
            "epochs": last.epoch if last else 0.0,
            "seconds": seconds,
            "tokens_per_second": self.tokens / seconds if seconds else 0.0,
            "best": self.best,
            "before": self.before,
        }

    def _loss(self) -> float:
        tokens = sum(step.tokens for step in self.recent)
        return sum(step.loss * step.tokens for step in self.recent) / tokens if tokens else 0.0

    def _speed(self) -> float:
        first, last = self.recent[0], self.recent[-1]
        if first is last:
            return last.tokens / last.seconds if last.seconds else 0.0
        tokens = sum(step.tokens for step in self.recent) - first.tokens
        return tokens / max(1e-9, last.seconds - first.seconds)

    def _left(self) -> str:
        assert self.ready
        first, last = self.recent[0], self.recent[-1]
        pace = (last.seconds - first.seconds) / max(1, last.step - first.step)
        left = pace * (self.ready.total_steps - last.step)
        budget = self.ready.run.config.train.time_budget
        return _clock(max(0.0, min(left, budget - last.seconds)) if budget else left)

    @contextlib.contextmanager
    def _finishing_the_step(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _stop(self, *_: object) -> None:
        if self.stopping or self.ready is None:
            raise KeyboardInterrupt
        self.stopping = True
        err.print("Stopping after this step …")


def show_survey(found: Survey, config: Config) -> None:
    """The report of `textwright corpus`."""
    table = Table(show_header=False, box=None, pad_edge=False)
    parts = ", ".join(f"{count:,} {part}" for part, count in found.parts.items())
    table.add_row("documents", f"{found.documents:,} ({parts})")
    table.add_row("characters", f"{found.characters:,}")
    table.add_row("words", f"{found.words:,}")
    table.add_row("duplicates", f"{found.duplicates:,}")
    for reason, count in found.dropped.items():
        table.add_row("dropped", f"{count:,}  {reason}")
    table.add_row("tokens", f"{found.tokens:,} to train on, vocabulary {found.vocabulary:,}")
    table.add_row("layout", f"{found.layout} of {config.data.context_length} tokens")
    if found.layout == "rows":
        table.add_row("cut", f"{found.cut:.1%} of the documents are longer than that")
        table.add_row("padded", f"{found.padded:.1%} of a batch's cells")
    table.add_row("unknown", f"{found.unknown:.2%} of the tokens")
    estimate = found.estimate
    table.add_row("an epoch takes", f"about {_clock(estimate.seconds_per_epoch)} on this machine")
    table.add_row("memory", f"about {estimate.memory_bytes / 1e6:,.0f} MB")
    out.print(table)
    for warning in found.warnings():
        out.print(f"Note: {warning}")


def show_scores(scores: Scores) -> None:
    """The report of `textwright evaluate`."""
    low, high = scores.interval
    out.print(
        f"{scores.documents:,} documents, {scores.tokens:,} tokens\n"
        f"loss                {scores.loss:.4f} nats a token "
        f"(perplexity {scores.perplexity:,.1f})\n"
        f"bits per character  {scores.bits_per_character:.4f} (95 %: {low:.4f} to {high:.4f})\n"
        f"bits per byte       {scores.bits_per_byte:.4f}"
    )
    if scores.row_loss is not None:
        out.print(
            f"within a row        {scores.row_loss:.4f}; "
            f"{scores.padded_loss:.4f} with padding counted"
        )


def show_rivals(rivals: list[tuple[str, Scores, float]], floor: float) -> None:
    """Models side by side, (name, test scores, seconds of training), beside the text's entropy."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("on the test notes")
    for title in ("nats a token", "bits a character", "95 % interval", "training"):
        table.add_column(title, justify="right")
    for name, scores, seconds in rivals:
        low, high = scores.interval
        bits = f"{scores.bits_per_character:.3f}"
        interval = f"{low:.3f} to {high:.3f}"
        table.add_row(name, f"{scores.loss:.3f}", bits, interval, _clock(seconds))
    table.add_row("the truth", f"{floor:.3f}", "", "", "")
    out.print(table)


def show_adherence(adherence: Adherence) -> None:
    """The report of `textwright evaluate --fields`."""

    def told(value: float | None, interval: Interval | None, form: str) -> str:
        if value is None or interval is None:
            return ""
        low, high = interval
        return f"{value:{form}} ({low:{form}} to {high:{form}})"

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("field", "found", "preferred (95 %)", "nats saved (95 %)"):
        table.add_column(title)
    for name, field in adherence.fields.items():
        table.add_row(
            name,
            f"{field.found:.0%}",
            told(field.preferred, field.preferred_interval, ".1%"),
            told(field.gain, field.gain_interval, "+.3f"),
        )
    out.print(table)
    out.print(
        f"found: in {adherence.texts:,} texts that the model wrote by itself; "
        f"{adherence.complete:.0%} have every field.\n"
        f"preferred, saved: in {adherence.documents:,} held-out documents, what the true value "
        f"does for the last field beside another document's; {adherence.unparsed:,} more do not "
        "parse."
    )


def show_summary(name: str, found: dict[str, Any]) -> None:
    """The parameter table."""
    table = Table("layer", "shape", "parameters", box=None, pad_edge=False, header_style="bold")
    table.columns[2].justify = "right"
    for layer in found["parameters"]["layers"]:
        shape = " + ".join("×".join(map(str, part)) for part in layer["shape"])
        table.add_row(layer["name"], shape, f"{layer['count']:,}")
    table.add_row("total", "", f"{found['parameters']['total']:,}", style="bold")
    out.print(table)
    context = found["context_length"]
    out.print(
        f"vocabulary {found['vocabulary']:,}, "
        + (f"context {context:,} tokens" if context else "context without end")
    )


def show_export(exported: Exported) -> None:
    """What was written, and how far it is from the run."""
    out.print(f"{exported.out}: {', '.join(exported.files)}")
    difference = exported.largest_difference
    out.print(f"Read back, log-probabilities differ by {difference:.2g} nats at most.")


def show_tables(steps: list[NextTokens]) -> None:
    """The likeliest next tokens, one column a temperature; gates and attention, if traced."""
    for step in steps:
        out.print(f"\n{_plain(step.context) or '(start of a text)'}", style="bold")
        table = Table(box=None, pad_edge=False)
        for temperature in step.next:
            entropy = step.entropy[temperature]
            table.add_column(f"T = {temperature:g}  ({entropy:.2f} nats)", min_width=24)
        for row in zip(*step.next.values(), strict=True):
            table.add_row(*(f"{c.probability:7.2%}  {c.shown}" for c in row))
        out.print(table)
        for number, layer in enumerate(step.gates or [], 1):
            _show_gates(number, layer, step.tokens)
        for number, heads in enumerate(step.attention or [], 1):
            _show_attention(number, heads, step.tokens)


def _show_gates(number: int, layer: dict[str, dict[str, list[float]]], read: list[Token]) -> None:
    """What one layer held, a line for each token read; what can be negative by its magnitude."""
    signs = {"candidate": "|C̃|", "C": "|C|", "n": "|n|", "h": "|h|"}
    table = Table(f"layer {number}", box=None, pad_edge=False, header_style="bold")
    for name in layer:
        table.add_column(signs.get(name, name), justify="right")
    columns = [statistics["magnitude"] for statistics in layer.values()]
    for token, *values in zip(read, *columns, strict=True):
        table.add_row(token.shown, *(f"{value:.3f}" for value in values))
    out.print(table)


def _show_attention(number: int, heads: list[list[float]], read: list[Token]) -> None:
    """What one layer's heads look at, a line for each token read, with a bar for their mean."""
    table = Table(f"layer {number}", box=None, pad_edge=False, header_style="bold")
    for head in range(1, len(heads) + 1):
        table.add_column(f"head {head}", justify="right")
    table.add_column("mean", justify="right")
    table.add_column("")
    for token, *shares in zip(read, *heads, strict=True):
        mean = sum(shares) / len(shares)
        bar = "█" * round(mean * ATTENTION_BAR)
        table.add_row(token.shown, *(f"{share:.1%}" for share in (*shares, mean)), bar)
    out.print(table)


def tell_unknown(stream: Stream) -> None:
    """Which words of the prompts the model has never seen."""
    words = dict.fromkeys(word for unknown in stream.unknown for word in unknown)
    if words:
        listed = ", ".join(words)
        err.print(f"Not in the vocabulary, read as [UNK]: {listed}")


def tell_outgrown(stream: Stream) -> None:
    """That the model has not seen all of a text at once, if that is so."""
    if stream.outgrown and stream.context_length:
        err.print(
            f"A text is longer than the {stream.context_length} tokens that the model can look "
            "back on: it went on from the newest half of them whenever they were full."
        )


def show_stream(stream: Stream) -> None:
    """Texts on the terminal as they are written, one after another."""
    pending: dict[int, list[str]] = {}
    ended: set[int] = set()
    turn, many = 0, len(stream.prompts) * stream.num > 1

    def begin() -> None:
        if turn and turn < len(stream.prompts) * stream.num:
            sys.stdout.write("\n")
        if turn < len(stream.prompts) * stream.num:
            heading = f"--- {turn + 1} ---\n" if many else ""
            sys.stdout.write(heading + stream.prompts[turn // stream.num])
            sys.stdout.write("".join(pending.pop(turn, [])))
            sys.stdout.flush()

    begin()
    for event in stream:
        if event.sample == turn:
            sys.stdout.write(event.text)
            sys.stdout.flush()
        else:
            pending.setdefault(event.sample, []).append(event.text)
        if event.finish_reason:
            ended.add(event.sample)
        while turn in ended:
            sys.stdout.write("\n")
            turn += 1
            begin()
    err.print(f"{stream.tokens:,} tokens, {stream.tokens_per_second:,.0f} a second", style="dim")


def converse(writer: Writer, options: SamplingOptions, seed: int) -> None:
    """Prompts from the keyboard until an empty line or the end of input."""
    with contextlib.suppress(EOFError):
        while prompt := input("prompt> "):
            stream = writer.generator.stream([prompt], options, seed=seed)
            tell_unknown(stream)
            show_stream(stream)
            seed += 1


def _before(run: Run) -> dict[str, float] | None:
    """The scores of the weights that a run began from, where it did."""
    for record in run.metrics():
        if record["event"] == "evaluation" and record["step"] == 0:
            scores = record["scores"]
            return _best(0, scores["loss"], scores["bits_per_character"])
    return None


def _best(step: int, loss: float, bits_per_character: float) -> dict[str, float]:
    return {"step": step, "loss": loss, "bits_per_character": bits_per_character}


def _open_tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise RunError(
            "TensorBoard is not installed; install it with: pip install 'textwright[report]'"
        ) from None
    return SummaryWriter(folder)


def _plain(text: str) -> str:
    """Line breaks made visible."""
    return text.replace("\n", "⏎")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
