"""The held-out text that models are scored on, and what makes it unfair to one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from textwright.corpus import Corpus
from textwright.corpus.documents import CorpusOptions
from textwright.corpus.sources import find_files
from textwright.corpus.tally import hash_document
from textwright.errors import CorpusError, EvaluationError, RunError
from textwright.run import Run

Sources = Sequence[str | Path]


@dataclass(frozen=True)
class HeldOutText:
    """Documents, and where they are from, in words."""

    documents: list[str]
    source: str

    @cached_property
    def characters(self) -> int:
        return sum(map(len, self.documents))

    @cached_property
    def bytes(self) -> int:
        """UTF-8 bytes."""
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in self.documents)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the documents; equal texts have equal fingerprints."""
        found = hashlib.sha256()
        for document in self.documents:
            found.update(document.encode("utf-8", "surrogatepass") + b"\0")
        return found.hexdigest()

    def sampled(self, count: int) -> HeldOutText:
        """So many documents, evenly spaced; all of them if there are no more, or count is 0."""
        if not 0 < count < len(self.documents):
            return self
        return replace(
            self,
            documents=evenly_spaced(self.documents, count),
            source=f"{count:,} of the {len(self.documents):,} documents of {self.source}",
        )

    def to_json(self) -> dict[str, object]:
        return {
            "documents": len(self.documents),
            "characters": self.characters,
            "bytes": self.bytes,
            "fingerprint": self.fingerprint,
            "source": self.source,
        }


def evenly_spaced(documents: Sequence[str], count: int) -> list[str]:
    """So many of the documents, from the first to the last; all of them if there are no more."""
    places = np.linspace(0, len(documents) - 1, min(count, len(documents))).round().astype(int)
    return [documents[place] for place in places.tolist()]


def held_out_of(run: Run, part: str) -> HeldOutText:
    """The documents that a run holds out. Raises CorpusError if there are none."""
    documents = list(run.held_out(part))
    if not documents:
        raise CorpusError(f"{run.path} holds no {part} documents; name a corpus to score.")
    return HeldOutText(documents, f"the {part} part of {run.path}")


def read_text(sources: Sources, options: CorpusOptions | None = None) -> HeldOutText:
    """All documents of a corpus. Raises CorpusError if there are none."""
    # Test files are taken whole. A corpus must have sources too, which are not read here.
    documents = list(Corpus(sources, options, test=sources).documents("test"))
    names = ", ".join(str(name) for name in sources)
    if not documents:
        raise CorpusError(f"There is no document in {names}; name another corpus to score.")
    return HeldOutText(documents, names)


def choose_text(
    runs: Sequence[Run],
    sources: Sources = (),
    part: str = "test",
    options: CorpusOptions | None = None,
) -> HeldOutText:
    """The one text that all of these are scored on: the sources, else what the first run holds out.

    options: how the sources are read if there is no run to say it. Raises EvaluationError if one of
    the runs was trained on the text, divides or treats its corpus in another way, or if there is
    neither a run nor a source.
    """
    if runs and options is not None:
        raise EvaluationError(
            f"{runs[0].path} says how its text is read: leave out --text, --template and --unit."
        )
    for other in runs[1:]:
        refuse_other_treatment(runs[0], other, with_corpus=not sources)
    if sources:
        return read_new_text(runs, sources, options)
    if not runs:
        raise EvaluationError(
            "Without a run there is no held-out text; name one that is new to the models (bits: "
            "after the model, compare: with --corpus)."
        )
    text = held_out_of(runs[0], part)
    for run in runs:
        refuse_overlap(run, text)
    return text


def read_new_text(
    runs: Sequence[Run], sources: Sources, options: CorpusOptions | None = None
) -> HeldOutText:
    """All documents of a corpus that is new to these runs, read as the first of them reads its own.

    options: how it is read if there is no run. Raises EvaluationError if one of the runs was
    trained on some of it.
    """
    for run in runs:
        _refuse_own_files(run, sources)
    text = read_text(sources, runs[0].config.corpus if runs else options)
    for run in runs:
        refuse_overlap(run, text)
    return text


def doubt_of(run: Run, sources: Sources, text: HeldOutText) -> str:
    """Why a score on the text of these sources would not be fair, in a sentence; empty: nothing is
    known."""
    try:
        _refuse_own_files(run, sources)
        refuse_overlap(run, text)
    except EvaluationError as error:
        return str(error)
    except RunError:  # what the run was trained on is lost
        pass
    return ""


def refuse_overlap(run: Run, text: HeldOutText) -> None:
    """Raise EvaluationError if the run was trained on some of the documents."""
    hashes = np.array([hash_document(document) for document in text.documents], np.uint64)
    seen = np.flatnonzero(np.isin(hashes, run.train_hashes()))
    if len(seen):
        example = " ".join(text.documents[seen[0]].split())
        shown = example if len(example) <= 60 else f"{example[:60]}…"
        raise EvaluationError(
            f"{run.path} was trained on {len(seen):,} of the {len(hashes):,} documents of "
            f"{text.source}, such as {shown!r}; its score would not be fair. Name text that none "
            "of the models has read with --corpus."
        )


def refuse_other_treatment(one: Run, other: Run, with_corpus: bool) -> None:
    """Raise EvaluationError if two runs read texts in another way or, with_corpus, if they divide
    their corpora so that what one holds out may have trained the other."""
    mine, theirs = one.corpus(), other.corpus()
    pair = f"{one.path} and {other.path}"
    differing = [
        f"{key} is {mine['options'].get(key)!r} and {value!r}"
        for key, value in theirs["options"].items()
        if key not in ("format", "encoding", "split_by", "split_salt")
        and mine["options"].get(key) != value
    ]
    if mine["template"] != theirs["template"] and not differing:
        differing = [f"template is {mine['template']!r} and {theirs['template']!r}"]
    if differing:
        raise EvaluationError(
            f"{pair} treat their text in different ways: {'; '.join(differing)}. Their scores "
            "would be of different texts; train one of them again."
        )
    if not with_corpus:
        return
    if _contents(mine) != _contents(theirs):
        raise EvaluationError(
            f"{pair} were trained on different corpora; name text that is new to both with "
            "--corpus."
        )
    refuse_other_division(one, other)


def refuse_other_division(one: Run, other: Run) -> None:
    """Raise EvaluationError if two runs share files but hold other parts of them out: documents
    that are parts of one long text have no hash of their own."""
    mine, theirs = one.corpus(), other.corpus()
    if {*_contents(mine)} & {*_contents(theirs)} and _division(mine) != _division(theirs):
        raise EvaluationError(
            f"{one.path} and {other.path} split their corpus in different ways, so that what one "
            "holds out may have trained the other; name text that is new to both with --corpus, "
            "or train one again."
        )


def _contents(corpus: dict[str, object]) -> list[tuple[str, str]]:
    files = corpus["files"]
    assert isinstance(files, list)
    return sorted((file["role"], file["sha256"]) for file in files)


def _division(corpus: dict[str, object]) -> object:
    options = corpus["options"]
    assert isinstance(options, dict)
    return corpus["split"], options["split_salt"]


def _refuse_own_files(run: Run, sources: Sources) -> None:
    """Raise EvaluationError if one of the files was the run's corpus: parts of one long text have
    no hash by which they would be known."""
    known = {file["sha256"]: file["role"] for file in run.corpus()["files"]}
    options = run.config.corpus
    for file in find_files(list(sources), options.format, options.encoding):
        if known.get(file.sha256) == "sources":
            raise EvaluationError(
                f"{file.path} is the corpus that {run.path} was trained on; leave it out to take "
                "what the run held out of it, or name text that is new to the run."
            )
