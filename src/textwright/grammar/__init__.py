"""A corpus with known entropy: a grammar that writes short kitchen notes and gives their odds.

A model's mean loss on fresh notes cannot go below the entropy of the grammar: a loss below it
proves a leak, a loss far above it a bug. The notes look back over their whole length on purpose.
The dish, its flavor and the guests are drawn once a note and come back in its last sentence, and
pronouns and verbs agree with the dish, so that models can be compared by how far back they
remember.

How to read notes.txt. `fact` opens a list of things, one of which is drawn for a note; its columns
are fields. `fact B by A.field` admits only the rows whose first field equals that field of the
fact A, drawn before; its second field is then its name. Any other word opens a rule, a list of
texts of which one is written. The number that begins a line is its weight: its odds are that number
over the sum of the weights in its list. In a text, `<fact>` draws a fact (in the first rule only),
`{fact}` writes its name (its first field), `{fact.field}` another field, and `{rule}` writes one
text of the rule. No rule leads back to itself, so the notes are finitely many, and all sums here
are closed forms.

No note can be derived in two ways (tests/grammar/test_grammar.py proves it), so the entropy of
derivations is the entropy of notes.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import accumulate
from random import Random
from typing import Generic, NamedTuple, TypeVar

from textwright.errors import CorpusError


class Draw(NamedTuple):
    """`<fact>`: draw the fact."""

    fact: str


class Value(NamedTuple):
    """`{fact.field}`: write a field of the fact that was drawn."""

    fact: str
    field: str


class Rule(NamedTuple):
    """`{rule}`: write one of the rule's texts."""

    name: str


Item = str | Draw | Value | Rule
Text = tuple[Item, ...]
Row = dict[str, Text]  # a fact's row: field → text
Facts = dict[str, Row]  # what has been drawn so far
Option = TypeVar("Option", Text, Row)


@dataclass(frozen=True)
class Choice(Generic[Option]):
    """A list to choose from: the texts of a rule, or the rows of a fact."""

    weights: tuple[int, ...]
    options: tuple[Option, ...]

    def shares(self) -> Iterator[tuple[float, Option]]:
        """(probability, option) of each."""
        total = sum(self.weights)
        for weight, option in zip(self.weights, self.options, strict=True):
            yield weight / total, option


@dataclass(frozen=True)
class Measures:
    """Exact expected values for one document.

    entropy: nats, the document's ending included · characters · words: stretches without white
    space · tokens: words and punctuation marks, each mark on its own. A model has one target more
    than tokens or characters, the stop; divide by (tokens + 1) for nats a target.
    """

    entropy: float = 0.0
    characters: float = 0.0
    words: float = 0.0
    tokens: float = 0.0

    def plus(self, other: "Measures", times: float = 1.0) -> "Measures":
        return Measures(
            self.entropy + times * other.entropy,
            self.characters + times * other.characters,
            self.words + times * other.words,
            self.tokens + times * other.tokens,
        )


@dataclass(eq=False)
class Grammar:
    """A grammar, read from its table and checked. `Grammar.default()` is the embedded one.

    Raises CorpusError where the table uses an undefined name, or a rule leads back to itself.
    """

    table: str
    rules: dict[str, Choice[Text]] = field(default_factory=dict, init=False)
    facts: dict[str, Choice[Row]] = field(default_factory=dict, init=False)
    conditions: dict[str, Value] = field(default_factory=dict, init=False)
    first: Text = field(default=(), init=False)  # what every document is derived from

    def __post_init__(self) -> None:
        _read(self)
        try:
            self._named = {rule: self._facts_named_by(rule) for rule in self.rules}
            self._measures = self._expect(self.first, {}, {}).plus(Measures(words=1))
        except KeyError as error:
            raise CorpusError(
                f"The grammar's table uses {error} before defining or drawing it. Add it."
            ) from None
        except RecursionError:
            raise CorpusError(
                "A rule of the grammar's table leads back to itself. Write it without the circle."
            ) from None

    @staticmethod
    @cache
    def default() -> "Grammar":
        """The kitchen notes of notes.txt."""
        return Grammar((resources.files(__name__) / "notes.txt").read_text("utf-8"))

    def documents(self, n: int, seed: int = 0) -> Iterator[str]:
        """n independent documents; the first ones are the same for every n."""
        random = Random(seed)
        for _ in range(n):
            yield self._write(random)

    def log_probability(self, document: str) -> float:
        """Nats (≤ 0) of the whole document, its ending included; −inf if it cannot be written.

        Every derivation counts, so this is right for ambiguous tables too.
        """
        ways = self.derivations(document)
        return math.log(math.fsum(map(math.exp, ways))) if ways else -math.inf

    def derivations(self, document: str) -> list[float]:
        """The log-probability in nats of each way to derive the document."""
        found: list[float] = []
        todo: list[tuple[Text, Facts, int, float]] = [(self.first, {}, 0, 0.0)]
        while todo:
            items, facts, position, nats = todo.pop()
            if not items:
                if position == len(document):
                    found.append(nats)
            elif isinstance(items[0], str):
                if document.startswith(items[0], position):
                    todo.append((items[1:], facts, position + len(items[0]), nats))
            else:
                for odds, next_items, next_facts in self.expand(items, facts):
                    todo.append((next_items, next_facts, position, nats + math.log(odds)))
        return found

    def expand(self, items: Text, facts: Facts) -> list[tuple[float, Text, Facts]]:
        """Each way to expand the first item, a choice or a value: (odds, text, facts)."""
        item, rest = items[0], items[1:]
        if isinstance(item, Value):
            return [(1.0, facts[item.fact][item.field] + rest, facts)]
        if isinstance(item, Draw):
            rows = self._rows(item.fact, facts).shares()
            return [(odds, rest, {**facts, item.fact: row}) for odds, row in rows]
        assert isinstance(item, Rule)
        return [(odds, text + rest, facts) for odds, text in self.rules[item.name].shares()]

    def measures(self) -> Measures:
        """Entropy, each choice's weighted by how often it is met, with the expected characters,
        words and tokens a document, all exact."""
        return self._measures

    def _rows(self, fact: str, facts: Facts) -> Choice[Row]:
        """The rows that can be drawn, given the facts drawn before."""
        choice = self.facts[fact]
        if fact not in self.conditions:
            return choice
        given = self.conditions[fact]
        wanted = facts[given.fact][given.field]
        rows = zip(choice.weights, choice.options, strict=True)
        kept = [(weight, row) for weight, row in rows if next(iter(row.values())) == wanted]
        return Choice(tuple(w for w, _ in kept), tuple(row for _, row in kept))

    def _facts_named_by(self, rule: str) -> list[str]:
        """The facts that a rule's texts name, themselves or through other rules."""
        named: set[str] = set()
        met = {rule}
        texts = list(self.rules[rule].options)
        while texts:
            for item in texts.pop():
                if isinstance(item, Value):
                    named.add(item.fact)
                    texts += [row[item.field] for row in self.facts[item.fact].options]
                elif isinstance(item, Rule) and item.name not in met:
                    met.add(item.name)
                    texts += self.rules[item.name].options
        return sorted(named)

    def _write(self, random: Random) -> str:
        written: list[str] = []
        items = self.first
        facts: Facts = {}
        while items:
            if isinstance(items[0], str):
                written.append(items[0])
                items = items[1:]
                continue
            branches = self.expand(items, facts)
            reach = list(accumulate(odds for odds, _, _ in branches))
            point = random.random() * reach[-1]
            chosen = next(i for i, top in enumerate(reach) if point < top)
            _, items, facts = branches[chosen]
        return "".join(written)

    def _expect(
        self, items: Text, facts: Facts, known: dict[tuple[object, ...], Measures]
    ) -> Measures:
        """Expected values for the text of the items, by recursion over the table.

        Expected values add up, and a rule's depend only on the facts that it names, itself or
        through other rules: each (rule, rows of these facts) is worked out once, in `known`.
        """
        total = Measures()
        for place, item in enumerate(items):
            if isinstance(item, str):
                tokens = len(re.findall(r"\w+|[^\w\s]", item))
                total = total.plus(Measures(0.0, len(item), len(item.split(" ")) - 1, tokens))
            elif isinstance(item, Value):
                total = total.plus(self._expect(facts[item.fact][item.field], facts, known))
            elif isinstance(item, Draw):
                for odds, rest, drawn in self.expand(items[place:], facts):
                    total = total.plus(Measures(-math.log(odds)), odds)
                    total = total.plus(self._expect(rest, drawn, known), odds)
                return total
            else:
                key = (item.name, *(id(facts.get(fact)) for fact in self._named[item.name]))
                if key not in known:
                    value = Measures()
                    for odds, text, _ in self.expand((item,), facts):
                        value = value.plus(Measures(-math.log(odds)), odds)
                        value = value.plus(self._expect(text, facts, known), odds)
                    known[key] = value
                total = total.plus(known[key])
        return total


def _read(grammar: Grammar) -> None:
    """Fill the grammar from its table."""
    blocks = [block.splitlines() for block in re.split(r"\n{2,}", grammar.table.strip("\n"))]
    names: dict[str, str] = {}  # fact → the field that names it
    for head, *lines in blocks:
        title, *fields = [cell.strip() for cell in head.split("|")]
        fact = re.fullmatch(r"fact (\w+)(?: by (\w+)\.(\w+))?", title)
        if fact:
            names[fact[1]] = fields[1 if fact[2] else 0]
            if fact[2]:
                grammar.conditions[fact[1]] = Value(fact[2], fact[3])
        weights: list[int] = []
        rows: list[Row] = []
        texts: list[Text] = []
        for line in lines:
            weight, *cells = line.split("|")
            if not re.fullmatch(r"[1-9]\d*", weight.strip()) or len(cells) != max(1, len(fields)):
                raise _unreadable(line)
            weights.append(int(weight))
            if fact:
                values = [_compile(cell.strip(), names) for cell in cells]
                rows.append(dict(zip(fields, values, strict=True)))
            else:
                # One space after the bar belongs to the table, the others to the text.
                texts.append(_compile(cells[0].removeprefix(" "), names))
        if fact:
            grammar.facts[fact[1]] = Choice(tuple(weights), tuple(rows))
        else:
            grammar.rules[title] = Choice(tuple(weights), tuple(texts))
            grammar.first = grammar.first or (Rule(title),)


def _compile(text: str, names: dict[str, str]) -> Text:
    """`{root} for <guests>` → (Rule("root"), " for ", Draw("guests"))."""
    items: list[Item] = []
    for piece in re.findall(r"<\w+>|{\w+(?:\.\w+)?}|[^<>{}]+|.", text):
        name, _, key = piece[1:-1].partition(".")
        if piece in "<>{}":
            raise _unreadable(text)
        if piece[0] == "<":
            items.append(Draw(name))
        elif piece[0] != "{":
            items.append(piece)
        else:
            items.append(Value(name, key or names[name]) if name in names else Rule(name))
    return tuple(items)


def _unreadable(line: str) -> CorpusError:
    return CorpusError(
        f'Cannot read "{line}" in the grammar\'s table. Write: weight | text with {{rule}}, '
        "{fact.field} or <fact>, and a cell for each field of a fact."
    )


def documents(n: int, seed: int = 0) -> Iterator[str]:
    """n kitchen notes, see Grammar.documents."""
    return Grammar.default().documents(n, seed)


def log_probability(document: str) -> float:
    """Nats of a kitchen note, see Grammar.log_probability."""
    return Grammar.default().log_probability(document)


def measures() -> Measures:
    """Entropy, characters, words and tokens a kitchen note, all exact, see Measures."""
    return Grammar.default().measures()
