"""Corpus + config → run folder, as a stream of events.

The trainer knows no files and the run folder knows no torch; this module stands between them. Each
piece of a run that exists already is taken up, so resuming is the same way walked again.
"""

from __future__ import annotations

import collections.abc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import torch

from textwright import __version__
from textwright.compute import processes
from textwright.compute.device import choose_device, choose_dtype, set_threads
from textwright.config import Config
from textwright.corpus import Corpus
from textwright.errors import ConfigError, GenerationError, RunError, TrainingError
from textwright.evaluation.scores import evaluate
from textwright.models import LanguageModel, TorchBackend
from textwright.models.lora import trained
from textwright.models.pretrained import begin, find_again
from textwright.report.loss_curve import draw_loss_curve, write_model_card
from textwright.run import SAMPLE_MARK, Arrays, Checkpoint, Run
from textwright.run.origin import Origin, choose_config, resumed
from textwright.tokenizer import Tokenizer
from textwright.training.dataset import choose_layout, cut
from textwright.training.preparation import OnProgress, prepare_run, record_corpus
from textwright.training.trainer import Evaluation, Finished, Progress, Snapshot, Step, Trainer
from textwright.writing.generator import Generator, TextStream

ROLES = ("sources", "valid", "test")


@dataclass(frozen=True)
class Ready:
    """All is prepared; training begins, or goes on from what an earlier session reached."""

    run: Run
    progress: Progress
    epoch: float
    total_steps: int
    parameters: int
    trained: int  # of the parameters; fewer where adapters are
    documents: int
    held_out: int
    tokens: int
    device: str
    dtype: str
    threads: int


@dataclass(frozen=True)
class Preview:
    """A text that the model wrote at an evaluation."""

    step: int
    epoch: float
    text: str


TrainingEvent = Ready | Step | Evaluation | Preview | Finished
Events = collections.abc.Generator[TrainingEvent]


def train_run(
    sources: str | Path | Sequence[str | Path],
    out: Path,
    config: Config | None = None,
    *,
    valid: str | Path | Sequence[str | Path] = (),
    test: str | Path | Sequence[str | Path] = (),
    init_from: Origin | None = None,
    private: bool = False,
    resume: bool = False,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> Events:
    """Train a run in the folder `out`, yielding every event; on_progress hears of the preparation.

    config: None is the defaults, or when resuming the run's own, of which only how long and how to
    train, and how to write, may change. init_from: trained weights to begin from, with their
    tokenizer; None is those that the config names, if any. Closing the iterator early saves a
    checkpoint at the last whole step; `resume` goes on from the newest. Raises a TextwrightError
    with a sentence where something is wrong.
    """
    sources, valid, test = _listed(sources), _listed(valid), _listed(test)
    config = config or choose_config(resume=out if resume else None, init_from=init_from)
    if init_from is not None:
        config = config.beginning_from(init_from.record())
    checkpoint = None
    if resume and (out / "config.toml").exists():
        run = Run.load(out)
        config = resumed(run.config, config)
        checkpoint = run.last_checkpoint()
        if checkpoint is None and run.has("model.safetensors"):
            raise RunError(
                f"{out} has weights, but no checkpoint to go on from; begin a new run from them "
                f"with --from {out} and another --out."
            )
        sources, valid, test = _recorded(run, sources, valid, test)
    elif resume and not sources:
        raise RunError(f"No run at {out} to resume; name the corpus to begin one.")
    else:  # also where --resume finds that the first try was killed before there was a run
        run = None
        Run.check_free(out)
    if config.model.init_from and not (init_from or checkpoint):
        init_from = find_again(config.model.init_from)
    _check_begins(config, init_from is not None or checkpoint is not None)
    device = processes.start(choose_device(config.train.device))
    dtype = choose_dtype(config.train.dtype, device)
    threads = set_threads(config.train.threads)

    symbols = config.tokenizer.kind == "symbols"
    corpus = Corpus(sources, config.corpus, valid=valid, test=test, whole_symbols=symbols)
    corpus.scan(lambda *done: on_progress("Reading the corpus", *done))
    if run is None:
        run = Run.create(out, config) if processes.leads() else Run(out, config)
    run.config = config
    record_corpus(run, corpus, dict(zip(ROLES, (sources, valid, test), strict=True)), private)
    prepared = prepare_run(run, corpus, init_from, on_progress)
    tokenizer, held_out = prepared.tokenizer, prepared.held_out

    config = choose_layout(config, prepared.train)
    if processes.leads():
        run.write_config(config)
    torch.manual_seed(config.train.seed)
    with _telling_full_memory():
        model = begin(run, config, tokenizer, init_from).to(device)
    layout = cut(prepared.train, config.data, config.train.batch_size, config.train.seed)
    row_length = config.data.row_length
    trainer = Trainer(
        model,
        layout,
        config.train,
        lambda: evaluate(model, held_out, row_length=row_length, dtype=dtype),
        dtype,
        evaluate_first=config.model.init_from is not None,
    )
    if checkpoint is not None:
        trainer.restore(_to_snapshot(checkpoint))
    else:
        trainer.fit_memory()
    _preview_stream(run, model, tokenizer)  # refuses sampling options that do not suit the model
    if checkpoint is None:
        _save(run, trainer)  # so that --from is not forgotten by --resume
    if resume and processes.leads():
        run.rewind(trainer.progress.step, trainer.progress.evaluated)
    ready = Ready(
        run,
        trainer.progress,
        trainer.epoch,
        trainer.total_steps,
        sum(p.numel() for p in model.parameters()),
        sum(p.numel() for p in trained(model).values()),
        len(prepared.train),
        len(held_out.rows),
        prepared.train.targets,
        str(device),
        str(dtype).removeprefix("torch."),
        threads,
    )
    try:
        with _telling_full_memory():
            yield from _train(ready, trainer, model, tokenizer)
    finally:
        processes.stop()


def _train(ready: Ready, trainer: Trainer, model: LanguageModel, tokenizer: Tokenizer) -> Events:
    """The trainer's events, each with all it brings kept in the run folder before it is passed on,
    so that whoever stops at it loses nothing."""
    run = ready.run
    every = run.config.train.checkpoint_every
    saved = trainer.progress.step
    for event in chain([ready], trainer.run()):
        news: list[TrainingEvent] = [event]
        if processes.leads():
            _note(run, event)
        if processes.leads() and isinstance(event, Evaluation):
            if event.best:
                run.keep_weights(_to_arrays(dict(trained(model))))
            text = _preview(run, model, tokenizer)
            run.append("samples.md", f"{SAMPLE_MARK}{event.step}\n\n{text}\n\n")
            news.append(Preview(event.step, event.epoch, text))
        due = isinstance(event, Step) and every and event.step % every == 0
        if due or isinstance(event, Evaluation):
            saved = _save(run, trainer)
        closed = False
        try:
            yield from news
        except GeneratorExit:
            closed = True
        # Processes may be told to stop at different steps; all of them stop at the first.
        if processes.any_says(closed):
            if trainer.progress.step > saved:
                _save(run, trainer)
            return
    if processes.leads():
        draw_loss_curve(run)
        write_model_card(run)


def _note(run: Run, event: Ready | Step | Evaluation | Finished) -> None:
    if isinstance(event, Finished):
        return
    if isinstance(event, Ready):
        # What `auto` came to may be another thing each time that a run is taken up.
        known: dict[str, object] = {
            "step": event.progress.step,
            "epoch": event.epoch,
            "device": event.device,
            "dtype": event.dtype,
            "threads": event.threads,
            "processes": processes.rank_and_world()[1],
            "textwright": __version__,
            "torch": torch.__version__,
        }
    else:
        known = asdict(event)
    record = {"event": type(event).__name__.lower(), **known}
    run.append("metrics.jsonl", json.dumps(record) + "\n")


def _save(run: Run, trainer: Trainer) -> int:
    snapshot = trainer.snapshot()
    step = trainer.progress.step
    if processes.leads():
        weights, tensors = _to_arrays(snapshot.weights), _to_arrays(snapshot.tensors)
        checkpoint = Checkpoint(step, snapshot.progress, weights, tensors)
        run.keep_checkpoint(checkpoint, trainer.progress.best_step)
    return step


def _preview(run: Run, model: LanguageModel, tokenizer: Tokenizer) -> str:
    """A text by the model as it is; where none can be written, the reason: training goes on."""
    stream = _preview_stream(run, model, tokenizer)
    try:
        return "".join(sample.prompt + sample.text for sample in stream.samples())
    except GenerationError as error:
        return str(error)


def _preview_stream(run: Run, model: LanguageModel, tokenizer: Tokenizer) -> TextStream:
    options = run.config.train
    generator = Generator(TorchBackend(model), tokenizer)
    return generator.stream([options.sample_prompt], run.config.sample, seed=options.seed)


@contextmanager
def _telling_full_memory() -> Iterator[None]:
    """An accelerator's memory may also be full outside a step, which the trainer parts."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "The device's memory ran out; what was saved before is intact. Try a smaller model, a "
            "shorter data.context_length or --set train.device=cpu."
        ) from error


def _check_begins(config: Config, has_weights: bool) -> None:
    """Raises where training needs weights to begin from and has none."""
    if not has_weights:
        config.tokenizer.treatment()
    if config.train.lora_rank and config.model.init_from is None:
        raise ConfigError(
            "train.lora_rank adapts weights that were trained before; name them with --from."
        )


def _listed(names: str | Path | Sequence[str | Path]) -> list[str]:
    return [str(names)] if isinstance(names, str | Path) else [str(name) for name in names]


def _recorded(run: Run, *named: list[str]) -> Sequence[list[str]]:
    """Sources, validation and test files, each as named now, or else as the run was begun with."""
    if not run.has("corpus.json"):
        return named
    kept = run.corpus()["named"]
    return [now or kept[role] for role, now in zip(ROLES, named, strict=True)]


def _to_arrays(tensors: dict[str, torch.Tensor]) -> Arrays:
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}


def _to_snapshot(checkpoint: Checkpoint) -> Snapshot:
    def tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    weights, rest = tensors(checkpoint.weights), tensors(checkpoint.tensors)
    return Snapshot(checkpoint.progress, weights, rest)
