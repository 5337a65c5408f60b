"""The training documents of a run, read and encoded again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from textwright.progress import OnStage, silent
from textwright.run import Run
from textwright.run.recorded import recorded_corpus
from textwright.training.cache import encode_corpus, encode_privately
from textwright.training.encoded import open_encoded
from textwright.writing.sequences import KnownSequences


def known_sequences(
    run: Run,
    length: int,
    sources: Sequence[str | Path] = (),
    on_progress: OnStage = silent,
) -> KnownSequences:
    """The sequences of `length` tokens in the documents that a run was trained on.

    sources: where its corpus is now; none, where it was recorded. The encoded corpus comes from the
    cache, and stays there unless the run is private. Raises as `recorded_corpus`.
    """
    corpus = recorded_corpus(
        run, sources, lambda *done: on_progress("Reading the training text", *done)
    )
    with ExitStack() as stack:
        if run.private:
            folder = stack.enter_context(encode_privately(corpus, run.tokenizer, on_progress))
            train = open_encoded(folder, run.tokenizer)["train"]
        else:
            train = encode_corpus(corpus, run.tokenizer, on_progress)["train"]
        on_progress(f"Collecting its sequences of {length} tokens", 0, 0)
        return KnownSequences.of(train.ids, train.starts, length)
