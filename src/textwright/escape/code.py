"""The price in bits of what a lossy tokenizer threw away, by a code that restores the document.

A model that reads lower-cased words predicts less than one that reads bytes. Before the two are
compared, the first one pays for the rest of the document: how unknown words are spelled, which
letters are capitals, and what stands between the tokens. The code is fitted once on the training
split and then fixed. `bits` is the charge; `encode` and `decode` are the proof that the tokens and
that many bits restore the document, byte for byte.

All odds are add-½ counts of a symbol in a context, with a shorter context for symbols new there
(`Ladder`, in ladder.py, has the formula):

    spelling  byte, or end of word, given two bytes → one byte → none → 1/257 each
    case      lower, Capitalized, UPPER, mixed, respelled, given the token and what stands before
              it (its shape, and whether white space follows) → the token → none → 1/5 each
    spacing   the string between two tokens, given both → their shapes → none → spelled bytewise,
              by a spelling ladder of its own

The start and the end of the document count as tokens (the stop id) beside its first and last one.
A mixed token adds one bit for each letter that has a capital; a respelled one, whose letters are
not its token's even in another case, is spelled like an unknown word. A shape is the punctuation
mark itself, or one of: word, number, other, unknown, edge. Dropped punctuation counts as
spacing. Tokenizers pay only for what they lose: byte-level BPE for nothing, characters for the
spelling of unknown ones (and for case if lower-cased), words that keep their case not for case.

Fitting. Case and spacing are counted where they occur. The spelling is learned from unknown words,
each as often as it occurs, and from the known ones, each form once: so it fits the language even
where nothing in the training split was unknown. A context keeps a table of its own only where that
shortens the code: an adaptive code that starts from nothing and learns this table must beat the
shorter context's odds. Otherwise its counts join the shorter context's. Where it keeps its table,
the shorter context counts each of its symbols once, which is how often they will be needed there.

Memory is bounded by the vocabulary: beyond 16 · vocab_size + 65,536 different (token, token,
string) triples, the rarest (those seen once, then twice, …) are counted by shape alone until half
are left; of the strings, the 256 most frequent of at most 16 characters keep their names, and the
others are the symbol "spelled". Beyond as many different words, all are moved to the counts of
case and bytes.
"""

import gzip
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from textwright.errors import RunError
from textwright.escape.arithmetic import (
    ArithmeticDecoder,
    ArithmeticEncoder,
    BitCounter,
    SymbolWriter,
)
from textwright.escape.division import (
    CASES,
    MIXED,
    RESPELLED,
    Division,
    case_of,
    forms,
    has_capital,
)
from textwright.escape.fit import SPELLED, Seen
from textwright.escape.ladder import (
    SYMBOLS,
    Context,
    Ladder,
    read_spelling,
    write_spelling,
)
from textwright.files import replacing
from textwright.tokenizer import Tokenizer

FORMAT, VERSION = "textwright escape code", 1
GZIP = b"\x1f\x8b"
MOST_KNOWN = 1 << 20  # choices whose bits are kept
# The symbols that each ladder falls back to.
LAST = {"spelling": SYMBOLS, "case": CASES, "spacing": [SPELLED], "gaps": SYMBOLS}
Choice = TypeVar("Choice", bound=tuple[Any, ...])


class EscapeCode:
    """The code of one tokenizer, fitted on its training split; made by `fit` or `load`."""

    def __init__(self, tokenizer: Tokenizer, ladders: dict[str, Ladder]) -> None:
        self.tokenizer = tokenizer
        self.ladders = ladders
        self._spelling = ladders["spelling"]
        self._case = ladders["case"]
        self._spacing = ladders["spacing"]
        self._gaps = ladders["gaps"]
        self.division = Division(tokenizer)
        self._surface_bits: dict[tuple[str, int, str], float] = {}
        self._gap_bits: dict[tuple[int, int, str], float] = {}

    @classmethod
    def fit(cls, tokenizer: Tokenizer, documents: Iterable[str]) -> "EscapeCode":
        """Learn the tables from one pass over the training documents."""
        division = Division(tokenizer)
        seen = Seen(division, 16 * tokenizer.vocab_size + 65_536)
        for document in documents:
            seen.add(document)
        return cls(tokenizer, seen.ladders())

    def bits(self, document: str) -> float:
        """Bits that the document costs beyond its tokens; 0.0 where nothing was lost."""
        if self.tokenizer.lossless:
            return 0.0
        ids, surfaces, gaps = self.division.parse(document)
        edge = self.division.edge
        written = zip(self.division.marks(ids, gaps), ids, surfaces, strict=True)
        between = zip(chain([edge], ids), chain(ids, [edge]), gaps, strict=True)
        return math.fsum(
            chain(
                _bits_of(written, self._write_surface, self._surface_bits),
                _bits_of(between, self._write_gap, self._gap_bits),
            )
        )

    def code_length(self, document: str) -> int:
        """The exact number of bits that `encode` writes, before they are filled up to bytes.

        Never less than `bits` (rounding aside, below 1e-6), never more than 2 above it.
        """
        return len(self._encode(document)[1])

    def encode(self, document: str) -> tuple[list[int], bytes]:
        """(ids, side): with both, `decode` restores the document.

        side holds code_length bits, filled up with zeros to whole bytes; b"" if there are none.
        """
        ids, digits = self._encode(document)
        padded = digits.ljust(-(-len(digits) // 8) * 8, "0")
        return list(ids), bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))

    def decode(self, ids: Sequence[int], side: bytes) -> str:
        """The document that was encoded."""
        return self.read(ArithmeticDecoder("".join(f"{byte:08b}" for byte in side)), ids)

    def write(self, writer: SymbolWriter, document: str) -> Sequence[int]:
        """Write what the tokens lose of a document, and return the tokens' ids."""
        if self.tokenizer.lossless:
            return self.tokenizer.encode(document).tolist()
        ids, surfaces, gaps = self.division.parse(document)
        edge = self.division.edge
        marks = self.division.marks(ids, gaps)
        for i, (left, right) in enumerate(zip((edge, *ids), (*ids, edge), strict=True)):
            self._write_gap(writer, left, right, gaps[i])
            if i < len(ids):
                self._write_surface(writer, marks[i], right, surfaces[i])
        return ids

    def read(self, reader: ArithmeticDecoder, ids: Sequence[int]) -> str:
        """The document with these tokens, of which `write` wrote the rest."""
        if self.tokenizer.lossless:
            return self.tokenizer.decode(ids)
        edge = self.division.edge
        division = self.division
        # Where nothing stands between tokens, the marks follow from the tokens alone.
        marks = division.marks(ids, []) if division.tiles else None
        pieces = []
        for i, (left, right) in enumerate(zip((edge, *ids), (*ids, edge), strict=True)):
            gap = self._read_gap(reader, left, right)
            pieces.append(gap)
            if i < len(ids):
                mark = marks[i] if marks else division.mark(gap, left)
                pieces.append(self._read_surface(reader, mark, right))
        return "".join(pieces)

    def _encode(self, document: str) -> tuple[Sequence[int], str]:
        encoder = ArithmeticEncoder()
        ids = self.write(encoder, document)
        return ids, encoder.finish()

    def _write_surface(self, writer: SymbolWriter, mark: str, id: int, surface: str) -> None:
        if id == self.division.unknown_id:
            write_spelling(self._spelling, writer, surface)
        elif self.division.loses_case:
            token = self.division.texts[id]
            case = case_of(token, surface)
            self._case.write(writer, ((mark, id), (id,), ()), case)
            if case == MIXED:
                for small, letter in zip(token, surface, strict=True):
                    if has_capital(small):
                        writer.write(int(letter != small), 1, 2)
            elif case == RESPELLED:
                write_spelling(self._spelling, writer, surface)

    def _read_surface(self, reader: ArithmeticDecoder, mark: str, id: int) -> str:
        if id == self.division.unknown_id:
            return read_spelling(self._spelling, reader)
        token = self.division.texts[id]
        if not self.division.loses_case:
            return token
        case = self._case.read(reader, ((mark, id), (id,), ()))
        if case == RESPELLED:
            return read_spelling(self._spelling, reader)
        if case != MIXED:
            return forms(token)[case]
        letters = []
        for small in token:
            if has_capital(small):
                capital = reader.target(2)
                reader.take(capital, 1, 2)
                letters.append(small.upper() if capital else small)
            else:
                letters.append(small)
        return "".join(letters)

    def _gap_contexts(self, left: int, right: int) -> tuple[Context, Context, Context]:
        shapes = self.division.shapes
        return (left, right), (shapes[left], shapes[right]), ()

    def _write_gap(self, writer: SymbolWriter, left: int, right: int, gap: str) -> None:
        if self.division.tiles:
            return
        contexts = self._gap_contexts(left, right)
        if self._spacing.can_write(gap):
            self._spacing.write(writer, contexts, gap)
        else:
            self._spacing.write(writer, contexts, SPELLED)
            write_spelling(self._gaps, writer, gap)

    def _read_gap(self, reader: ArithmeticDecoder, left: int, right: int) -> str:
        if self.division.tiles:
            return ""
        gap = self._spacing.read(reader, self._gap_contexts(left, right))
        return read_spelling(self._gaps, reader) if gap is SPELLED else str(gap)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one JSON file, beside it first, then renamed; compressed where it ends in .gz."""
        path = Path(path)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "tokenizer": self.tokenizer.fingerprint,
            **{name: ladder.to_json() for name, ladder in self.ladders.items()},
        }
        written = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        if path.suffix == ".gz":
            written = gzip.compress(written, mtime=0)
        with replacing(path) as beside:
            beside.write_bytes(written)

    @classmethod
    def load(cls, path: str | os.PathLike[str], tokenizer: Tokenizer) -> "EscapeCode":
        """Read what `save` wrote, for the tokenizer it was fitted with.

        Raises RunError where the file is missing, damaged, of another version or tokenizer.
        """
        again = "Restore it from a copy, or fit it again."
        try:
            written = Path(path).read_bytes()
            content = json.loads(gzip.decompress(written) if written[:2] == GZIP else written)
            if content["format"] != FORMAT:
                raise ValueError("its format is another one")
            version, fingerprint = content["version"], content["tokenizer"]
            if version == VERSION:
                ladders = {
                    name: Ladder.from_json(content[name], last) for name, last in LAST.items()
                }
        except FileNotFoundError:
            raise RunError(f"No escape code at {path}. {again}") from None
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} is damaged, or not an escape code ({error}). {again}"
            ) from error
        if version != VERSION:
            raise RunError(
                f"{path} is an escape code of version {version}; this textwright reads version "
                f"{VERSION}. Fit it again."
            )
        if fingerprint != tokenizer.fingerprint:
            raise RunError(f"{path} was fitted for another tokenizer. Fit it again for this one.")
        return cls(tokenizer, ladders)


def _bits_of(
    choices: Iterable[Choice], write: Callable[..., None], known: dict[Choice, float]
) -> Iterator[float]:
    """The bits of each choice, which `write` writes. known: those of earlier ones, kept for more
    and forgotten when they are too many."""
    for choice in choices:
        if choice not in known:
            if len(known) >= MOST_KNOWN:
                known.clear()
            counter = BitCounter()
            write(counter, *choice)
            known[choice] = counter.bits
        yield known[choice]
