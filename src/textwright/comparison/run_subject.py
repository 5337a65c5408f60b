"""A run as a subject of comparison: scored as `textwright evaluate` scores it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from textwright.comparison.subjects import (
    Codec,
    Measured,
    Writing,
    Written,
    check_restored,
    context_in_words,
    restored_by_code,
)
from textwright.evaluation.kept import NOTHING_KEPT, KeptResults, device_named
from textwright.evaluation.predictors import (
    CountsPredictor,
    MixedPredictor,
    NeuralPredictor,
    open_predictor,
    score_in_chunks,
)
from textwright.evaluation.scores import HeldOut
from textwright.progress import OnProgress
from textwright.run import BASE, COUNTS, WEIGHTS, Run
from textwright.run.folder import MIXTURE
from textwright.writing.generator import Generator

NEEDED = (WEIGHTS, BASE, COUNTS, MIXTURE, "config.toml", "tokenizer.json")  # to write


@dataclass
class RunSubject:
    """A run folder, on a device."""

    run: Run
    device: str = "auto"
    kept: KeptResults = NOTHING_KEPT
    kind: str = "run"

    def __post_init__(self) -> None:
        self.kept = self.kept.about(self.run).given(device=device_named(self.device))

    @property
    def name(self) -> str:
        return str(self.run.path)

    @cached_property
    def predictor(self) -> NeuralPredictor | CountsPredictor | MixedPredictor:
        return open_predictor(self.run, self.device)

    @cached_property
    def generator(self) -> Generator:
        return Generator(self.predictor.backend(), self.run.tokenizer)

    def measure(self, documents: Sequence[str], on_progress: OnProgress) -> Measured:
        text = HeldOut.of(documents, self.run.tokenizer, self.run.escape)
        for document, row in zip(documents, text.rows, strict=True):
            restored = restored_by_code(self.run.escape, document, row[1:-1].tolist())
            check_restored(self.name, document, restored)
        nats = score_in_chunks(self.predictor.score, text.rows, self.kept, on_progress)
        return Measured(nats, replace(text, rows=[]))

    def write(self, prompts: Sequence[str], writing: Writing, max_new_tokens: int) -> Written:
        options = writing.options(max_new_tokens)
        stream = self.generator.stream(prompts, options, seed=writing.seeds(len(prompts)))
        texts = [sample.text[: writing.characters] for sample in stream.samples()]
        return Written(texts, stream.seconds, stream.tokens)

    def codec(self) -> Codec:
        tokenizer, escape = self.run.tokenizer, self.run.escape
        return Codec(
            self.generator.backend,
            tokenizer.stop_id,
            tokenizer.stop_id,
            lambda document, writer: escape.write(writer, document),
            lambda ids, reader: escape.read(reader, ids),
        )

    def context(self) -> str:
        config, counts = self.run.config, self.run.counts
        if counts is not None and config.model.counted:
            seen = counts.order - 1
            return f"each token sees the {seen} before it" if seen else "no token sees others"
        rule = context_in_words(config.model.looks_back(config.data.context_length))
        if counts is not None:
            rule += "; the counts' memory of the document reaches back to its beginning"
        return rule

    def remarks(self) -> list[str]:
        said = []
        if not self.run.tokenizer.lossless:
            said.append("pays its escape code for what its tokens lose")
        origin = self.run.config.origin
        if origin is not None:
            said.append(
                f"began from {origin.source}; what that was trained on is not known here, so it "
                "may have read this text"
            )
        return said

    def parameters(self) -> int | None:
        if self.run.config.model.counted:
            return None
        return sum(array.size for array in self.run.weights().values())

    def bytes(self) -> int:
        return sum((self.run.path / name).stat().st_size for name in NEEDED if self.run.has(name))
