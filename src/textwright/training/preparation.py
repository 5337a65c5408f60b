"""A corpus made ready to train on: recorded, its tokenizer trained, encoded, its held-out part
measured.

What the run folder holds of it already is taken up. Of several processes the first makes each
piece, and the others wait and read it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from textwright.compute import processes
from textwright.corpus import FEW_DOCUMENTS, Corpus, Part
from textwright.errors import CorpusError, RunError
from textwright.escape import EscapeCode
from textwright.evaluation.scores import HeldOut
from textwright.run import Run
from textwright.run.origin import Origin
from textwright.tokenizer import Tokenizer
from textwright.training.dataset import Documents, prepare

OnProgress = Callable[[str, int, int], None]  # (what is being done, done, total or 0)

ESCAPE_CHARACTERS = 4_000_000  # enough to fit the escape code, however large the corpus


@dataclass(frozen=True)
class Prepared:
    """What a training reads: the documents to train on, encoded, and those to be scored by."""

    tokenizer: Tokenizer
    train: Documents
    held_out: HeldOut


def record_corpus(run: Run, corpus: Corpus, named: Mapping[str, list[str]], private: bool) -> None:
    """Keep in the folder what the corpus is, by the names that the user gave; private: without
    the held-out documents, also where an earlier session kept them.

    Raises RunError where the run was begun with another corpus.
    """
    if run.has("corpus.json") and run.corpus()["fingerprint"] != corpus.fingerprint:
        raise RunError(
            f"The corpus is not the one that {run.path} was begun with; train a new run."
        )
    if private and processes.leads():
        run.forget_held_out()
    if run.has("corpus.json") or not processes.leads():
        return
    summary = corpus.scan()
    run.write_bytes("train_hashes.bin", summary.train_hashes.tobytes())
    if not private:
        run.keep_held_out(corpus.documents_of("valid", "test"))
    told = {**summary.to_json(), "named": named}
    run.write_text("corpus.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def prepare_run(
    run: Run, corpus: Corpus, origin: Origin | None, on_progress: OnProgress
) -> Prepared:
    """Train the tokenizer, or take that of origin; encode all; measure what is held out.

    Raises CorpusError where there is too little to train on or to hold out.
    """
    if origin is None:
        on_progress("Building the vocabulary", 0, 0)
    tokenizer = _tokenizer(run, corpus, origin)
    if not processes.leads():
        processes.wait()  # and find the documents encoded
    documents = prepare(corpus, tokenizer, lambda *done: on_progress("Encoding", *done))
    if processes.leads():
        processes.wait()
    train = documents["train"]
    if train.targets < 2 or not len(documents["valid"]):
        raise CorpusError(
            f"There are too few documents, {len(train)} to train on and {len(documents['valid'])} "
            "held out; give a larger corpus, or held-out documents with --valid."
        )
    on_progress("Measuring the held-out documents", 0, 0)
    escape = _escape(run, corpus, documents, tokenizer)
    scored = _sample(corpus, "valid", documents, run.config.train.evaluate_characters)
    return Prepared(tokenizer, train, HeldOut.of(scored, tokenizer, escape))


def _tokenizer(run: Run, corpus: Corpus, origin: Origin | None) -> Tokenizer:
    if processes.leads() and not run.has("tokenizer.json"):
        if origin is not None:
            run.keep_tokenizer(origin.tokenizer)
        else:
            pieces = (piece.text for piece in corpus.pieces("train"))
            run.keep_tokenizer(Tokenizer.train(run.config.tokenizer, pieces))
    processes.wait()
    return run.tokenizer


def _escape(
    run: Run, corpus: Corpus, encoded: Mapping[Part, Documents], tokenizer: Tokenizer
) -> EscapeCode:
    if processes.leads() and not run.has("escape.json.gz"):
        documents = _sample(corpus, "train", encoded, ESCAPE_CHARACTERS)
        run.keep_escape(EscapeCode.fit(tokenizer, documents))
    processes.wait()
    return run.escape


def _sample(
    corpus: Corpus, part: Part, encoded: Mapping[Part, Documents], characters: int
) -> Iterator[str]:
    """Documents evenly spaced over a part, up to about so many characters (0: all of it); of few
    documents, the beginning of each."""
    ids = {part: len(documents.ids) for part, documents in encoded.items()}
    present = corpus.scan().characters * ids[part] / max(1, sum(ids.values()))
    stride = max(1, math.ceil(present / characters)) if characters else 1
    left = characters or sys.maxsize
    lengths = encoded[part].lengths
    if stride > 1 and len(lengths) < FEW_DOCUMENTS:  # one of them may be nearly all there is
        shares = np.ceil(lengths / lengths.sum() * characters).astype(int).tolist()
        for document, share in zip(_whole(corpus, part, characters), shares, strict=True):
            yield document[:share]
        return
    for document in islice(_whole(corpus, part, left), 0, None, stride):
        yield document[:left]
        left -= len(document)
        if left <= 0:
            return


def _whole(corpus: Corpus, part: Part, limit: int) -> Iterator[str]:
    """Documents put together from their pieces, as far as the limit; the rest is read over."""
    text: list[str] = []
    for piece in corpus.pieces(part):
        if sum(map(len, text)) < limit:
            text.append(piece.text)
        if piece.last:
            yield "".join(text)
            text = []
