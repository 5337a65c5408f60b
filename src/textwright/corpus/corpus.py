"""Files or hub names → documents, split and fingerprinted, in little memory.

One pass (`scan`) reads, cleans, counts and decides where each record goes; it keeps one
byte a record and 8 bytes a document. `pieces` reads the files again and hands the text out.
"""

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from textwright.corpus.automatic import choose_options, refuse_columns
from textwright.corpus.documents import Cleaner, CorpusOptions, Template, text_of
from textwright.corpus.json_values import Record
from textwright.corpus.plain_text import STRETCH, Stretches, cut_after_space
from textwright.corpus.readers import read_records
from textwright.corpus.sources import SourceFile, find_files, left_out, refuse_changed
from textwright.corpus.split import FEW_DOCUMENTS, PARTS, Part, Piece, Split
from textwright.corpus.tally import Hashes, Measure, Summary, Tally, count_distinct
from textwright.errors import CorpusError
from textwright.files import hash_json
from textwright.progress import OnProgress
from textwright.wording import meant

_VERSION = 1  # increased when the same options give other documents, so that no cache is reused

Source = str | Path


class Corpus:
    """The documents of some files, folders, globs or hub data sets.

    `valid` and `test` name files that are held out as they are; the parts not given are held
    out of the sources. whole_symbols: documents split by position are cut after white space,
    never inside a symbol. like: options of the run whose weights a training begins from. Raises
    CorpusError where a source does not exist.

    `options` are those given, with a choice in place of each `auto`; `choices` has a line about
    each, and about what was left out of a folder, for whoever trains.
    """

    def __init__(
        self,
        sources: Source | Sequence[Source],
        options: CorpusOptions | None = None,
        *,
        valid: Source | Sequence[Source] = (),
        test: Source | Sequence[Source] = (),
        whole_symbols: bool = False,
        like: CorpusOptions | None = None,
    ):
        options = options or CorpusOptions()
        named = {"sources": _listed(sources), "valid": _listed(valid), "test": _listed(test)}
        self.files = {
            role: find_files(names, options.format, options.encoding)
            for role, names in named.items()
            if names or role == "sources"
        }
        self._sources, self._format = named["sources"], options.format
        self.options, self._choices = choose_options(options, self.files["sources"], like)
        options = self.options
        self.fingerprint = self._fingerprint(whole_symbols)
        self.template = Template(options.template) if options.template else self._only_column()
        self._split = Split(options.split_salt, self.files, whole_symbols)
        self._split_by = options.split_by or sorted(self.template.fields)
        self._columns = sorted({*self._cleaner().columns, *self._split_by})
        self._summary: Summary | None = None
        # Results of the scan that `pieces` needs: the tallies' codes; for sources split by position
        # also their lengths, and each (document, part) left out because its text trains too.
        self._codes: dict[str, bytearray] = {}
        self._lengths: list[int] | None = None
        self._leaked: set[tuple[int, Part]] = set()

    @cached_property
    def choices(self) -> list[str]:
        """A line about what a folder leaves out, and about each choice."""
        return [*filter(None, [left_out(self._sources, self._format)]), *self._choices]

    def scan(self, on_progress: OnProgress | None = None) -> Summary:
        """Read everything once and count it; a second call answers from memory.

        `on_progress` gets (bytes read, total bytes), as on disk. Raises CorpusError where a
        file cannot be read, no record has a named field, or no document is left.
        """
        if self._summary is None:
            self._summary = self._scan(on_progress)
        return self._summary

    def pieces(self, part: Part) -> Iterator[Piece]:
        """The text of a part, in the order of the files, long documents in several pieces."""
        for _, piece in self.pieces_of(part):
            yield piece

    def pieces_of(self, *parts: Part) -> Iterator[tuple[Part, Piece]]:
        """The pieces of several parts, each with its part; the files are read once for all."""
        self.scan()
        for role in self.files:
            wanted = {part for part in parts if (part if part in self.files else "sources") == role}
            if wanted and role == "sources" and self._lengths is not None:
                for at, part, piece in self._by_position(self._lengths):
                    if part in wanted and (at, part) not in self._leaked:
                        yield part, piece
            elif wanted:
                for part, pieces in self._chosen(role, wanted):
                    for piece in pieces:
                        yield part, piece

    def documents(self, part: Part) -> Iterator[str]:
        """The documents of a part, each whole: use `pieces` where they may be huge."""
        for _, text in self.documents_of(part):
            yield text

    def documents_of(self, *parts: Part) -> Iterator[tuple[Part, str]]:
        """The documents of several parts, each with its part."""
        held: list[str] = []
        for part, piece in self.pieces_of(*parts):
            held.append(piece.text)
            if piece.last:
                yield part, "".join(held)
                held = []

    def refuse_changed(self) -> None:
        """Raise CorpusError if a file is not as it was first read. Each whole pass checks that
        itself; this is for those that stop early."""
        for files in self.files.values():
            for file in files:
                refuse_changed(file)

    # Reading again after the scan

    def _chosen(self, role: str, parts: Collection[Part]) -> Iterator[tuple[Part, Iterator[Piece]]]:
        """The pieces of each document of these parts; other records are not even cleaned."""
        cleaner, codes = self._cleaner(), self._codes[role]
        named = {PARTS.index(part): part for part in parts}
        count = 0
        for record in self._records(role):
            if count < len(codes) and codes[count] in named:
                values = cleaner.values(record)
                if values is None:
                    raise self._changed()
                yield named[codes[count]], self._pieces(cleaner, values)
            count += 1
        if count != len(codes):
            raise self._changed()

    def _pieces(self, cleaner: Cleaner, values: dict[str, Any]) -> Iterator[Piece]:
        stretches: Iterator[str]
        if type(long := values.get("text")) is Stretches:
            stretches = map(cleaner.trim, long)
        else:
            text = cleaner.text(values)
            if text is None:
                raise self._changed()
            if len(text) <= STRETCH:
                yield Piece(text)
                return
            stretches = cut_after_space(
                text[at : at + STRETCH] for at in range(0, len(text), STRETCH)
            )
        held = ""
        for stretch in filter(None, stretches):
            if held:
                yield Piece(held, last=False)
            held = stretch
        yield Piece(held)

    def _by_position(self, lengths: list[int]) -> Iterator[tuple[int, Part, Piece]]:
        for at, (_, pieces) in enumerate(self._chosen("sources", PARTS[:1])):
            for part, piece in self._split.by_position(pieces, lengths[at]):
                yield at, part, piece

    def _changed(self) -> CorpusError:
        names = ", ".join(str(file.path) for file in self.files["sources"][:3])
        return CorpusError(f"The corpus ({names}) changed while it was read: start again.")

    def _cleaner(self) -> Cleaner:
        return Cleaner(self.options, self.template)

    def _records(self, role: str, on_read: Callable[[int], None] | None = None) -> Iterator[Record]:
        options = self.options
        for file in self.files[role]:
            yield from read_records(
                file,
                encoding=options.encoding,
                unit=options.unit,
                columns=self._columns,
                on_read=on_read,
            )

    # The scan

    def _scan(self, on_progress: OnProgress | None) -> Summary:
        cleaner = self._cleaner()
        fields = _Fields(self._columns)
        read, total = 0, sum(file.bytes for files in self.files.values() for file in files)

        def on_read(count: int) -> None:
            nonlocal read
            read += count
            if on_progress:
                on_progress(min(read, total), total)

        tallies = {}
        for role in self.files:
            tally = tallies[role] = Tally()
            for record in self._records(role, on_read):
                fields.see(record)
                self._count(role, tally, cleaner, record)
            self._codes[role] = tally.codes
        fields.refuse_unknown()
        for role, tally in tallies.items():
            if not tally.documents:
                raise self._nothing_left(role, cleaner)
        return self._summarize(tallies, cleaner)

    def _count(self, role: str, tally: Tally, cleaner: Cleaner, record: Record) -> None:
        values = cleaner.values(record)
        if values is None:
            return tally.drop()
        document = Measure()
        raw: list[Iterable[str]]
        if type(long := values.get("text")) is Stretches:
            raw = [_measured(long, cleaner, document)]
        else:
            text = cleaner.text(values)
            if text is None:
                return tally.drop()
            document.add(text)
            names = self._split_by
            raw = [(values.get(name) or text_of(record.get(name), name),) for name in names]
        index = self._split.index_of(raw)
        if not document.words:
            cleaner.dropped["empty"] += 1
            return tally.drop()
        tally.keep(index if role == "sources" else PARTS.index(role), document)

    def _is_of_sources(self, role: str) -> bool:
        """Whether a held-out file is one of the sources: parts of it have no hash of their own."""
        own = {file.sha256 for file in self.files["sources"]}
        return any(file.sha256 in own for file in self.files[role])

    def _summarize(self, tallies: dict[str, Tally], cleaner: Cleaner) -> Summary:
        dropped = cleaner.dropped
        sources = tallies["sources"]
        if sources.documents < FEW_DOCUMENTS:
            self._lengths = sources.lengths
            hashes, parts, leaked = self._measure_parts(sources)
            known = np.union1d(hashes, np.array([*sources.trained, *sources.held], np.uint64))
        else:
            hashes = known = np.sort(np.array(sources.trained, np.uint64))
            leaked = sources.take_back(hashes)
            self._codes["sources"] = sources.codes
            parts = Counter(PARTS[code] for code in sources.codes if code < len(PARTS))
        if leaked:
            dropped["also in training"] = leaked
        given = {role: tally for role, tally in tallies.items() if role != "sources"}
        parts.update({role: tally.documents for role, tally in given.items()})
        documents = sum(tally.documents for tally in tallies.values())
        return Summary(
            documents=documents,
            characters=sum(tally.characters for tally in tallies.values()),
            words=sum(tally.words for tally in tallies.values()),
            duplicates=documents - count_distinct(tallies.values()),
            dropped=dict(dropped.most_common()),
            parts={part: parts[part] for part in PARTS},
            repeated={
                role: tally.documents if self._is_of_sources(role) else tally.count_among(known)
                for role, tally in given.items()
            },
            files=[
                {
                    "role": role,
                    "path": str(file.path),
                    "format": file.format,
                    "sha256": file.sha256,
                    "bytes": file.bytes,
                }
                for role, files in self.files.items()
                for file in files
            ],
            fingerprint=self.fingerprint,
            template=self.template.text,
            options=self.options.model_dump(),
            split={
                "by": "hash" if self._lengths is None else "position",
                "fields": self._split_by,
                "ends": self._split.ends,
            },
            train_hashes=hashes,
        )

    def _measure_parts(self, sources: Tally) -> tuple[Hashes, Counter[str], int]:
        """Split by position: training hashes, documents by part, and how many leaked."""
        self._codes["sources"] = bytearray(
            0 if code < len(PARTS) else code for code in sources.codes
        )
        measures: dict[tuple[int, Part], Measure] = {}
        for at, part, piece in self._by_position(sources.lengths):
            measures.setdefault((at, part), Measure()).add(piece.text)
        train = {each.hash for (_, part), each in measures.items() if part == "train"}
        self._leaked = {
            (at, part)
            for (at, part), each in measures.items()
            if part != "train" and each.hash in train
        }
        for key in self._leaked:
            sources.characters -= measures[key].characters
            sources.words -= measures[key].words
        parts = Counter[str](part for at, part in measures if (at, part) not in self._leaked)
        hashes = np.sort(np.fromiter(train, np.uint64, len(train)))
        return hashes, parts, len(self._leaked)

    # Errors

    def _nothing_left(self, role: str, cleaner: Cleaner) -> CorpusError:
        which = "the corpus" if role == "sources" else f"the {role} files"
        files = self.files[role]
        names = ", ".join(str(file.path) for file in files[:3])
        if not cleaner.dropped:
            return CorpusError(f"There is no record in {names}: give a file that holds some.")
        if {*cleaner.dropped} == {"no text"} and all(file.format == "text" for file in files):
            return CorpusError(f"There is no text in {names}: give a file that is not empty.")
        reasons = ", ".join(f"{why}: {n:,}" for why, n in cleaner.dropped.most_common())
        return CorpusError(
            f"No document of {which} is left ({reasons}): loosen that template or cleaning step."
        )

    def _only_column(self) -> Template:
        files = self.files["sources"]
        tables = [file for file in files if file.format != "text"]
        if 0 < len(tables) < len(files):
            return self._column_beside_texts(tables)
        for record, file in self._first_records(files):
            if "text" in record:
                return Template("{text}")
            if len(record) == 1:
                return Template("{" + next(iter(record)) + "}")
            raise refuse_columns(file, list(record))
        return Template("{text}")

    def _column_beside_texts(self, tables: Sequence[SourceFile]) -> Template:
        for record, file in self._first_records(tables):
            if "text" not in record:
                raise CorpusError(
                    f"{file.path} is a table without a column text among plain texts: name the "
                    "texts alone, for example 'folder/*.txt', or the table alone."
                )
        return Template("{text}")

    def _first_records(self, files: Sequence[SourceFile]) -> Iterator[tuple[Record, SourceFile]]:
        """The first record of each file that holds anything."""
        for file in files:
            records = read_records(file, encoding=self.options.encoding, unit=self.options.unit)
            if record := next(filter(None, records), None):
                yield record, file

    def _fingerprint(self, whole_symbols: bool) -> str:
        # The format counts too: a renamed file may be read in another way.
        files = {
            role: [(file.sha256, file.format) for file in files]
            for role, files in self.files.items()
        }
        content = {"version": _VERSION, "options": self.options.model_dump(), "files": files}
        if whole_symbols:
            content["whole_symbols"] = True
        return hash_json(content)


class _Fields:
    """Collects field names, to report a wanted field that no record has."""

    def __init__(self, wanted: Iterable[str]):
        self._unseen = set(wanted)
        self._seen: dict[str, None] = {}

    def see(self, record: Record) -> None:
        if self._unseen:
            self._unseen.difference_update(record)
            if len(self._seen) < 100:
                self._seen.update(dict.fromkeys(record))

    def refuse_unknown(self) -> None:
        if self._unseen and self._seen:
            name = min(self._unseen)
            near = meant(difflib.get_close_matches(name, self._seen, n=1))
            raise CorpusError(
                f"No record has the field {name}: name one of {', '.join(self._seen)}{near}."
            )


def _measured(stretches: Stretches, cleaner: Cleaner, document: Measure) -> Iterator[str]:
    # The raw text passes through to be hashed for the split; its clean form is measured.
    for stretch in stretches:
        document.add(cleaner.trim(stretch))
        yield stretch


def _listed(names: Source | Sequence[Source]) -> list[Source]:
    return [names] if isinstance(names, (str, Path)) else list(names)
