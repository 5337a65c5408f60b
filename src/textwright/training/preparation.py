"""Prepares a corpus for training: records it, trains its tokenizer, encodes it, measures its
held-out part.

What the run folder already holds is used. Of several processes the first makes each piece, and the
others wait and read it.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from textwright.compute import processes
from textwright.corpus import FEW_DOCUMENTS, Corpus, Part
from textwright.corpus.sources import leads_to_files
from textwright.counts.kneser_ney import KneserNey
from textwright.errors import CorpusError, RunError
from textwright.escape import EscapeCode
from textwright.evaluation.scores import HeldOut
from textwright.files import from_home
from textwright.progress import OnStage
from textwright.run import COUNTS, Run
from textwright.run.origin import Origin
from textwright.run.recorded import find_recorded
from textwright.tokenizer import Tokenizer
from textwright.training.cache import encode_corpus, encode_privately
from textwright.training.counting import choose_counts
from textwright.training.encoded import Documents, open_encoded
from textwright.training.opening import Opener
from textwright.training.vocabulary import train_tokenizer

ESCAPE_CHARACTERS = 4_000_000  # enough to fit the escape code, however large the corpus


@dataclass(frozen=True)
class Prepared:
    """What a training reads: the documents to train on, encoded, and those to be scored by."""

    tokenizer: Tokenizer
    train: Documents
    held_out: HeldOut
    counts: KneserNey | None = None  # to be mixed with the model, if the config asks for them


def record_corpus(run: Run, corpus: Corpus, named: Mapping[str, list[str]], private: bool) -> None:
    """Record in the folder what the corpus is. named: the names that the user gave, by role.

    Paths are recorded relative to the folder. private: without the held-out documents, the names
    and the files' folders, also where an earlier session recorded them. Raises RunError where the
    run was begun with another corpus.
    """
    # Read by the first process alone, which may just have deleted what a killed training left.
    recorded = run.corpus() if processes.leads() and run.has("corpus.json") else None
    known = processes.gather(recorded)[0]
    if known and known["fingerprint"] != corpus.fingerprint:
        raise RunError(
            f"The corpus is not the one that {run.path} was begun with; train a new run."
        )
    if not processes.leads():
        return
    if private:
        run.forget_held_out()
    summary = corpus.scan()
    if known is None or run.lacks("train_hashes.bin"):
        run.write_bytes("train_hashes.bin", summary.train_hashes.tobytes(), for_good=True)
    was_private = known is not None and "named" not in known
    lacking = run.is_damaged if was_private else run.lacks
    if not private and (known is None or lacking("heldout.jsonl.gz")):
        run.keep_held_out(corpus.documents_of("valid", "test"))
    if known is None:
        known = {**summary.to_json(), "named": named}
        known = _without_folders(known) if private else _relative(run, known)
    elif private and "named" in known:
        known = _without_folders(known)
    else:
        return
    text = json.dumps(known, indent=1, ensure_ascii=False) + "\n"
    run.write_text("corpus.json", text, for_good=True)


def recorded_names(run: Run, named: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The sources, validation and test files of a run that is resumed: those named now, else those
    recorded, from whatever folder it is resumed.

    Raises RunError where the run is private and does not record them, or where they are gone.
    """
    if not run.has("corpus.json"):
        return dict(named)
    known = run.corpus()
    again = f"name it again: textwright train CORPUS --resume --out {run.path}"
    if "named" in known:
        return {
            role: names or [find_recorded(run, name, again) for name in known["named"][role]]
            for role, names in named.items()
        }
    roles = {file["role"] for file in known["files"]}
    if any(not named[role] for role in roles):
        held_out = "".join(f" --{role} FILE" for role in ("valid", "test") if role in roles)
        raise RunError(
            f"{run.path} is private and does not record where its corpus is; {again}{held_out}"
        )
    return dict(named)


def _relative(run: Run, known: Mapping[str, Any]) -> dict[str, Any]:
    """A record of a corpus with its paths relative to the run folder; hub names stay."""

    def relative(path: str) -> str:
        full = os.path.abspath(from_home(path))
        try:
            return Path(os.path.relpath(full, run.path.resolve())).as_posix()
        except ValueError:  # on another drive of Windows
            return path

    files = [{**file, "path": relative(file["path"])} for file in known["files"]]
    named = {
        role: [relative(name) if leads_to_files(name) else name for name in names]
        for role, names in known["named"].items()
    }
    return {**known, "files": files, "named": named}


def _without_folders(known: Mapping[str, Any]) -> dict[str, Any]:
    files = [{**file, "path": Path(file["path"]).name} for file in known["files"]]
    return {key: value for key, value in known.items() if key != "named"} | {"files": files}


def prepare_run(run: Run, corpus: Corpus, origin: Origin | None, on_progress: OnStage) -> Prepared:
    """Train the tokenizer, or take that of origin; encode all; measure what is held out.

    Raises CorpusError where there is too little to train on or to hold out.
    """
    if origin is None:
        on_progress("Building the vocabulary", 0, 0)
    tokenizer = _tokenizer(run, corpus, origin)
    documents = _encode(run, corpus, tokenizer, on_progress)
    train = documents["train"]
    refuse_too_few(documents)
    on_progress("Measuring the held-out documents", 0, 0)
    escape = _escape(run, corpus, documents, tokenizer)
    scored = _sample(corpus, "valid", documents, run.config.train.evaluate_characters)
    held_out = HeldOut.of(scored, tokenizer, escape)
    corpus.refuse_changed()
    return Prepared(tokenizer, train, held_out, _counts(run, train, held_out, on_progress))


def refuse_too_few(documents: Mapping[Part, Documents]) -> None:
    """Raise CorpusError where there is too little to train on or to hold out."""
    train, valid = documents["train"], documents["valid"]
    if train.targets < 2 or not len(valid):
        raise CorpusError(
            f"There are too few documents, {len(train)} to train on and {len(valid)} held out; "
            "give a larger corpus, or held-out documents with --valid."
        )


def _counts(
    run: Run, train: Documents, held_out: HeldOut, on_progress: OnStage
) -> KneserNey | None:
    longest, tokenizer = run.config.counts.longest, run.tokenizer
    if longest and processes.leads() and not run.has(COUNTS):
        on_progress("Counting", 0, 0)
        opener = Opener.wanted_by(run.config, train, tokenizer)
        openings = opener.openings(train) if opener else np.empty(0, np.int64)
        size = tokenizer.vocab_size
        run.keep_counts(choose_counts(train, held_out, size, longest, openings))
    processes.wait()
    return run.counts if longest else None


def _tokenizer(run: Run, corpus: Corpus, origin: Origin | None) -> Tokenizer:
    if processes.leads() and not run.has("tokenizer.json"):
        if origin is not None:
            run.keep_tokenizer(origin.tokenizer)
        else:
            run.keep_tokenizer(train_tokenizer(run.config.tokenizer, corpus))
    processes.wait()
    return run.tokenizer


def _encode(
    run: Run, corpus: Corpus, tokenizer: Tokenizer, on_progress: OnStage
) -> dict[Part, Documents]:
    """Encode the corpus in the first process, and open it in all of them.

    The encoded corpus of a private run is removed as soon as every process has mapped it.
    """
    if not run.private:
        if not processes.leads():
            processes.wait()  # and find the documents encoded
        documents = encode_corpus(corpus, tokenizer, on_progress)
        if processes.leads():
            processes.wait()
        return documents
    with ExitStack() as stack:

        def encode() -> Path:
            return stack.enter_context(encode_privately(corpus, tokenizer, on_progress))

        folder = processes.gather(encode() if processes.leads() else None)[0]
        if folder is None or not folder.is_dir():  # this process runs on another machine
            folder = encode()
        documents = open_encoded(folder, tokenizer)
        processes.wait()
    return documents


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
