"""Finding a run's corpus again by what the run recorded of it."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from textwright.corpus import Corpus
from textwright.corpus.sources import leads_to_files
from textwright.errors import CorpusError, RunError
from textwright.progress import OnProgress
from textwright.run.folder import Run


def find_recorded(run: Run, name: str, remedy: str) -> str:
    """Where a recorded name leads: from the run folder, or as it is, which older runs recorded.

    Raises RunError, with the remedy, where it leads nowhere.
    """
    folder = str(run.path.resolve())
    for base in (folder, glob.escape(folder)):  # a name may be a pattern, the folder's is none
        found = os.path.normpath(os.path.join(base, name))
        if leads_to_files(found):
            return found
    if not leads_to_files(name) and (name.startswith("../") or os.path.isabs(name)):
        raise RunError(f"{name}, the corpus of {run.path}, is gone; {remedy}")
    return name


def recorded_corpus(
    run: Run, sources: Sequence[str | Path] = (), on_progress: OnProgress | None = None
) -> Corpus:
    """The corpus that a run was trained on, split as it was: the one recorded, or `sources`.

    It is the same if its fingerprint is, or else if its training documents are, by their hashes: a
    corpus may have got another name. on_progress: called as by `Corpus.scan`. Raises RunError where
    it is gone, is another one, or was never recorded because the run is private.
    """
    known = run.corpus()
    roles = {file["role"] for file in known["files"]} - {"sources"}
    named: dict[str, list[str]]
    if sources:
        # Which parts had files of their own decides how the sources were split; what was in those
        # files does not matter to the training documents.
        names = [str(source) for source in sources]
        named = {"sources": names, **dict.fromkeys(roles, names)}
    elif "named" in known:
        remedy = "name it with --corpus."
        named = {
            role: [find_recorded(run, name, remedy) for name in names]
            for role, names in known["named"].items()
        }
    else:
        raise RunError(
            f"{run.path} is private and does not record where its corpus is; name it with --corpus."
        )
    try:
        corpus = Corpus(
            named["sources"],
            run.config.corpus,
            valid=named.get("valid", ()),
            test=named.get("test", ()),
            whole_symbols=run.config.tokenizer.kind == "symbols",
        )
        if corpus.fingerprint == known["fingerprint"]:
            return corpus
        same = np.array_equal(corpus.scan(on_progress).train_hashes, run.train_hashes())
    except CorpusError as error:
        raise RunError(f"The corpus of {run.path} cannot be read again: {error}") from None
    if not same:
        raise RunError(
            f"{', '.join(named['sources'])} is not, or no longer, what {run.path} was trained on: "
            "its training documents differ. Name that corpus with --corpus."
        )
    return corpus
