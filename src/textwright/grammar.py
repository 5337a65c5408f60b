"""A corpus with known entropy: a grammar that writes short kitchen notes and knows their odds.

A model's mean loss on fresh notes cannot go below the entropy of the grammar: a loss below it
proves a leak, a loss far above it a bug. The notes look back over their whole length on purpose.
What is cooked, how it is flavored and who will eat are drawn once a note and come back in its
last sentence, and pronouns and verbs agree with the dish, so that models can be told apart by how
far they remember.

How to read TABLE. `fact` opens a list of things of which one is drawn a note; its columns are
fields. `fact B by A.field` admits only the rows whose first field equals that field of the fact
A, drawn before; its second field is then its name. Any other word opens a rule, a list of texts
of which one is written. The figure that begins a line is its weight: its odds are that figure over
the sum of the weights it stands among. In a text, `<fact>` draws a fact (in the first rule only),
`{fact}` writes its name (its first field), `{fact.field}` another field, and `{rule}` writes one
text of the rule. No rule leads back to itself, so the notes are finitely many, and all sums here
are closed forms.

No note can be derived in two ways (tests/test_grammar.py proves it), so the
entropy of derivations is the entropy of notes.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from random import Random
from typing import Generic, NamedTuple, TypeVar

from textwright.errors import CorpusError

TABLE = """
fact dish | name      | taste  | them | they | are | need  | begin   | fat   | liquid
9         | carrots   | savory | them | they | are | need  | {root}  | {oil} | {stock}
8         | potatoes  | savory | them | they | are | need  | {root}  | {oil} | {stock}
7         | onions    | savory | them | they | are | need  | {root}  | {oil} | {stock}
5         | mushrooms | savory | them | they | are | need  | {root}  | {oil} | {stock}
4         | leeks     | savory | them | they | are | need  | {root}  | {oil} | {stock}
7         | lentils   | savory | them | they | are | need  | {grain} | {oil} | {stock}
5         | beans     | savory | them | they | are | need  | {grain} | {oil} | {stock}
6         | rice      | savory | it   | it   | is  | needs | {grain} | {oil} | {stock}
6         | pumpkin   | savory | it   | it   | is  | needs | {block} | {oil} | {stock}
4         | cabbage   | savory | it   | it   | is  | needs | {block} | {oil} | {stock}
5         | fish      | savory | it   | it   | is  | needs | {block} | {oil} | {stock}
5         | chicken   | savory | it   | it   | is  | needs | {block} | {oil} | {stock}
6         | apples    | sweet  | them | they | are | need  | {fruit} | {fat} | {juice}
4         | pears     | sweet  | them | they | are | need  | {fruit} | {fat} | {juice}
3         | plums     | sweet  | them | they | are | need  | {fruit} | {fat} | {juice}

fact guests | name  | figure
6           | two   | 2
3           | three | 3
8           | four  | 4
2           | five  | 5
4           | six   | 6
1           | eight | 8

fact flavor by dish.taste | taste  | name
7                         | savory | thyme
7                         | savory | garlic
5                         | savory | pepper
4                         | savory | parsley
3                         | savory | lemon
2                         | savory | chili
6                         | sweet  | cinnamon
5                         | sweet  | honey
4                         | sweet  | ginger
2                         | sweet  | vanilla

note
5 | {plan} <dish>{dish} for <guests>{guests}. {dish.begin}. <flavor>{cook}. {end}.
5 | {plan} <dish>{dish} for <guests>{guests}. {dish.begin}. <flavor>{cook}. {care}. {end}.

plan
5 | Slow
4 | Quick
3 | Golden
2 | Winter
4 | Today we cook
3 | Tonight we cook
2 | On Sunday we cook

root
5 | {clean} {few} {dish} and {cut} {dish.them} {thinly}
3 | Take {few} {fresh} {dish}, wash {dish.them} {well}, and {cut} {dish.them}

grain
4 | Rinse {grams} grams of {dish} {twice}, then drain {dish.them} {well}
3 | Soak {grams} grams of {dish} for {few} hours and rinse {dish.them}

block
4 | Cut {grams} grams of {dish} in {thick} pieces
3 | Salt {grams} grams of {dish} {well} and let {dish.them} rest for {short} minutes

fruit
4 | Halve {few} {fresh} {dish} and {core} {dish.them} {well}
3 | Take {few} {fresh} {dish} and cut {dish.them} {thinly}

clean
5 | Peel
3 | Wash
2 | Scrub

cut
5 | slice
4 | chop
2 | cut

few
2 | 2
5 | 3
5 | 4
4 | 5
6 | 6
2 | 8
1 | 12

fresh
4 | fresh
3 | small
3 | big
2 | ripe

thinly
5 | thinly
4 | in thick slices
3 | in halves

thick
4 | thick
3 | small
2 | even

well
4 | well
2 | gently
1 | with care

twice
5 | twice
3 | once
1 | three times

core
3 | core
2 | peel

grams
3 | 200
4 | 250
2 | 300
5 | 400
5 | 500
1 | 750

short
5 | 10
4 | 15
2 | 20

cook
5 | Warm {dish.fat} in {pan}, add {dish.them} with {some} {flavor}, and {fry} for {long} minutes
4 | Put {dish.them} in {pan} with {some} {flavor}, then bake at {heat} degrees for {long} minutes
3 | Boil {few} cups of {dish.liquid} with {some} {flavor}, and cook {dish.them} until {soft}

fat
4 | butter
2 | cream

oil
5 | oil
4 | butter

stock
5 | water
4 | stock
2 | wine
1 | milk

juice
4 | water
3 | wine
3 | juice

pan
5 | a wide pan
4 | the iron pan
3 | a deep dish
2 | the old pot

some
5 | a little
4 | some
3 | plenty of

fry
5 | fry
3 | brown
3 | cook

long
3 | 15
4 | 20
4 | 25
3 | 30
3 | 40
1 | 60

heat
2 | 160
5 | 180
4 | 200
2 | 220

soft
5 | soft
3 | tender
2 | done

care
4 | Do not hurry, because {dish.they} {dish.need} {time}
3 | Turn {dish.them} {twice}, and lower the heat
3 | Add {few} spoons of {dish.liquid} if {dish.they} {dish.are} dry
2 | Keep the lid {on}, so that nothing burns
2 | Watch the pan, or the {flavor} turns {bitter}

time
5 | time
3 | patience
2 | a slow fire

on
4 | on
2 | half open

bitter
4 | bitter
3 | black

end
5 | Serve the {dish} {warm} in {guests.figure} {bowls}, with {side} and more {flavor}
4 | When the {flavor} smells {good}, share the {dish} among {guests} {friends}
3 | The {dish} {dish.are} ready when all {guests} {friends} ask for more {flavor}

warm
5 | warm
4 | hot
2 | cold

bowls
4 | bowls
4 | plates
1 | cups

side
5 | bread
3 | salad
3 | cheese
2 | yogurt

good
4 | good
3 | sweet
2 | strong

friends
4 | friends
3 | guests
2 | neighbors
"""


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
    """Exact expectations a document.

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
    """A table read and checked. `Grammar.default()` is the one embedded here.

    Raises CorpusError where the table names what it does not define, or leads back to itself.
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
        """The kitchen notes of TABLE."""
        return Grammar(TABLE)

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
        """What a text that begins with a choice or a value can become: (odds, text, facts)."""
        item, rest = items[0], items[1:]
        if isinstance(item, Value):
            return [(1.0, facts[item.fact][item.field] + rest, facts)]
        if isinstance(item, Draw):
            rows = self._rows(item.fact, facts).shares()
            return [(odds, rest, {**facts, item.fact: row}) for odds, row in rows]
        assert isinstance(item, Rule)
        return [(odds, text + rest, facts) for odds, text in self.rules[item.name].shares()]

    def entropy(self) -> float:
        """Nats a document, exact: the sum of all choices' entropies, by how often they are met."""
        return self._measures.entropy

    def measures(self) -> Measures:
        """Entropy with the expected characters, words and tokens a document, all exact."""
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
        """Expectations of what the items write, by recursion over the table.

        Expectations add up, and a rule's depend on the facts that it names, itself or through
        others, and on nothing else: each (rule, those rows) is worked out once, in `known`.
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


def entropy() -> float:
    """Nats a kitchen note, exact, see Grammar.entropy."""
    return Grammar.default().entropy()


def measures() -> Measures:
    """Entropy, characters, words and tokens a kitchen note, all exact, see Measures."""
    return Grammar.default().measures()
