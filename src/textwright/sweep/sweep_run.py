"""The sweep of a run: against what it holds out, and saved in its config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from textwright.errors import CorpusError
from textwright.evaluation.held_out import HeldOutText, read_new_text
from textwright.evaluation.kept import NOTHING_KEPT, KeptResults, device_named
from textwright.evaluation.predictors import open_predictor
from textwright.progress import OnStage, silent
from textwright.run import Run
from textwright.run.lock import locked
from textwright.sweep.judges import CountsJudge, Judge, RunJudge
from textwright.sweep.real_texts import choose_real_texts
from textwright.sweep.sweep import Setting, Sweep, sweep
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions
from textwright.writing.sequences import KnownSequences

# What a setting leaves as it is; all else changes the odds of the tokens, and was off.
KEPT = {"logit_bias", "forbid", "min_new_tokens", "max_new_tokens", "stop", "no_copy"}


def sweep_run(
    run: Run,
    settings: Sequence[Setting],
    *,
    judge: Run | None = None,
    sources: Sequence[str | Path] = (),
    texts: int = 100,
    max_tokens: int = 0,
    known_sequences: Callable[[int], KnownSequences] | None = None,
    seed: int = 0,
    device: str = "auto",
    on_progress: OnStage = silent,
    kept: KeptResults = NOTHING_KEPT,
) -> Sweep:
    """Sweep the settings over a run, beside documents that it has not read.

    judge: another run; None for counts of held-out documents. sources: real text in place of what
    the run holds out. texts: their number for each setting, if there are as many real ones.
    max_tokens: of a text; 0 for the run's own. known_sequences: as for `sweep`. kept: where
    finished parts are. Raises a TextwrightError where there is no text to compare with, or the
    judge would not be fair.
    """
    on_progress("Reading real text", 0, 0)
    held_out = _held_out(run, judge, sources)
    max_tokens = max_tokens or run.config.sample.max_new_tokens
    kept = kept.about(run).given(
        text=held_out.fingerprint,
        texts=[texts, max_tokens, seed],
        device=device_named(device),
    )

    def compute() -> Sweep:
        real = choose_real_texts(held_out.documents, run.tokenizer, texts, max_tokens, seed)
        chosen: Judge
        if judge is None:
            chosen = CountsJudge(real, run.tokenizer)
        else:
            chosen = RunJudge(judge, run, held_out, device)
        return sweep(
            Generator(open_predictor(run, device).backend(), run.tokenizer),
            real,
            chosen,
            settings,
            known_sequences=known_sequences,
            seed=seed,
            on_progress=on_progress,
            kept=kept,
        )

    judged = kept.about(judge).given(judge=str(judge.path)) if judge else kept
    return judged.recall(
        Sweep,
        compute,
        part="sweep",
        settings=[setting.values() for setting in settings],
        copying=known_sequences is not None,
    )


def save_setting(run: Run, setting: Setting) -> None:
    """Make a setting the run's own: options that change the odds of tokens in another way are
    turned off, as they were in the sweep. Raises RunError if the run is being trained or damaged.
    """
    with locked(run.path):
        config = Run.load(run.path).config
        kept = config.sample.model_dump(include=KEPT)
        sample = SamplingOptions(**{**SamplingOptions().model_dump(), **kept, **setting.values()})
        run.write_config(config.model_copy(update={"sample": sample}))


def _held_out(run: Run, judge: Run | None, sources: Sequence[str | Path]) -> HeldOutText:
    """All that the run holds out, for validation and test, or the sources."""
    if sources:
        return read_new_text([run, judge] if judge else [run], sources)
    documents = [*run.held_out("valid"), *run.held_out("test")]
    if not documents:
        raise CorpusError(f"{run.path} holds no documents out; name real text with --corpus.")
    return HeldOutText(documents, f"what {run.path} holds out")
