"""What a lossy tokenizer threw away, priced in bits by a code that gives the document back.

A model that reads lower-cased words predicts less than one that reads bytes. Before the two are
compared, the first one pays for the rest of the document: how unknown words are spelled, which
letters are capitals, and what stands between the tokens. The code is fitted once on the training
split and then fixed. `bits` is the charge; `encode` and `decode` are the proof that the tokens and
that many bits restore the document, byte for byte.

All odds are add-½ counts of a symbol in a context, with a shorter context for what is new there
(`Ladder`, in ladder.py, has the formula):

    spelling  byte, or end of word, given two bytes → one byte → none → 1/257 each
    case      lower, Capitalized, UPPER, mixed, respelled, given the token → none → 1/5 each
    spacing   the string between two tokens, given both → their shapes → none → spelled bytewise,
              by a spelling ladder of its own

The start and the end of the document stand as tokens beside its first and last one (the stop id).
A mixed token adds one bit for each letter that has a capital; a respelled one, whose letters are
not its token's even in another case, is spelled like an unknown word. A shape is the punctuation
mark itself, or one of: word, number, other, unknown, edge. What punctuation="drop" dropped is
spacing. Tokenizers pay only for what they lose: byte-level BPE nothing, characters the spelling of
unknown ones (and case if they are lower-cased), words that keep their case no case.

Fitting. Case and spacing are counted where they occur. The spelling is learned from unknown words,
each as often as it occurs, and from the known ones, each form once: so it knows the language even
where nothing in the training split was unknown. A context keeps a table of its own only where that
shortens the code: an adaptive code that starts from nothing and learns this table must beat the
shorter context's odds. Otherwise its counts join the shorter context's; of a context that keeps
its table, the shorter one counts each symbol once, which is how often it will be asked.

Memory is bounded by the vocabulary: beyond 16 · vocab_size + 65,536 different (token, token,
string) triples, the rarest (those seen once, then twice, …) are handed to their shapes until half
are left; of the strings, the 256 most frequent of at most 16 characters keep their names, and the
others are the symbol "spelled". Different words seen are folded into the byte counts likewise.
"""

import gzip
import json
import math
import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from textwright.arithmetic import ArithmeticDecoder, ArithmeticEncoder, Cost, Writer
from textwright.errors import RunError
from textwright.ladder import (
    SYMBOLS,
    Context,
    Ladder,
    Table,
    count_spelling,
    fit_spelling,
    read_spelling,
    write_spelling,
)
from textwright.tokenizer import Tokenizer

FORMAT, VERSION = "textwright escape code", 1
GZIP = b"\x1f\x8b"
CASES = LOWER, CAPITALIZED, UPPER, MIXED, RESPELLED = range(5)
SPELLED = None  # the spacing that has no name
MOST_STRINGS, LONGEST_STRING = 256, 16
# What each ladder falls back to.
LAST = {"spelling": SYMBOLS, "case": CASES, "spacing": [SPELLED], "gaps": SYMBOLS}


def _forms(token: str) -> list[str]:
    """The token in the letter case of each class that leaves nothing else to say."""
    first = next((i for i, letter in enumerate(token) if letter.upper() != letter), 0)
    capitalized = token[:first] + token[first : first + 1].upper() + token[first + 1 :]
    return [token, capitalized, token.upper()]


def _has_capital(letter: str) -> bool:
    """One letter for one letter: not ß."""
    return letter.upper() != letter and len(letter.upper()) == 1


def _case_of(token: str, surface: str) -> int:
    """The first class that fits how the document writes the token."""
    forms = _forms(token)
    if surface in forms:
        return forms.index(surface)
    if len(surface) == len(token) and all(
        s == t or (_has_capital(t) and s == t.upper()) for s, t in zip(surface, token, strict=True)
    ):
        return MIXED
    return RESPELLED


def _shape(token: str) -> str:
    if len(token) == 1 and token.isascii() and not token.isalnum():
        return token
    if any(letter.isdigit() for letter in token[:2]):
        return "number"
    return "word" if any(letter.isalpha() for letter in token[:2]) else "other"


class EscapeCode:
    """The code of one tokenizer, fitted on its training split; made by `fit` or `load`."""

    def __init__(self, tokenizer: Tokenizer, ladders: dict[str, Ladder]) -> None:
        self._tokenizer = tokenizer
        self._ladders = ladders
        self._spelling = ladders["spelling"]
        self._case = ladders["case"]
        self._spacing = ladders["spacing"]
        self._gaps = ladders["gaps"]
        self._layout = _Layout(tokenizer)
        self._surface_bits: dict[tuple[int, str], float] = {}
        self._gap_bits: dict[tuple[int, int, str], float] = {}

    @classmethod
    def fit(cls, tokenizer: Tokenizer, documents: Iterable[str]) -> "EscapeCode":
        """Learn the tables from one pass over the training documents."""
        layout = _Layout(tokenizer)
        seen = _Seen(layout, 16 * tokenizer.vocab_size + 65_536)
        for document in documents:
            seen.add(document)
        return cls(tokenizer, seen.ladders())

    def bits(self, document: str) -> float:
        """What the document costs beyond its tokens; 0.0 where nothing was lost."""
        if self._tokenizer.lossless:
            return 0.0
        ids, surfaces, gaps = self._layout.parse(document)
        edge = self._layout.edge
        known = self._surface_bits, self._gap_bits
        if max(len(known[0]), len(known[1])) > 1 << 20:
            known[0].clear()
            known[1].clear()
        total = []
        for key in zip(ids, surfaces, strict=True):
            if key not in known[0]:
                cost = Cost()
                self._write_surface(cost, *key)
                known[0][key] = cost.bits
            total.append(known[0][key])
        for gap in zip((edge, *ids), (*ids, edge), gaps, strict=True):
            if gap not in known[1]:
                cost = Cost()
                self._write_gap(cost, *gap)
                known[1][gap] = cost.bits
            total.append(known[1][gap])
        return math.fsum(total)

    def code_length(self, document: str) -> int:
        """The exact number of bits that `encode` writes, before they are filled up to bytes.

        Never less than `bits` (rounding aside, below 1e-6), never more than 2 above it.
        """
        return len(self._encode(document)[1])

    def encode(self, document: str) -> tuple[list[int], bytes]:
        """(ids, side): with both, `decode` restores the document.

        side holds code_length bits, filled up with zeros to whole bytes; none, b"".
        """
        ids, digits = self._encode(document)
        padded = digits.ljust(-(-len(digits) // 8) * 8, "0")
        return list(ids), bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))

    def decode(self, ids: Sequence[int], side: bytes) -> str:
        """The document that was encoded."""
        if self._tokenizer.lossless:
            return self._tokenizer.decode(ids)
        edge = self._layout.edge
        reader = ArithmeticDecoder("".join(f"{byte:08b}" for byte in side))
        pieces = []
        for left, right in zip((edge, *ids), (*ids, edge), strict=True):
            pieces.append(self._read_gap(reader, left, right))
            if len(pieces) <= 2 * len(ids):
                pieces.append(self._read_surface(reader, right))
        return "".join(pieces)

    def _encode(self, document: str) -> tuple[Sequence[int], str]:
        if self._tokenizer.lossless:
            return self._tokenizer.encode(document).tolist(), ""
        ids, surfaces, gaps = self._layout.parse(document)
        edge = self._layout.edge
        encoder = ArithmeticEncoder()
        for i, (left, right) in enumerate(zip((edge, *ids), (*ids, edge), strict=True)):
            self._write_gap(encoder, left, right, gaps[i])
            if i < len(ids):
                self._write_surface(encoder, right, surfaces[i])
        return ids, encoder.finish()

    def _write_surface(self, writer: Writer, id: int, surface: str) -> None:
        if id == self._layout.unknown_id:
            write_spelling(self._spelling, writer, surface)
        elif self._layout.loses_case:
            token = self._layout.texts[id]
            case = _case_of(token, surface)
            self._case.write(writer, ((id,), ()), case)
            if case == MIXED:
                for small, letter in zip(token, surface, strict=True):
                    if _has_capital(small):
                        writer.write(int(letter != small), 1, 2)
            elif case == RESPELLED:
                write_spelling(self._spelling, writer, surface)

    def _read_surface(self, reader: ArithmeticDecoder, id: int) -> str:
        if id == self._layout.unknown_id:
            return read_spelling(self._spelling, reader)
        token = self._layout.texts[id]
        if not self._layout.loses_case:
            return token
        case = self._case.read(reader, ((id,), ()))
        if case == RESPELLED:
            return read_spelling(self._spelling, reader)
        if case != MIXED:
            return _forms(token)[case]
        letters = []
        for small in token:
            if _has_capital(small):
                capital = reader.target(2)
                reader.take(capital, 1, 2)
                letters.append(small.upper() if capital else small)
            else:
                letters.append(small)
        return "".join(letters)

    def _gap_contexts(self, left: int, right: int) -> tuple[Context, Context, Context]:
        shapes = self._layout.shapes
        return (left, right), (shapes[left], shapes[right]), ()

    def _write_gap(self, writer: Writer, left: int, right: int, gap: str) -> None:
        if self._layout.tiles:
            return
        contexts = self._gap_contexts(left, right)
        if self._spacing.knows(gap):
            self._spacing.write(writer, contexts, gap)
        else:
            self._spacing.write(writer, contexts, SPELLED)
            write_spelling(self._gaps, writer, gap)

    def _read_gap(self, reader: ArithmeticDecoder, left: int, right: int) -> str:
        if self._layout.tiles:
            return ""
        gap = self._spacing.read(reader, self._gap_contexts(left, right))
        return read_spelling(self._gaps, reader) if gap is SPELLED else str(gap)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one JSON file, beside it first, then renamed; compressed where it ends in .gz."""
        path = Path(path)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "tokenizer": self._tokenizer.fingerprint,
            **{name: ladder.to_json() for name, ladder in self._ladders.items()},
        }
        written = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        if path.suffix == ".gz":
            written = gzip.compress(written, mtime=0)
        beside = path.with_name(path.name + ".tmp")
        beside.write_bytes(written)
        beside.replace(path)

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
                raise ValueError("it is something else")
            version, fingerprint = content["version"], content["tokenizer"]
            if version == VERSION:
                ladders = {
                    name: Ladder.from_json(content[name], last) for name, last in LAST.items()
                }
        except FileNotFoundError:
            raise RunError(f"No escape code at {path}. {again}") from None
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is damaged, or no escape code ({error}). {again}") from error
        if version != VERSION:
            raise RunError(
                f"{path} is an escape code of version {version}; this textwright reads version "
                f"{VERSION}. Fit it again."
            )
        if fingerprint != tokenizer.fingerprint:
            raise RunError(f"{path} was fitted for another tokenizer. Fit it again for this one.")
        return cls(tokenizer, ladders)


class _Layout:
    """How a tokenizer divides a document, and what it loses of it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.unknown_id = tokenizer.unknown_id
        self.edge = tokenizer.stop_id
        self.bytewise = tokenizer.kind == "bpe"
        # Their tokens stand side by side, white space included: there is nothing in between.
        self.tiles = tokenizer.kind in ("bpe", "char")
        ids = range(tokenizer.vocab_size)
        self.texts = (
            [tokenizer.decode([i]) for i in ids] if self.bytewise else tokenizer.tokens(ids)
        )
        self.texts[self.edge] = ""
        self.shapes = [_shape(text) for text in self.texts]
        self.shapes[self.edge] = "edge"
        if self.unknown_id is not None:
            self.shapes[self.unknown_id] = "unknown"
        self.loses_case = tokenizer._treatment.lowercase

    def parse(self, document: str) -> tuple[Sequence[int], list[str], list[str]]:
        """(ids (T,), what the document writes for each, the T + 1 strings around them).

        Put together again, they are the document. A character that tokens share (a letter that
        lower-cases to two, bytes of one) is the last one's.
        """
        spans = self.tokenizer.spans(document)
        if not spans:
            return [], [], [document]
        ids, starts, ends = zip(*spans, strict=True)
        following = (*starts[1:], len(document))
        if self.tiles:
            ends = following
            starts = (0, *starts[1:])
        else:
            ends = tuple(map(min, ends, following))
        surfaces = [document[a:b] for a, b in zip(starts, ends, strict=True)]
        gaps = [document[a:b] for a, b in zip((0, *ends), (*starts, len(document)), strict=True)]
        return ids, surfaces, gaps


class _Seen:
    """What fitting has counted so far; at most `limit` triples, and as many surfaces."""

    def __init__(self, layout: _Layout, limit: int) -> None:
        self.layout = layout
        self.limit = limit
        self.surfaces: Counter[tuple[int, str]] = Counter()
        self.triples: Counter[tuple[int, int, str | None]] = Counter()
        self.spelling: Table = defaultdict(Counter)
        self.case: Table = defaultdict(Counter)
        self.shapes: Table = defaultdict(Counter)
        self.gaps: Table = defaultdict(Counter)

    def add(self, document: str) -> None:
        layout = self.layout
        if layout.tokenizer.lossless:
            return
        ids, surfaces, gaps = layout.parse(document)
        self.surfaces.update(zip(ids, surfaces, strict=True))
        if not layout.tiles:
            edge = layout.edge
            self.triples.update(zip((edge, *ids), (*ids, edge), gaps, strict=True))
        if len(self.surfaces) > self.limit:
            self._fold_surfaces()
        if len(self.triples) > self.limit:
            self._name_strings()
            self._hand_down()

    def ladders(self) -> dict[str, Ladder]:
        self._fold_surfaces()
        for (i,), classes in self.case.items():
            # Each form of a known word once: the language, where no word was unknown.
            for form in {_forms(self.layout.texts[i])[c] for c in classes if c < MIXED}:
                count_spelling(self.spelling, form, 1)
        self._name_strings()
        pairs: Table = defaultdict(dict)
        for (left, right, gap), n in self.triples.items():
            pairs[left, right][gap] = n
        shapes = self.layout.shapes
        return {
            "spelling": fit_spelling(self.spelling),
            "case": Ladder.fit(self.case, [lambda c: ()], CASES),
            "spacing": Ladder.fit(
                pairs,
                [lambda c: (shapes[c[0]], shapes[c[1]]), lambda c: ()],
                [SPELLED],
                self.shapes,
            ),
            "gaps": fit_spelling(self.gaps),
        }

    def _fold_surfaces(self) -> None:
        for (i, surface), n in self.surfaces.items():
            if i == self.layout.unknown_id:
                count_spelling(self.spelling, surface, n)
                continue
            case = _case_of(self.layout.texts[i], surface)
            self.case[i,][case] += n
            if case == RESPELLED:
                count_spelling(self.spelling, surface, n)
        self.surfaces.clear()

    def _name_strings(self) -> None:
        """Strings that are not frequent lose their names."""
        totals: Counter[str] = Counter()
        for source in (
            ((gap, n) for (_, _, gap), n in self.triples.items()),
            (pair for counts in self.shapes.values() for pair in counts.items()),
        ):
            for gap, n in source:
                if gap is not SPELLED and len(gap) <= LONGEST_STRING:
                    totals[gap] += n
        ranked = sorted(totals.items(), key=lambda pair: (-pair[1], pair[0]))
        named = {gap for gap, _ in ranked[:MOST_STRINGS]} | {SPELLED}
        for key in [key for key in self.triples if key[2] not in named]:
            left, right, gap = key
            n = self.triples.pop(key)
            assert gap is not SPELLED
            self.triples[left, right, SPELLED] += n
            count_spelling(self.gaps, gap, n)
        for counts in self.shapes.values():
            for gap in [gap for gap in counts if gap not in named]:
                n = counts.pop(gap)
                counts[SPELLED] = counts.get(SPELLED, 0) + n
                count_spelling(self.gaps, gap, n)

    def _hand_down(self) -> None:
        """The rarest triples are counted with their shapes only."""
        shapes = self.layout.shapes
        rare = 0
        while len(self.triples) > self.limit // 2:
            rare += 1
            for key in [key for key, n in self.triples.items() if n <= rare]:
                left, right, gap = key
                self.shapes[shapes[left], shapes[right]][gap] += self.triples.pop(key)
