"""Progress of long work, and of a training as it goes."""

from __future__ import annotations

import contextlib
import os
import signal
import textwrap
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from textwright.cli.display.console import err
from textwright.errors import RunError
from textwright.wording import clock, counted

if TYPE_CHECKING:
    from textwright.run import Run
    from textwright.training.events import (
        Copied,
        Evaluation,
        Finished,
        Preview,
        Ready,
        Step,
        TrainingEvent,
    )

PLAIN_INTERVAL = 10.0  # seconds of training between progress lines where there is no terminal
RECENT_STEPS = 50  # over which loss and speed are shown


class Progression(AbstractContextManager["Progression"]):
    """A bar with the current stage and how far it is; plain lines without a terminal."""

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

    def show(self, stage: str, done: float, total: float, note: str = "") -> None:
        """Begin a stage, or continue it. A total of 0 means that it is not known."""
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
    """Shows a training as it goes: preparation, steps, evaluations, previews, the end.

    On Ctrl-C, SIGTERM or SIGHUP the current step is finished and a checkpoint saved; a second
    Ctrl-C ends at once.
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
        # Scores as `train --json` prints them; before: those of the weights it began from.
        self.best: dict[str, float] | None = None
        self.before: dict[str, float] | None = None
        self.micro_batches = 1
        self.tokens = 0

    def __enter__(self) -> Self:
        self.progression.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.progression.__exit__()
        if self.board:
            self.board.close()

    def follow(self, events: Generator[TrainingEvent]) -> dict[str, Any]:
        """Show events to the end, or until a signal → the summary that `train --json` prints."""
        from textwright.training.events import Copied, Evaluation, Finished, Preview, Ready, Step

        self.ready = self.finished = None
        with self._finishing_the_step(), closing(events):
            for event in events:
                match event:
                    case Ready():
                        self._ready(event)
                    case Step():
                        self._step(event)
                    case Evaluation():
                        self._evaluation(event)
                    case Preview():
                        self._preview(event)
                    case Copied():
                        self._copied(event)
                    case Finished():
                        self._finished(event)
                if self.stopping:
                    break
        summary = self._summary()
        if self.interrupted and self.counts:
            err.print(
                "Stopped before all was counted, which --resume cannot continue: name another "
                f"--out, or delete {summary['run']}."
            )
        elif self.interrupted:
            err.print(f"Stopped at step {summary['steps']:,}; --resume continues from there.")
        return summary

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C or a signal, in this process or another one, ended the training early."""
        return self.finished is None

    @property
    def counts(self) -> bool:
        """Whether the model is counted, not trained by steps."""
        return self.ready is not None and self.ready.run.config.model.counted

    def _ready(self, ready: Ready) -> None:
        self.ready, self.best = ready, None
        self.recent.clear()
        done = ready.progress
        self.tokens, self.printed = done.tokens, done.seconds
        if done.best_step >= 0:
            self.best = _best(done.best_step, done.best_loss, done.best_bits_per_character)
        self.before = _before(ready.run)
        self.micro_batches = ready.run.config.train.accumulate
        if not self.quiet:
            for change in ready.changed:
                err.print(f"Changed for this run: {change}")
            for choice in ready.choices:
                err.print(choice)
            at = f" from step {done.step:,}" if done.step else ""
            adapts = ready.trained < ready.parameters
            weights = counted(ready.parameters, "parameter")
            weights += f", {ready.trained:,} of them trained" if adapts else ""
            corpus = (
                f"{counted(ready.documents, 'document')} ({counted(ready.tokens, 'token')}) to "
                f"train on, {counted(ready.held_out, 'held-out document')} to score. "
            )
            if self.counts:
                err.print(
                    f"{corpus}\nCounting n-grams of up to {counted(ready.total_steps, 'token')}, "
                    f"into {ready.run.path}"
                )
                return
            budget = ready.run.config.train.time_budget
            end = f"for {clock(budget)}" if budget else f"to step {ready.total_steps:,}"
            err.print(
                f"{corpus}{weights}.\n"
                f"Training{at} {end} at most, on {ready.device} "
                f"({ready.dtype}, {counted(ready.threads, 'thread')}), into {ready.run.path}"
            )
            if done.step >= ready.total_steps or (budget and done.seconds >= budget):
                err.print(
                    "Nothing is left to do: to go on, give it more time (--time-budget 20m), steps "
                    "(--set train.max_steps=…) or epochs (--set train.epochs=…)."
                )
        self._report_micro_batches(done.micro_batches)

    def _step(self, step: Step) -> None:
        self.recent.append(step)
        self.tokens += step.tokens
        if self.board:
            self.board.add_scalar("loss/training", step.loss, step.step)
            self.board.add_scalar("learning rate", step.learning_rate, step.step)
        assert self.ready
        text = f"loss {self._loss():.3f}  {self._speed():,.0f} tokens/s  {self._left()} left"
        at, done, total = f"step {step.step:,}", float(step.step), float(self.ready.total_steps)
        budget = self.ready.run.config.train.time_budget
        if budget and step.seconds / budget > done / total:  # the time will be up before
            done, total = step.seconds, budget
        else:
            at += f"/{self.ready.total_steps:,}"
        self._report_micro_batches(step.micro_batches)
        self.progression.plain = False  # the lines below take over
        self.progression.show(at, done, total, text)
        if not err.is_terminal and not self.quiet and step.seconds - self.printed > PLAIN_INTERVAL:
            self.printed = step.seconds
            err.print(f"{at}  {text}")

    def _report_micro_batches(self, count: int) -> None:
        if count > self.micro_batches and self.ready and not self.quiet:
            rows = self.ready.run.config.train.batch_size
            err.print(
                f"Memory does not hold a batch of {rows} rows at once: it is split into {count} "
                "micro-batches, for the same step."
            )
        self.micro_batches = max(count, self.micro_batches)

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
            at = f"epoch {evaluation.epoch:.2f}  step {evaluation.step:,}  {training}"
            if self.counts:
                at = f"n-grams of up to {counted(evaluation.step, 'token')}"
            err.print(
                f"{at}  held out {scores.loss:.3f} nats a token, "
                f"{scores.bits_per_character:.3f} bits a character"
                + ("  best so far" if evaluation.best else "")
            )

    def _preview(self, preview: Preview) -> None:
        if self.board:
            self.board.add_text("sample", preview.text, preview.step)
        if not self.quiet:
            for line in preview.text.splitlines() or [""]:
                err.print(textwrap.fill(line, 96, initial_indent="  │ ", subsequent_indent="  │ "))

    def _copied(self, copied: Copied) -> None:
        found = copied.copying
        alone = "" if found.neural is None else f" ({found.neural:.0%} without the counts)"
        if not self.quiet:
            err.print(
                f"Of the sequences of {found.length} tokens that it writes, {found.written:.0%} "
                f"are new{alone}; of held-out text, {found.held_out:.0%}."
            )

    def _finished(self, finished: Finished) -> None:
        self.finished = finished
        reasons = {
            "epochs": "All epochs are done",
            "max_steps": "The last step is done",
            "time_budget": "The time is up",
            "early_stopping": "Held-out loss stopped improving",
            "counted": "All lengths of n-grams are counted",
        }
        if not self.quiet and self.ready and self.best:
            path = self.ready.run.path
            before = dict.fromkeys(self.best, "")
            if self.before:
                before = {key: f"{value:.3f} → " for key, value in self.before.items()}
            err.print(
                f"{reasons[finished.reason]} ({clock(finished.seconds)} of "
                f"{'counting' if self.counts else 'training'}). Best: "
                f"{before['loss']}{self.best['loss']:.3f} nats a token, "
                f"{before['bits_per_character']}{self.best['bits_per_character']:.3f} bits a "
                f"character {'with n-grams of up to' if self.counts else 'at step'} "
                f"{self.best['step']:,}{' tokens' if self.counts else ''}.\n"
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
        return clock(max(0.0, min(left, budget - last.seconds)) if budget else left)

    @contextlib.contextmanager
    def _finishing_the_step(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in _ending_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: object) -> None:
        # The others may come twice and mean once: `timeout` sends them to a process and its group.
        if self.ready is None or (self.stopping and number == signal.SIGINT):
            raise KeyboardInterrupt
        if not self.stopping:
            self.stopping = True
            with contextlib.suppress(OSError):  # the terminal may have been closed
                err.print("Stopping after this step …")


def _ending_signals() -> list[int]:
    """The signals that end a training in order: Ctrl-C, and SIGTERM and SIGHUP where they would
    kill. Of several processes these kill one: torchrun sends SIGTERM where another has died, and a
    step without that one could not be finished."""
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    found = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]  # Windows lacks one
    kills = [n for n in found if n is not None and signal.getsignal(n) == signal.SIG_DFL]
    return [signal.SIGINT, *(kills if alone else [])]


def _before(run: Run) -> dict[str, float] | None:
    """Scores of the weights that a run began from, if it began from any."""
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
    try:
        return SummaryWriter(folder)
    except OSError as error:
        raise RunError(f"Cannot write TensorBoard logs to {folder}: {error.strerror}.") from None
