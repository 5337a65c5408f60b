"""Odds from counts: in long contexts where these are worth their table, else in shorter ones.

A table holds, for each context, how often each symbol was met in it. Its odds are add-½ counts
over the symbols met there and one more, "new":

    symbol: (2n + 1) / (2N + k + 1)        new: 1 / (2N + k + 1)

(n: count of this symbol, N: of all symbols, k: number of different ones). "New" hands over to the
table of the next shorter context, and after the shortest all symbols are equally likely. All odds
are ratios of whole numbers, so that an arithmetic coder uses them exactly.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from textwright.escape.arithmetic import ArithmeticDecoder, SymbolWriter

Context = tuple[Any, ...]
Counts = dict[Any, int]
Table = dict[Context, Counts]


class Ladder:
    """Tables from the longest context to the empty one; see the module's docstring.

    last: the symbols that "new" in the empty context chooses among, all equally likely.
    """

    def __init__(self, tables: list[Table], last: Sequence[Any]) -> None:
        self.tables = tables
        self.last = list(last)
        self._writable = {*self.last, *(symbol for c in tables[-1].values() for symbol in c)}

    def can_write(self, symbol: Any) -> bool:
        """True if the symbol has odds in every context."""
        return symbol in self._writable

    @classmethod
    def fit(
        cls,
        counts: Table,
        shorten: Sequence[Callable[[Context], Context]],
        last: Sequence[Any],
        handed_down: Table | None = None,
    ) -> "Ladder":
        """Decide which contexts keep a table, longest first.

        counts: those of the longest contexts · shorten: functions from a rung's context to the
        next rung's · handed_down: counts that join the second rung as they are.
        """
        tables: list[Table] = []
        joining: Table = handed_down or {}
        for shorter in shorten:
            joined: Table = {context: dict(given) for context, given in joining.items()}
            whole: Table = {context: dict(given) for context, given in joining.items()}
            for context, given in counts.items():
                _add(whole, shorter(context), given.items())
            totals = {context: _total(given) for context, given in whole.items()}
            kept: Table = {}
            for context, given in counts.items():
                below = shorter(context)
                if _saves(given, whole[below], totals[below]):
                    kept[context] = given
                    _add(joined, below, ((symbol, 1) for symbol in given))
                else:
                    _add(joined, below, given.items())
            tables.append(kept)
            counts, joining = joined, {}
        tables.append(counts)
        return cls([_in_order(table) for table in tables], last)

    def write(self, writer: SymbolWriter, contexts: Sequence[Context], symbol: Any) -> None:
        for table, context in zip(self.tables, contexts, strict=True):
            if (counts := table.get(context)) is None:
                continue
            total = _total(counts)
            if symbol not in counts:
                writer.write(total - 1, 1, total)
                continue
            low = 0
            for other, n in counts.items():
                if other == symbol:
                    writer.write(low, 2 * n + 1, total)
                    return
                low += 2 * n + 1
        writer.write(self.last.index(symbol), 1, len(self.last))

    def read(self, reader: ArithmeticDecoder, contexts: Sequence[Context]) -> Any:
        for table, context in zip(self.tables, contexts, strict=True):
            if (counts := table.get(context)) is None:
                continue
            total = _total(counts)
            target, low = reader.target(total), 0
            for symbol, n in counts.items():
                if target < low + 2 * n + 1:
                    reader.take(low, 2 * n + 1, total)
                    return symbol
                low += 2 * n + 1
            reader.take(total - 1, 1, total)
        target = reader.target(len(self.last))
        reader.take(target, 1, len(self.last))
        return self.last[target]

    def to_json(self) -> list[list[Any]]:
        """One list for each rung: [[context, symbols, counts], …]."""
        return [
            [[list(context), list(counts), list(counts.values())] for context, counts in t.items()]
            for t in self.tables
        ]

    @classmethod
    def from_json(cls, rungs: list[list[Any]], last: Sequence[Any]) -> "Ladder":
        return cls(
            [
                {tuple(context): dict(zip(symbols, ns, strict=True)) for context, symbols, ns in r}
                for r in rungs
            ],
            last,
        )


def _total(counts: Counts) -> int:
    """The denominator of the odds."""
    return 2 * sum(counts.values()) + len(counts) + 1


def _add(table: Table, context: Context, pairs: Iterable[tuple[Any, int]]) -> None:
    counts = table.setdefault(context, {})
    for symbol, n in pairs:
        counts[symbol] = counts.get(symbol, 0) + n


def _saves(counts: Counts, shorter: Counts, total: int) -> bool:
    """True if an adaptive add-½ code for these counts beats the shorter context's fixed odds.

    The adaptive code starts from nothing; for each symbol it pays once for "new" and once for the
    shorter context. total: the shorter context's denominator.
    """
    price = {symbol: math.log2(total / (2 * shorter[symbol] + 1)) for symbol in counts}
    half = (len(counts) + 1) / 2
    learning = math.lgamma(sum(counts.values()) + half) - math.lgamma(half)
    learning -= sum(math.lgamma(n + 0.5) - math.lgamma(0.5) for n in counts.values())
    fixed = sum(n * price[symbol] for symbol, n in counts.items())
    return learning / math.log(2) + sum(price.values()) < fixed


def _in_order(table: Table) -> Table:
    """Frequent symbols first (a search meets them early), equals in a fixed order."""
    return {
        context: dict(sorted(counts.items(), key=lambda pair: (-pair[1], repr(pair[0]))))
        for context, counts in sorted(table.items())
        if counts
    }


# Spelling: a word is its bytes and an end, each given the two before it.
END = 256  # ends a word, and stands before its first byte
SYMBOLS = range(END + 1)


def fit_spelling(counts: Table) -> Ladder:
    """A ladder from what `count_spelling` counted."""
    return Ladder.fit(counts, [lambda context: context[1:], lambda context: ()], SYMBOLS)


def count_spelling(counts: Table, word: str, times: int) -> None:
    """Add a word that occurs `times` times; counts must create missing contexts."""
    before = (END, END)
    for byte in (*word.encode(), END):
        table = counts[before]
        table[byte] = table.get(byte, 0) + times
        before = (before[1], byte)


def write_spelling(ladder: Ladder, writer: SymbolWriter, word: str) -> None:
    """Write a word, its end included."""
    before = (END, END)
    for byte in (*word.encode(), END):
        ladder.write(writer, (before, before[1:], ()), byte)
        before = (before[1], byte)


def read_spelling(ladder: Ladder, reader: ArithmeticDecoder) -> str:
    """The word that was written."""
    spelled = bytearray()
    before = (END, END)
    while (byte := ladder.read(reader, (before, before[1:], ()))) != END:
        spelled.append(byte)
        before = (before[1], byte)
    return spelled.decode()
