import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable
from itertools import combinations, product

import pytest

from textwright import grammar
from textwright.errors import CorpusError
from textwright.grammar import Facts, Grammar, Rule, Text

TABLE = Grammar.default().table

NOTES = list(grammar.documents(4000, seed=1))

PLUMS = """
fact fruit | name | many  | taste | begin
2          | plum | plums | sour  | {wash}
1          | fig  | figs  | sweet | Peel

fact spice by fruit.taste | taste | name
3                         | sour  | sugar
1                         | sour  | honey
1                         | sweet | lemon

note
1 | {so} <fruit>{fruit.begin} {some} {fruit.many}. <spice>{fruit} and {spice}{end}
1 | <fruit><spice>Just {some} {spice}, {fruit.many}.

so
1 | So
2 | Now

wash
1 | Wash
5 | Rinse, then dry,

some
1 | 2
2 | 34

end
1 | .
1 |  for two.
"""


def enumerate_derivations(source: Grammar) -> list[tuple[str, float]]:
    """(document, probability) of every derivation."""
    found = []
    todo: list[tuple[str, float, Text, Facts]] = [("", 1.0, source.first, {})]
    while todo:
        written, odds, items, facts = todo.pop()
        if not items:
            found.append((written, odds))
        elif isinstance(items[0], str):
            todo.append((written + items[0], odds, items[1:], facts))
        else:
            for share, rest, drawn in source.expand(items, facts):
                todo.append((written, odds * share, rest, drawn))
    return found


def truncated_table(two: set[str]) -> str:
    """TABLE with two options for the blocks named, one for the others."""
    blocks = [block.splitlines() for block in TABLE.strip().split("\n\n")]
    kept = [block[: 3 if block[0].split(" | ")[0] in two else 2] for block in blocks]
    return "\n\n".join("\n".join(block) for block in kept)


SHORT = truncated_table({"note", "plan", "root", "few", "cook", "care", "end", "oil", "fact dish"})


def is_ambiguous(source: Grammar) -> bool:
    """True if any document that the grammar can write has two derivations.

    A state is what a derivation still has to write. Two derivations of one document differ at some
    choice; from there on the pair must write the same text. So: from every state, follow every
    pair of different options, both sides in step, until their texts differ or both have ended.
    """
    State = tuple[Text, Facts]

    def to_text(items: Text, facts: Facts) -> list[State]:
        """The states that begin with text, or are at their end, one for each way to get there."""
        items = items[1:] if items and items[0] == "" else items
        if not items or isinstance(items[0], str):
            return [(items, facts)]
        return [s for _, rest, drawn in source.expand(items, facts) for s in to_text(rest, drawn)]

    def key(state: State) -> tuple:
        return state[0], tuple(id(row) for row in state[1].values())

    def alike(states: Iterable[tuple[State, State]]) -> list[tuple[State, State]]:
        """The pairs that may still write the same text."""
        return [
            (left, right)
            for left, right in states
            if bool(left[0]) == bool(right[0])
            and (not left[0] or left[0][0].startswith(right[0][0][: len(left[0][0])]))
        ]

    seen_alone, seen_pairs = set(), set()
    alone = to_text(source.first, {})
    pairs = alike(combinations(alone, 2))
    while alone:
        items, facts = alone.pop()
        if items and key((items, facts)) not in seen_alone:
            seen_alone.add(key((items, facts)))
            after = to_text(items[1:], facts)
            alone += after
            pairs += alike(combinations(after, 2))
    while pairs:
        left, right = pairs.pop()
        if not left[0]:
            return True
        if (key(left), key(right)) not in seen_pairs:
            seen_pairs.add((key(left), key(right)))
            (a, *left_rest), (b, *right_rest) = left[0], right[0]
            common = min(len(a), len(b))
            lefts = to_text((a[common:], *left_rest), left[1])
            pairs += alike(product(lefts, to_text((b[common:], *right_rest), right[1])))
    return False


# Dishes, guests and flavors that differ in more than their name.
FEWER_FACTS = re.sub(
    r".*(onions|mushrooms|leeks|beans|cabbage|chicken|pears|plums|three|five|six|eight"
    r"|pepper|parsley|lemon|chili|ginger|vanilla) *(\|.*)?\n",
    "",
    TABLE,
)


def test_no_note_has_two_derivations():
    assert len(FEWER_FACTS) < len(TABLE)
    assert not is_ambiguous(Grammar(FEWER_FACTS))


@pytest.mark.slow
def test_no_note_of_the_whole_table_has_two_derivations():
    assert not is_ambiguous(Grammar.default())


@pytest.mark.parametrize("table", ["note\n1 | a{b}\n1 | ab\n\nb\n1 | b\n1 | c", "a\n1 | x\n1 | x"])
def test_the_proof_finds_an_ambiguity(table):
    assert is_ambiguous(Grammar(table))


@pytest.mark.parametrize("table", [PLUMS, SHORT])
def test_closed_forms_equal_enumeration(table):
    source = Grammar(table)
    every = enumerate_derivations(source)
    assert len(every) == len(dict(every)) > 20
    assert math.fsum(p for _, p in every) == pytest.approx(1, abs=1e-12)
    exact = source.measures()
    assert exact.entropy == pytest.approx(-math.fsum(p * math.log(p) for _, p in every), rel=1e-12)
    assert exact.characters == pytest.approx(math.fsum(p * len(d) for d, p in every))
    assert exact.words == pytest.approx(math.fsum(p * len(d.split()) for d, p in every))
    tokens = math.fsum(p * len(re.findall(r"\w+|[^\w\s]", d)) for d, p in every)
    assert exact.tokens == pytest.approx(tokens)
    for document, p in every[:: len(every) // 20]:
        assert source.log_probability(document) == pytest.approx(math.log(p), rel=1e-12)


def test_entropy_of_the_whole_table_equals_the_slope_of_its_power_sum():
    # Z(s), the sum of p^s over all notes, is a product along each text; entropy is -Z'(1), which a
    # complex step gives without rounding. No part of this is how measures() gets there.
    source, s = Grammar.default(), 1 + 1e-30j
    known: dict[tuple, complex] = {}

    def power_sum(items: Text, facts: Facts) -> complex:
        if not items:
            return 1
        if isinstance(items[0], str):
            return power_sum(items[1:], facts)
        if isinstance(items[0], Rule) and len(items) > 1:
            # What a rule writes and what follows are independent, given the facts.
            return power_sum(items[:1], facts) * power_sum(items[1:], facts)
        key = (items, *map(id, facts.values()))
        if key not in known:
            known[key] = sum(p**s * power_sum(*rest) for p, *rest in source.expand(items, facts))
        return known[key]

    assert power_sum(source.first, {}).real == pytest.approx(1, abs=1e-12)
    assert -power_sum(source.first, {}).imag / 1e-30 == pytest.approx(
        grammar.measures().entropy, rel=1e-12
    )


def test_derivations_of_one_document_add_up():
    ambiguous = Grammar("note\n1 | a{b}\n1 | ab\n\nb\n1 | b\n1 | c")
    assert ambiguous.log_probability("ab") == pytest.approx(math.log(0.75))
    assert len(ambiguous.derivations("ab")) == 2


def test_sampled_notes_agree_with_the_exact_entropy_and_lengths():
    # Three means of 1,000 draws, each within 5 standard errors: a false alarm in 500,000.
    exact = grammar.measures()
    for values, mean in [
        ([-grammar.log_probability(note) for note in NOTES[:1000]], exact.entropy),
        ([float(len(note)) for note in NOTES[:1000]], exact.characters),
        ([float(len(note.split())) for note in NOTES[:1000]], exact.words),
    ]:
        error = statistics.stdev(values) / math.sqrt(len(values))
        assert abs(statistics.mean(values) - mean) < 5 * error


def test_each_note_is_drawn_as_often_as_its_probability():
    source = Grammar(PLUMS)
    draws = Counter(source.documents(20_000, seed=3))
    for document, p in enumerate_derivations(source):
        expected = 20_000 * p
        assert abs(draws[document] - expected) < 5.5 * math.sqrt(expected) + 1


def test_text_the_grammar_cannot_write_has_no_probability():
    note = NOTES[0]
    for text in ["", note[:-1], note + " ", note.lower(), note.replace("a", "e", 1)]:
        assert grammar.log_probability(text) == -math.inf


def test_notes_are_short_varied_and_of_few_words():
    assert len(set(NOTES)) > 3990
    assert all(20 <= len(note.split()) <= 60 for note in NOTES)
    assert len({word for note in NOTES for word in re.findall(r"\w+", note.lower())}) <= 200


def test_dish_guests_and_flavor_come_back_at_the_end():
    for note in NOTES[:200]:
        first, *_, last = note.rstrip(".").split(". ")
        dish, guests = re.search(r"(\w+) for (\w+)$", first).groups()
        figure = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "eight": 8}[guests]
        assert dish in last and re.search(rf"\b({guests}|{figure})\b", last)
        flavor = re.search(r"(?:some|a little|plenty of) (\w+)", note)[1]
        assert flavor in last


def test_documents_depend_on_the_seed_alone():
    assert list(grammar.documents(5, seed=1)) == NOTES[:5]
    assert list(grammar.documents(5, seed=2)) != NOTES[:5]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("note\n1 | a {missing}", "'missing' before defining"),
        ("fact x | name\n1 | a\n\nnote\n1 | {x}", "'x' before defining or drawing"),
        ("note\n1 | a {note}", "leads back to itself"),
        ("note\n1 | a {b", "Cannot read"),
        ("note\nx | a", "Cannot read"),
    ],
)
def test_a_table_that_cannot_work_is_refused_with_a_reason(table, reason):
    with pytest.raises(CorpusError, match=reason):
        Grammar(table)
