"""The calls a newcomer needs: `train` a run, `load` it, write with it, `compare` several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textwright.backends.counts import with_counts
from textwright.config import Config
from textwright.errors import ConfigError
from textwright.families import implementation
from textwright.progress import OnStage, silent
from textwright.run import Run
from textwright.run.origin import Origin, choose_config
from textwright.tokenizer import Tokenizer
from textwright.writing.backend import Backend
from textwright.writing.form import Form
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import (
    EarlyStopping,
    SamplingOptions,
    Token,
    sampling_options,
)
from textwright.writing.sequences import KnownSequences
from textwright.writing.stream import Sample

if TYPE_CHECKING:
    from textwright.comparison.comparison import Comparison
    from textwright.comparison.subjects import Writing
    from textwright.corpus import CorpusOptions
    from textwright.training.events import TrainingEvent

Source = str | Path


class Writer:
    """A trained model that writes. Needs no torch on the processor.

    Sampling options are those of the run's `[sample]` table where they are None. `options` explains
    them. Raises GenerationError where a value cannot be used.
    """

    def __init__(self, run: Run, device: str = "cpu", corpus: Sequence[Source] = ()):
        self.run = run
        self.tokenizer: Tokenizer = run.tokenizer
        self.generator = Generator(
            _backend(run, device), self.tokenizer, known_sequences=self.known_sequences
        )
        self._corpus = corpus
        self._known: dict[int, KnownSequences] = {}

    def stream(
        self,
        prompt: str = "",
        *,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        typical_p: float | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        no_repeat_ngram: int | None = None,
        no_copy: int | None = None,
        logit_bias: dict[Token, float] | None = None,
        forbid: list[Token] | None = None,
        min_new_tokens: int | None = None,
        max_new_tokens: int | None = None,
        stop: list[str] | None = None,
        beams: int | None = None,
        length_penalty: float | None = None,
        early_stopping: EarlyStopping | None = None,
    ) -> Iterator[str]:
        """One text, piece by piece, as it is written.

        prompt: what the text goes on from; it is not repeated.
        seed: the same seed gives the same text.
        Sampling options: see `options`.
        """
        options = self.options(**_sampling(locals()))
        for event in self.generator.stream(prompt, options, seed=seed):
            if event.text:
                yield event.text

    def generate(
        self,
        prompts: str | Sequence[str] = "",
        *,
        num: int = 1,
        seed: int = 0,
        logprobs: bool = False,
        batch_size: int = 32,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        typical_p: float | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        no_repeat_ngram: int | None = None,
        no_copy: int | None = None,
        logit_bias: dict[Token, float] | None = None,
        forbid: list[Token] | None = None,
        min_new_tokens: int | None = None,
        max_new_tokens: int | None = None,
        stop: list[str] | None = None,
        beams: int | None = None,
        length_penalty: float | None = None,
        early_stopping: EarlyStopping | None = None,
    ) -> list[Sample]:
        """Finished texts, in the order of the prompts.

        prompts: what the texts go on from; one prompt may be given by itself.
        num: number of texts for each prompt.
        seed: the same seed gives the same texts.
        logprobs: also give the model's own log-probability of each token, in nats.
        batch_size: number of texts written at the same time.
        Sampling options: see `options`.
        """
        generator = replace(self.generator, batch_size=batch_size)
        options = self.options(**_sampling(locals()))
        return generator.generate(prompts, options, num=num, seed=seed, logprobs=logprobs)

    def fill(
        self,
        given: Mapping[str, str],
        *,
        num: int = 1,
        seed: int = 0,
        batch_size: int = 32,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        typical_p: float | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        no_repeat_ngram: int | None = None,
        no_copy: int | None = None,
        logit_bias: dict[Token, float] | None = None,
        forbid: list[Token] | None = None,
        min_new_tokens: int | None = None,
        max_new_tokens: int | None = None,
        stop: list[str] | None = None,
        beams: int | None = None,
        length_penalty: float | None = None,
        early_stopping: EarlyStopping | None = None,
    ) -> list[dict[str, str | None]]:
        """The fields of documents: the given ones as they are, the others written by the model.

        A field is None where the model did not reach it, or did not end it.

        given: values of some of the fields of the run's template, by name.
        num: number of documents.
        seed: the same seed gives the same documents.
        batch_size: number of documents written at the same time.
        Sampling options: see `options`. Beams cannot be used.
        """
        form = self.form()
        generator = replace(self.generator, batch_size=batch_size)
        options = self.options(**_sampling(locals()))
        stream = generator.fill(form, given, options, num=num, seed=seed)
        return [form.parse(sample.prompt + sample.text) for sample in stream.samples()]

    def known_sequences(
        self,
        length: int,
        on_progress: OnStage = silent,
    ) -> KnownSequences:
        """The sequences of `length` tokens in the training text, which is read for it once.

        `no_copy` calls this at the first text. on_progress: called with stage, count done and
        total. Raises RunError where the corpus is gone or has changed.
        """
        if length not in self._known:
            from textwright.training.recorded import known_sequences

            found = known_sequences(self.run, length, self._corpus, on_progress)
            self._known[length] = found
        return self._known[length]

    def form(self) -> Form:
        """The template that the run was trained with. Raises GenerationError where it has none."""
        return Form(self.run.config.corpus, self.tokenizer)

    def options(
        self,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        typical_p: float | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        no_repeat_ngram: int | None = None,
        no_copy: int | None = None,
        logit_bias: dict[Token, float] | None = None,
        forbid: list[Token] | None = None,
        min_new_tokens: int | None = None,
        max_new_tokens: int | None = None,
        stop: list[str] | None = None,
        beams: int | None = None,
        length_penalty: float | None = None,
        early_stopping: EarlyStopping | None = None,
    ) -> SamplingOptions:
        """The run's own sampling options, with those changed that are given.

        temperature: below 1 is safer, above 1 bolder; 0 always takes the likeliest token.
        top_k: keep only the k likeliest tokens; 0 keeps all.
        top_p: keep only the likeliest tokens that together reach this probability.
        min_p: keep only tokens at least this share as likely as the likeliest.
        typical_p: keep the tokens whose surprise is nearest the average, up to this probability.
        repetition_penalty: above 1, tokens of the prompt and the text become less likely.
        presence_penalty: subtracted from the logit of every token in the text.
        frequency_penalty: subtracted once for each time a token is in the text.
        no_repeat_ngram: no sequence of this many tokens occurs twice; 0 allows all.
        no_copy: never this many tokens in a row as in the training text; 0 allows all.
        logit_bias: numbers added to the logits of tokens, by token (its text or its id).
        forbid: tokens that are never written.
        min_new_tokens: nothing ends a text that has fewer new tokens.
        max_new_tokens: a text ends when it has this many new tokens.
        stop: strings that end the text; they are not part of it.
        beams: follow this many texts side by side and write the best; 1 turns beams off.
        length_penalty: beams rank by score / tokens^this; above 0 favors longer texts.
        early_stopping: when a beam search ends: True, False or "never" (see docs/writing.md).
        """
        kept = self.run.config.sample.model_dump(exclude_unset=True)
        return sampling_options(**{**kept, **_sampling(locals())})


def train(
    sources: Source | Sequence[Source],
    *,
    out: Source,
    preset: str = "",
    config: Config | None = None,
    settings: Sequence[str] = (),
    init_from: Source | Origin | None = None,
    valid: Source | Sequence[Source] = (),
    test: Source | Sequence[Source] = (),
    private: bool = False,
    resume: bool = False,
    on_event: Callable[[TrainingEvent], None] = lambda event: None,
    on_progress: OnStage = silent,
) -> Writer:
    """Train a run and load it. Raises a TextwrightError where something is wrong.

    sources: files, folders, globs or hub data sets; none with `resume` for those of the run.
    out: the folder of the run.
    preset: name of a shipped configuration to begin from.
    config: a whole configuration, in place of `preset` and `settings`.
    settings: changed options, each as `section.key=value`.
    init_from: trained weights to begin from: a run, a model's folder, a GGUF file, or a hub name.
    valid: held-out documents, used as they are.
    test: test documents, used as they are.
    private: keep no documents of the corpus in the run.
    resume: continue the training in `out` from its newest checkpoint.
    on_event: called with each event of the training.
    on_progress: called with stage, count done and total (0: unknown) while the corpus is prepared.
    """
    from textwright.models.pretrained import find_origin
    from textwright.training.session import train_run

    names = _listed(sources)
    origin = find_origin(str(init_from)) if isinstance(init_from, str | Path) else init_from
    if config is None:
        resumed = Path(out) if resume else None
        config = choose_config(preset, settings=settings, resume=resumed, init_from=origin)
    elif preset or settings:
        raise ConfigError("A config is given whole: leave out preset and settings beside it.")
    events = train_run(
        names,
        Path(out),
        config,
        valid=valid,
        test=test,
        init_from=origin,
        private=private,
        resume=resume,
        on_progress=on_progress,
    )
    for event in events:
        on_event(event)
    return load(out)


def load(run: Source, device: str = "cpu", *, corpus: Source | Sequence[Source] = ()) -> Writer:
    """A run folder as a writer. Raises RunError where there is none or it is damaged.

    corpus: where the training text is now, which `no_copy` reads; left out, where it was.
    """
    return Writer(Run.load(Path(run)), device, _listed(corpus))


def compare(
    models: Source | Sequence[Source],
    *,
    out: Source | None = None,
    corpus: Source | Sequence[Source] = (),
    part: str = "test",
    options: CorpusOptions | None = None,
    documents: int = 0,
    writing: Writing | None = None,
    prompts: Sequence[str] = (),
    easy: bool = True,
    device: str = "auto",
    on_progress: OnStage = silent,
) -> Comparison:
    """Score models side by side on one held-out text. Raises a TextwrightError where something is
    wrong, or the comparison would be unfair.

    models: run folders, folders of transformers, URLs of servers.
    out: a report to write, .html or .md.
    corpus: text that is new to all models; none is what the first run holds out.
    part: the held-out part of the first run, test or valid.
    options: how the corpus is read if none of the models is a run.
    documents: score so many, evenly spaced; 0 scores all.
    writing: how all models write, a `comparison.subjects.Writing`.
    prompts: of the texts that are shown; none is beginnings of held-out documents.
    easy: score also counting and compressors that know the training text of the first run.
    device: auto, cpu, cuda or mps.
    on_progress: called with stage, count done and total (0: unknown).
    """
    from textwright.comparison.comparison import compare_models
    from textwright.report.comparison import write_comparison
    from textwright.report.page import check_writable

    if out is not None:
        check_writable(Path(out))
    comparison = compare_models(
        _listed(models),
        _listed(corpus),
        part=part,
        options=options,
        documents=documents,
        writing=writing,
        prompts=prompts,
        easy=easy,
        device=device,
        on_progress=on_progress,
    )
    if out is not None:
        write_comparison(comparison, Path(out))
    return comparison


def _listed(names: Source | Sequence[Source]) -> list[Source]:
    return [names] if isinstance(names, str | Path) else list(names)


def _backend(run: Run, device: str) -> Backend:
    options = run.config.model
    if options.counted or (device == "cpu" and options.backend):
        settled = options.with_context(run.config.data.context_length)
        backend: Backend = implementation(options.backend)(run.weights(), settled)
    else:
        from textwright import models

        backend = models.TorchBackend(models.load(run, device))
    return with_counts(backend, run)


def _sampling(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling options among the arguments of a call, without those that are None."""
    given = {name: arguments[name] for name in SamplingOptions.model_fields}
    return {name: value for name, value in given.items() if value is not None}
