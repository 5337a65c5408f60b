"""Counts of what tokens leave out, in bounded memory, to fit an escape code."""

from collections import Counter, defaultdict

from textwright.escape.division import CASES, MIXED, RESPELLED, Division, case_of, forms
from textwright.escape.ladder import Ladder, Table, count_spelling, fit_spelling

SPELLED = None  # stands for any spacing without a name of its own
MOST_STRINGS, LONGEST_STRING = 256, 16


class Seen:
    """The counts of fitting so far: at most `limit` triples, and as many surfaces."""

    def __init__(self, division: Division, limit: int) -> None:
        self.division = division
        self.limit = limit
        self.surfaces: Counter[tuple[str, int, str]] = Counter()
        self.triples: Counter[tuple[int, int, str | None]] = Counter()
        self.spelling: Table = defaultdict(Counter)
        self.case: Table = defaultdict(Counter)
        self.shapes: Table = defaultdict(Counter)
        self.gaps: Table = defaultdict(Counter)

    def add(self, document: str) -> None:
        division = self.division
        if division.tokenizer.lossless:
            return
        ids, surfaces, gaps = division.parse(document)
        marks = division.marks(ids, gaps)
        self.surfaces.update(zip(marks, ids, surfaces, strict=True))
        if not division.tiles:
            edge = division.edge
            self.triples.update(zip((edge, *ids), (*ids, edge), gaps, strict=True))
        if len(self.surfaces) > self.limit:
            self._fold_surfaces()
        if len(self.triples) > self.limit:
            self._name_strings()
            self._hand_down()

    def ladders(self) -> dict[str, Ladder]:
        self._fold_surfaces()
        # Each form of a known word once: this gives the language where no word was unknown.
        known = {(i, case) for (_, i), cases in self.case.items() for case in cases if case < MIXED}
        for form in {forms(self.division.texts[i])[case] for i, case in known}:
            count_spelling(self.spelling, form, 1)
        self._name_strings()
        pairs: Table = defaultdict(dict)
        for (left, right, gap), n in self.triples.items():
            pairs[left, right][gap] = n
        shapes = self.division.shapes
        return {
            "spelling": fit_spelling(self.spelling),
            "case": Ladder.fit(self.case, [lambda c: c[1:], lambda c: ()], CASES),
            "spacing": Ladder.fit(
                pairs,
                [lambda c: (shapes[c[0]], shapes[c[1]]), lambda c: ()],
                [SPELLED],
                self.shapes,
            ),
            "gaps": fit_spelling(self.gaps),
        }

    def _fold_surfaces(self) -> None:
        for (mark, i, surface), n in self.surfaces.items():
            if i == self.division.unknown_id:
                count_spelling(self.spelling, surface, n)
                continue
            case = case_of(self.division.texts[i], surface)
            self.case[mark, i][case] += n
            if case == RESPELLED:
                count_spelling(self.spelling, surface, n)
        self.surfaces.clear()

    def _name_strings(self) -> None:
        """Count strings that are not frequent as SPELLED."""
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
        """Move the rarest triples to the counts of their shapes."""
        shapes = self.division.shapes
        rare = 0
        while len(self.triples) > self.limit // 2:
            rare += 1
            for key in [key for key, n in self.triples.items() if n <= rare]:
                left, right, gap = key
                self.shapes[shapes[left], shapes[right]][gap] += self.triples.pop(key)
