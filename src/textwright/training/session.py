"""Corpus + config → run folder, as a stream of events.

The trainer knows no files and the run folder knows no torch; this module stands between them. What
a run folder already holds is taken up, so a resumed training walks the same way again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

import torch

from textwright import __version__, models
from textwright.compute import processes
from textwright.compute.device import choose_device, choose_dtype, set_threads
from textwright.compute.memory import memory_errors
from textwright.config import Config
from textwright.errors import ConfigError, GenerationError, RunError
from textwright.evaluation.copying import measure_copying
from textwright.evaluation.predictors import (
    CountsPredictor,
    MixedPredictor,
    NeuralPredictor,
    Predictor,
    open_predictor,
)
from textwright.evaluation.scores import evaluate
from textwright.families import NGramOptions
from textwright.freed import keep_freed_memory
from textwright.models import LanguageModel
from textwright.models.lora import trained
from textwright.models.pretrained import begin
from textwright.progress import OnStage, silent
from textwright.report.loss_curve import draw_loss_curve
from textwright.report.model_card import write_model_card
from textwright.run import SAMPLE_MARK, WEIGHTS, Checkpoint, Run
from textwright.run.origin import Origin, choose_config
from textwright.tokenizer import Tokenizer
from textwright.training.counted_embedding import embed_by_neighbors
from textwright.training.counting import count_orders
from textwright.training.dataset import choose_layout, cut
from textwright.training.events import (
    Copied,
    Evaluation,
    Finished,
    Preview,
    Progress,
    Ready,
    Step,
    TrainingEvent,
    TrainingEvents,
)
from textwright.training.opening import Opener
from textwright.training.preparation import Prepared, prepare_run
from textwright.training.sampled_softmax import TokenSampler
from textwright.training.splitting import Splitter
from textwright.training.start import Start, alone_in, choose_start, open_run
from textwright.training.trainer import Change, Trainer, reporting_full_memory, to_arrays
from textwright.writing.generator import Generator as TextGenerator
from textwright.writing.stream import TextStream

Sources = str | Path | Sequence[str | Path]

ROLES = ("sources", "valid", "test")


def train_run(
    sources: Sources,
    out: Path,
    config: Config | None = None,
    *,
    valid: Sources = (),
    test: Sources = (),
    init_from: Origin | None = None,
    private: bool = False,
    resume: bool = False,
    on_progress: OnStage = silent,
) -> TrainingEvents:
    """Train a run in the folder `out`, yielding every event.

    sources, valid, test: the corpus, and held-out documents if they are files of their own; when
    resuming, those of the run if they are left out.
    config: None is the default or, when resuming, the run's own, in which only how long and how to
    train, and how to write, may change.
    init_from: trained weights to begin from, with their tokenizer; None is those that the config
    names, if any.
    private: keep no held-out documents in the folder.
    resume: continue from the newest checkpoint.
    on_progress: called with (stage, done, total) during the preparation.

    Closing the iterator early saves a checkpoint at the last whole step. Raises a TextwrightError,
    one sentence, if something is wrong.
    """
    named = dict(zip(ROLES, map(_listed, (sources, valid, test)), strict=True))
    config = config or choose_config(resume=out if resume else None, init_from=init_from)
    device = processes.start(choose_device(config.train.device))
    try:
        with alone_in(out):
            start = choose_start(out, config, named, init_from, resume)
            dtype = choose_dtype(config.train.dtype, device)
            threads = set_threads(config.train.threads)
            keep_freed_memory()
            run, corpus, choices = open_run(out, start, private, on_progress)
            prepared = prepare_run(run, corpus, start.origin, on_progress)
            if run.config.model.counted:
                yield from _count(run, prepared, threads, choices, on_progress)
                return
            with reporting_full_memory():
                trainer, predictor = _build_trainer(
                    run, start, prepared, device, dtype, on_progress
                )
                _take_up(run, start, trainer, predictor, prepared)
                start = replace(start, checkpoint=None)  # which is as large as the model
                ready = Ready(
                    run,
                    trainer.progress,
                    epoch=trainer.epoch,
                    total_steps=trainer.total_steps,
                    parameters=sum(p.numel() for p in trainer.model.parameters()),
                    trained=sum(p.numel() for p in trained(trainer.model).values()),
                    documents=len(prepared.train),
                    held_out=len(prepared.held_out.rows),
                    tokens=prepared.train.targets,
                    device=str(device),
                    dtype=str(dtype).removeprefix("torch."),
                    threads=threads,
                    changed=start.changed,
                    choices=choices,
                )
                yield from _train(ready, trainer, predictor, prepared)
    finally:
        processes.stop()


def _build_trainer(
    run: Run,
    start: Start,
    prepared: Prepared,
    device: torch.device,
    dtype: torch.dtype,
    on_progress: OnStage,
) -> tuple[Trainer, Predictor]:
    """What trains the model, fresh or with the weights it begins from, and what is scored."""
    config = run.config = choose_layout(run.config, prepared.train)
    if config.train.split_tokens and not config.splittable:
        raise ConfigError(
            f"The documents are read as {config.data.layout}, whose tokens train.split_tokens does "
            "not split: leave it out, or set data.layout=windows."
        )
    torch.manual_seed(config.train.seed)
    model = begin(run, config, prepared.tokenizer, start.origin)
    if config.train.counted_embedding and start.checkpoint is None and start.origin is None:
        on_progress("Counting the neighbors of tokens", 0, 0)
        embed_by_neighbors(model, prepared.train, config.train.seed)
    model = model.to(device)
    row_length = config.data.row_length
    counts = prepared.counts
    predictor: Predictor = NeuralPredictor(model)
    if counts is not None:
        predictor = MixedPredictor(model, counts, fits=True)
    trainer = Trainer(
        model,
        cut(prepared.train, config.data, config.train.batch_size, config.train.seed),
        config.train,
        lambda: evaluate(predictor.score, prepared.held_out, row_length=row_length),
        dtype,
        evaluate_first=config.origin is not None,
        changes=_changes(config, prepared),
        sampler=TokenSampler.of(prepared.train, len(model.output_weight), config.train),
    )
    return trainer, predictor


def _changes(config: Config, prepared: Prepared) -> list[Change]:
    """What is changed in each batch."""
    options, tokenizer = config.train, prepared.tokenizer
    changes: list[Change] = []
    if options.split_tokens:
        changes.append(Splitter(tokenizer.halves, options.split_tokens, options.seed).split)
    if opener := Opener.wanted_by(config, prepared.train, tokenizer):
        changes.append(opener.open)
    return changes


def _take_up(
    run: Run, start: Start, trainer: Trainer, predictor: Predictor, prepared: Prepared
) -> None:
    """Bring trainer and folder to the same step: the checkpoint's, or the beginning."""
    if start.checkpoint is not None:
        _restore(run, trainer, start.checkpoint)
    else:
        trainer.fit_memory()
    _preview_stream(run, predictor, prepared.tokenizer)  # refuses sampling options that do not fit
    if processes.leads():
        run.write_config(run.config)  # not before, so that a refusal leaves the run as it was
    if start.checkpoint is None:
        _save(run, trainer)  # so that a resumed run still has the weights it began from
    if start.run is not None and processes.leads():
        run.record_checksums()
        run.rewind(trainer.progress.step, trainer.progress.evaluated)
        run.restore_best(trainer.progress.best_step)
        _restore_mixture(run, prepared)


def _restore_mixture(run: Run, prepared: Prepared) -> None:
    """Fit the mixture of the best weights and the counts; what a killed training left may be that
    of another step."""
    if prepared.counts is not None and run.has(WEIGHTS):
        mixed = MixedPredictor(models.load(run, "cpu"), prepared.counts, fits=True)
        mixed.score(prepared.held_out.rows)
        run.keep_mixture(mixed.mixture)


def _restore(run: Run, trainer: Trainer, checkpoint: Checkpoint) -> None:
    try:
        with memory_errors():
            trainer.restore(checkpoint)
    except (RuntimeError, TypeError, KeyError) as error:
        reason = str(error).splitlines()[-1].strip().rstrip(".")
        raise RunError(
            f"The checkpoint of step {checkpoint.step:,} in {run.path} does not fit its "
            f"config.toml ({reason}); correct that file, or restore it from a copy."
        ) from None


def _train(
    ready: Ready, trainer: Trainer, predictor: Predictor, prepared: Prepared
) -> TrainingEvents:
    """The trainer's events. Everything that an event brings is kept in the run folder before it is
    passed on, so nothing is lost if the iteration stops there."""
    run = ready.run
    every = run.config.train.checkpoint_every
    saved = trainer.progress.step
    for event in chain([ready], trainer.run()):
        if isinstance(event, Finished) and processes.leads():
            yield from _copied(run, prepared, event.step)
        news: list[TrainingEvent] = [event]
        if processes.leads():
            _note(run, event)
            if isinstance(event, Evaluation):
                news.append(
                    _keep_evaluation(run, event, trainer.model, predictor, prepared.tokenizer)
                )
        due = isinstance(event, Step) and every and event.step % every == 0
        if due or isinstance(event, Evaluation):
            saved = _save(run, trainer)
        closed = False
        try:
            yield from news
        except GeneratorExit:
            closed = True
        # Processes may be asked to stop at different steps; all of them stop at the first.
        if processes.any_true(closed):
            if trainer.progress.step > saved:
                _save(run, trainer)
            return
    if processes.leads():
        draw_loss_curve(run)
        write_model_card(run)


def _note(run: Run, event: Ready | Step | Evaluation | Finished) -> None:
    """Add an event to metrics.jsonl."""
    if isinstance(event, Finished):
        return
    if isinstance(event, Ready):
        # The machine may be another one each time that a run is resumed.
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
    run.append("metrics.jsonl", json.dumps({"event": event.kind, **known}) + "\n")


def _keep_evaluation(
    run: Run,
    evaluation: Evaluation,
    model: LanguageModel,
    predictor: Predictor,
    tokenizer: Tokenizer,
) -> Preview:
    """Keep the weights if they are the best so far, and a text that they write."""
    if evaluation.best:
        if isinstance(predictor, MixedPredictor):
            run.keep_mixture(predictor.mixture)
        run.keep_weights(to_arrays(trained(model)))
    return _keep_preview(run, evaluation, predictor, tokenizer)


def _copied(run: Run, prepared: Prepared, step: int) -> Iterator[Copied]:
    """How much a run with counts copies; nothing for a run without, or of very short texts."""
    if run.counts is None:
        return
    train = prepared.train
    copying = measure_copying(
        open_predictor(run, "cpu"),
        prepared.tokenizer,
        train.ids,
        train.starts,
        prepared.held_out.rows,
    )
    if copying is None:
        return
    record = {"event": Copied.kind, "step": step, **copying.to_json()}
    run.append("metrics.jsonl", json.dumps(record) + "\n")
    yield Copied(copying)


def _keep_preview(
    run: Run, evaluation: Evaluation, predictor: Predictor, tokenizer: Tokenizer
) -> Preview:
    text = _preview(run, predictor, tokenizer)
    run.append("samples.md", f"{SAMPLE_MARK}{evaluation.step}\n\n{text}\n\n")
    return Preview(evaluation.step, evaluation.epoch, text)


def _count(
    run: Run, prepared: Prepared, threads: int, choices: list[str], on_progress: OnStage
) -> TrainingEvents:
    """Count the n-grams of a run that is nothing else, one length after another."""
    started = time.perf_counter()
    config = run.config
    assert isinstance(config.model, NGramOptions)
    longest, tokenizer = config.model.longest, prepared.tokenizer
    on_progress("Counting", 0, 0)
    orders = count_orders(prepared.train, prepared.held_out, tokenizer.vocab_size, longest)
    event: Ready | Evaluation = Ready(
        run,
        Progress(),
        epoch=0.0,
        total_steps=longest,
        parameters=0,
        trained=0,
        documents=len(prepared.train),
        held_out=len(prepared.held_out.rows),
        tokens=prepared.train.targets,
        device="cpu",
        dtype="float32",
        threads=threads,
        choices=choices,
    )
    if processes.leads():
        _note(run, event)
    yield event
    for model, scores, kept in orders:
        event = Evaluation(model.order, 1.0, scores, kept)
        if processes.leads():
            _note(run, event)
            if kept:
                run.keep_weights(model.arrays())
                preview = _keep_preview(run, event, CountsPredictor(model), tokenizer)
        yield event
    if processes.leads():
        yield preview
        yield from _copied(run, prepared, longest)
        write_model_card(run)
    yield Finished(longest, 1.0, "counted", time.perf_counter() - started)


def _save(run: Run, trainer: Trainer) -> int:
    """Write a checkpoint → its step."""
    checkpoint = trainer.snapshot()
    if processes.leads():
        run.sync()
        run.checkpoints.keep(checkpoint)
    return checkpoint.step


def _preview(run: Run, predictor: Predictor, tokenizer: Tokenizer) -> str:
    """A text by the model as it is. If none can be written, the reason: training continues."""
    stream = _preview_stream(run, predictor, tokenizer)
    try:
        [sample] = stream.samples()
    except GenerationError as error:
        return str(error)
    ended = "\n(No token was left to choose.)" if sample.finish_reason == "no_token_left" else ""
    return sample.prompt + sample.text + ended


def _preview_stream(run: Run, predictor: Predictor, tokenizer: Tokenizer) -> TextStream:
    options = run.config.train
    generator = TextGenerator(predictor.backend(), tokenizer)
    # A preview shows what the model writes by itself.
    sample = run.config.sample.model_copy(update={"no_copy": 0})
    return generator.stream([options.sample_prompt], sample, seed=options.seed)


def _listed(names: Sources) -> list[str]:
    return [str(names)] if isinstance(names, str | Path) else [str(name) for name in names]
