"""What a run has memorized: what it copies when it writes (`propensity`), what it could be made to
copy (`capability`), at each checkpoint that is kept, and where a given text comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from textwright.corpus import Corpus
from textwright.corpus.documents import Cleaner
from textwright.errors import EvaluationError, RunError
from textwright.evaluation.copying import TEXTS
from textwright.evaluation.kept import NOTHING_KEPT, KeptResults, device_named
from textwright.evaluation.predictors import open_predictor
from textwright.memorisation.capability import (
    PASSAGE,
    PASSAGES,
    Capability,
    alarm_of,
    measure_capability,
    passages,
    read_continuations,
    sample,
)
from textwright.memorisation.propensity import (
    CHARACTERS_WRITTEN,
    Propensity,
    measure_propensity,
)
from textwright.memorisation.training_text import SHORTEST, Span, TrainingText
from textwright.progress import OnStage, silent
from textwright.run import Run
from textwright.run.recorded import recorded_corpus
from textwright.writing.backend import Backend
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions
from textwright.writing.sequences import KnownSequences


@dataclass(frozen=True)
class AtCheckpoint:
    """A checkpoint: what its weights copy at temperature 1, and what they could be made to."""

    step: int
    best: bool
    propensity: Propensity
    capability: Capability


@dataclass(frozen=True)
class Memorisation:
    """The measurements of a run. memory_bytes: of the training text and its suffix array · own,
    temperature_1: what it copies at its own [sample] settings, and at temperature 1."""

    documents: int
    characters: int
    memory_bytes: int
    held_out: int
    own: Propensity
    temperature_1: Propensity
    capability: Capability
    checkpoints: list[AtCheckpoint]

    def to_json(self) -> dict[str, object]:
        """What `textwright memorisation --json` prints."""
        return {
            "training": {
                "documents": self.documents,
                "characters": self.characters,
                "memory_bytes": self.memory_bytes,
            },
            "held_out": {"documents": self.held_out},
            "propensity": {
                "own": self.own.to_json(),
                "temperature_1": self.temperature_1.to_json(),
            },
            "capability": self.capability.to_json(),
            "checkpoints": [
                {
                    "step": each.step,
                    "best": each.best,
                    "propensity": each.propensity.to_json(),
                    "capability": each.capability.to_json(),
                }
                for each in self.checkpoints
            ],
        }


@dataclass(frozen=True)
class Traced:
    """Where a text comes from, as the tokenizer reads it. copied: characters of it that lie in
    spans which stand in the training text · bits: what its 51st to 100th characters cost each,
    after the first 50; None if it is shorter · memorized: whether that is less than nearly all
    held-out text costs · false_alarms: how often a text that was never seen would be called so."""

    characters: int
    copied: int
    spans: list[Span]
    bits: float | None = None
    memorized: bool | None = None
    false_alarms: float | None = None

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "spans": [span.to_json() for span in self.spans]}


class Examiner:
    """Holds a run to its training text and what was held out of it, read when they are needed.

    corpus: where the training text is now, if not where the run recorded it. kept: where finished
    parts are. Raises RunError where the training text is gone or another one.
    """

    def __init__(
        self,
        run: Run,
        corpus: Sequence[str | Path] = (),
        device: str = "auto",
        on_progress: OnStage = silent,
        kept: KeptResults = NOTHING_KEPT,
    ) -> None:
        self.run, self.device, self.on_progress = run, device, on_progress
        self._reading = partial(on_progress, "Reading the training text")
        self.corpus = recorded_corpus(run, corpus, self._reading)
        self._results = kept.given(
            training=run.corpus()["fingerprint"], device=device_named(device)
        )

    @cached_property
    def documents(self) -> list[str]:
        """The training documents."""
        self.corpus.scan(self._reading)
        return list(self.corpus.documents("train"))

    @cached_property
    def held_out(self) -> list[str]:
        """The documents that the run did not read. Raises RunError if there are none."""
        return _held_out(self.run, self.corpus)

    @cached_property
    def training(self) -> TrainingText:
        """The training text, searchable."""
        documents = self.documents
        self.on_progress("Sorting the suffixes of the training text", 0, 0)
        return TrainingText(documents, self.run.tokenizer)

    @cached_property
    def _few(self) -> bool:
        """Whether documents are so few, and so long, that pieces of them stand for them."""
        return self.run.corpus()["split"]["by"] == "position"

    @cached_property
    def _seen(self) -> list[str]:
        return passages(self.documents, self._few)

    @cached_property
    def _unseen(self) -> list[str]:
        return passages(self.held_out, self._few)

    @cached_property
    def _pieces(self) -> list[str]:
        """Held-out texts to compare with what is written, which is short beside a novel."""
        if not self._few:
            return self.held_out
        return [
            document[start : start + CHARACTERS_WRITTEN]
            for document in self.held_out
            for start in range(0, len(document), CHARACTERS_WRITTEN)
        ]

    def measure(self, texts: int = TEXTS, seed: int = 0) -> Memorisation:
        """Measure the run, and its weights at each checkpoint. texts: how many to write for each.

        Raises EvaluationError where too little is held out, or the run writes nothing.
        """
        steps = self.run.checkpoints.steps()
        return (
            self._kept()
            .of_files(map(self.run.checkpoints.weights_file, steps))
            .recall(
                Memorisation,
                partial(self._measure, texts, seed),
                part="memorisation",
                texts=[texts, seed],
                steps=[self.run.checkpoints.best_step(), *steps],
                sample=self.run.config.sample.model_dump(mode="json"),
            )
        )

    def _measure(self, texts: int, seed: int) -> Memorisation:
        if not self._unseen or not self._seen:
            raise EvaluationError(
                f"No {'held-out' if self._seen else 'training'} document has {PASSAGE} characters, "
                "so it cannot be measured how a document is continued; train on longer documents."
            )
        own, plain = self.run.config.sample, SamplingOptions()
        self.on_progress("Writing at temperature 1", 0, 0)
        at_1 = self._propensity(None, plain, texts, seed)
        self.on_progress("Writing at the run's own settings", 0, 0)
        alike = _without_lengths(own) == _without_lengths(plain)
        of_own = at_1 if alike else self._propensity(None, own, texts, seed)
        capability = self._capability(None, "Reading passages", seed)
        best = self.run.checkpoints.best_step()
        return Memorisation(
            documents=len(self.training),
            characters=self.training.characters,
            memory_bytes=self.training.suffixes.nbytes,
            held_out=len(self.held_out),
            own=of_own,
            temperature_1=at_1,
            capability=capability,
            checkpoints=[
                AtCheckpoint(step, True, at_1, capability)
                if step == best
                else self._at_checkpoint(step, texts, seed)
                for step in self.run.checkpoints.steps()
            ],
        )

    def trace(self, text: str, least: int = SHORTEST) -> Traced:
        """Find the spans of a text that stand in the training text, and whether the run knows it.

        least: characters of the shortest span that is looked for.
        """
        unseen = self._unseen  # before the long work, since there may be none to compare with
        options = self.run.config.corpus
        text = Cleaner(options, self.corpus.template).trim(text)  # as its documents were
        (read,) = self.training.as_read([text])
        (stretches,) = self.training.stretches([read], least)
        covered = np.zeros(len(read), bool)
        for start, end in stretches:
            covered[start:end] = True
        spans = [self.training.span(read, start, end) for start, end in stretches]
        found = Traced(len(read), int(covered.sum()), spans)
        if len(text) < PASSAGE or not unseen:
            return found
        compared = sample(unseen, PASSAGES, np.random.default_rng(0))
        measured = read_continuations(
            self._backend(),
            self.run.tokenizer,
            [text[: 2 * PASSAGE], *compared],
            SamplingOptions(),
            partial(self.on_progress, "Reading held-out passages"),
        )
        alarm, false_alarms = alarm_of(measured.bits[1:])
        bits = float(measured.bits[0])
        return Traced(len(read), found.copied, spans, bits, bits < alarm, false_alarms)

    def _at_checkpoint(self, step: int, texts: int, seed: int) -> AtCheckpoint:
        stage = f"Measuring the checkpoint of step {step:,}"
        self.on_progress(stage, 0, 0)
        propensity = self._propensity(step, SamplingOptions(), texts, seed)
        return AtCheckpoint(step, False, propensity, self._capability(step, stage, seed))

    def _propensity(
        self, step: int | None, options: SamplingOptions, texts: int, seed: int
    ) -> Propensity:
        def compute() -> Propensity:
            known = self._known_sequences
            generator = Generator(self._backend(step), self.run.tokenizer, known_sequences=known)
            return measure_propensity(
                self.training, generator, options, self._pieces, texts=texts, seed=seed
            )

        return self._kept(step).recall(
            Propensity,
            compute,
            part="propensity",
            options=options.model_dump(mode="json"),
            texts=[texts, seed],
        )

    def _capability(self, step: int | None, stage: str, seed: int) -> Capability:
        own = self.run.config.sample
        return self._kept(step).recall(
            Capability,
            lambda: measure_capability(
                self._backend(step),
                self.run.tokenizer,
                self._seen,
                self._unseen,
                own,
                partial(self.on_progress, stage),
                seed=seed,
            ),
            part="capability",
            options=own.model_dump(mode="json"),
            seed=seed,
        )

    def _backend(self, step: int | None = None) -> Backend:
        """The run's best weights, or those of a checkpoint."""
        return open_predictor(self.run, self.device, step).backend()

    def _kept(self, step: int | None = None) -> KeptResults:
        return self._results.about(self.run, step)

    def _known_sequences(self, length: int) -> KnownSequences:
        return KnownSequences.of(*self.training.encoded(), length)


def _held_out(run: Run, corpus: Corpus) -> list[str]:
    if not run.private:
        documents = [*run.held_out("valid"), *run.held_out("test")]
    elif {"valid", "test"} & corpus.files.keys():
        raise RunError(
            f"{run.path} is private and keeps no held-out documents, which were files of their own;"
            " there is nothing to compare what it writes with."
        )
    else:
        documents = [text for _, text in corpus.documents_of("valid", "test")]
    if not documents:
        raise RunError(f"{run.path} holds no held-out documents to compare what it writes with.")
    return documents


def _without_lengths(options: SamplingOptions) -> SamplingOptions:
    return options.model_copy(update={"max_new_tokens": 1, "min_new_tokens": 0})
