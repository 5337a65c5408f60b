"""Where a training starts: a new run, one that continues, or one that begins from weights.

What is wrong with the request is found here, before anything is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from textwright.compute import processes
from textwright.config import Config
from textwright.corpus import Corpus
from textwright.errors import ConfigError, RunError
from textwright.models.pretrained import find_again
from textwright.progress import OnStage
from textwright.run import WEIGHTS, Checkpoint, Run
from textwright.run.lock import locked
from textwright.run.origin import Origin, changes, resumed
from textwright.training.preparation import record_corpus, recorded_names
from textwright.training.recipe import choose_recipe


@dataclass(frozen=True)
class Start:
    """Where a training starts. named: the files of each role · origin: weights to begin from ·
    checkpoint: what to continue from."""

    config: Config
    named: dict[str, list[str]]
    origin: Origin | None
    run: Run | None = None
    checkpoint: Checkpoint | None = None
    changed: list[str] = field(default_factory=list)


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """The folder's lock, held by the first process for all of a training."""
    error: RunError | None = None
    with ExitStack() as stack:
        try:
            if processes.leads():
                stack.enter_context(locked(out))
                Run.settle(out)
        except RunError as refused:
            error = refused
        if processes.agree(float(error is not None)):
            raise error or RunError(f"{out} is not free for training; see the first process.")
        yield


def choose_start(
    out: Path, config: Config, named: dict[str, list[str]], origin: Origin | None, resume: bool
) -> Start:
    """Decide between a new run, one that continues, and one whose first attempt left nothing."""
    if origin is not None:
        config = config.beginning_from(origin.record())
    if config.model.counted and (config.origin or (resume and (out / "config.toml").exists())):
        flag = "--from" if config.origin else "--resume"
        raise ConfigError(
            f"An n-gram model is counted in one pass: leave out {flag}, and name another --out if "
            "there is a run already."
        )
    start = Start(config, named, origin)
    if resume and (out / "config.toml").exists():
        start = _continue(Run.load(out), start)
    elif resume and not named["sources"]:
        raise RunError(f"No run at {out} to resume; name the corpus to begin one.")
    else:  # with --resume, the first attempt was killed before there was a run
        Run.check_free(out)
    config = start.config
    if config.origin and not (start.origin or start.checkpoint):
        start = replace(start, origin=find_again(config.origin))
    if start.origin is None and start.checkpoint is None:
        config.tokenizer.treatment()  # raises if the tokenizer has to come with weights
    if config.train.lora_rank and config.origin is None:
        raise ConfigError(
            "train.lora_rank adapts weights that were trained before; name them with --from."
        )
    return start


def _continue(run: Run, start: Start) -> Start:
    config = resumed(run.config, start.config)
    checkpoint = run.checkpoints.newest()
    if checkpoint is None and run.has(WEIGHTS):
        raise RunError(
            f"{run.path} has weights, but no checkpoint to continue from; begin a new run from "
            f"them with --from {run.path} and another --out."
        )
    named = recorded_names(run, start.named)
    changed = changes(run.config, config)
    return replace(
        start, config=config, named=named, run=run, checkpoint=checkpoint, changed=changed
    )


def open_run(
    out: Path, start: Start, private: bool, on_progress: OnStage
) -> tuple[Run, Corpus, list[str]]:
    """Read the corpus, choose what was left open, then make or open the folder. An unreadable
    corpus leaves no folder. The third value is a line about each choice."""
    config, named = start.config, start.named
    corpus = Corpus(
        named["sources"],
        config.corpus,
        valid=named["valid"],
        test=named["test"],
        whole_symbols=config.tokenizer.kind == "symbols",
        like=start.origin.config.corpus if isinstance(start.origin, Run) else None,
    )
    config = config.model_copy(update={"corpus": corpus.options})
    corpus.scan(lambda *done: on_progress("Reading the corpus", *done))
    choices = [*corpus.choices, *corpus.scan().notes]
    if start.run is None:
        # That of the first process, if they run on machines that differ.
        config, choice = processes.gather(choose_recipe(config, corpus))[0]
        choices += [choice] if choice else []
    run = start.run or (Run.create(out, config) if processes.leads() else Run(out, config))
    run.config = config
    record_corpus(run, corpus, named, private)
    return run, corpus, choices
