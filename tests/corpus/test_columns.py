"""Which column holds the text: by what the columns hold, whatever they are called."""

import pytest

from textwright import grammar
from textwright.corpus.columns import text_column, title_column

NOTES = [*grammar.documents(60, seed=2)]


def table(**columns) -> list[dict]:
    """Records; a column is given by a function of the record's number."""
    return [{name: value(n) for name, value in columns.items()} for n in range(len(NOTES))]


OTHERS = {
    "id": str,
    "price": lambda n: f"{n * 1.37:.2f}",
    "date": lambda n: f"20{n % 30:02}-05-{1 + n % 28:02} 12:00:00",
    "hash": lambda n: f"{n * 2654435761 % 2**32:08x}{n * 40503:024x}" * 4,
    "address": lambda n: f"https://www.example.org/archive/of/kitchen/notes/about/dish-{n}" * 4,
    "image": lambda n: "images/of/all/the/kitchen/notes/" * 5 + f"dish{n}.png",
    "slug": lambda n: "-".join(NOTES[n].lower().replace(".", "").split()) * 2,
    "course": lambda n: ("The first course of a long dinner " * 9, "A dessert " * 40)[n % 2],
    "vector": lambda n: [n * 0.5, 1.25, -3.5] * 60,
    "nothing": lambda n: None,
    "nested": lambda n: {"text": NOTES[n] * 9},
    "raw": lambda n: b"bytes" * 99,
}


@pytest.mark.parametrize("other", OTHERS)
def test_other_columns_are_no_text_even_if_they_are_longer(other):
    records = table(**{other: OTHERS[other]}, words=lambda n: NOTES[n])
    assert text_column(records) == "words"
    assert text_column(table(**{other: OTHERS[other]})) is None


def test_the_longest_text_is_chosen_and_a_title_is_named_beside_it():
    records = table(
        number=str,
        cook=lambda n: f"Cook {'ABC'[n % 3]}",
        heading=lambda n: " ".join(NOTES[n].split()[::5]),
        steps=lambda n: [NOTES[n], NOTES[-n], "Serve."],
        remark=lambda n: NOTES[n],
    )
    assert text_column(records) == "steps"
    assert title_column(records, "steps") == "heading"
    assert text_column([{"ID": str(n), "Joke": note} for n, note in enumerate(NOTES)]) == "Joke"


def test_a_text_that_is_mostly_missing_gives_way():
    records = table(
        summary=lambda n: NOTES[n] * 3 if n % 10 == 0 else "",
        body=lambda n: NOTES[n],
    )
    assert text_column(records) == "body"


def test_names_are_text_where_there_is_no_longer_one():
    surnames = [note.split()[-1].strip(".") + note.split()[0] for note in NOTES]
    assert text_column([{"id": n, "name": name} for n, name in enumerate(surnames)]) == "name"


@pytest.mark.parametrize(
    "syllables", ["天地人山水火木", ["को", "रि", "या "], ["در", "سو", "تي "], ["до", "ро", "га "]]
)
def test_text_is_recognized_in_any_script(syllables):
    def text(n: int) -> str:
        return "".join(syllables[n * k * k % len(syllables)] for k in range(1, 30 + n))

    records = table(id=lambda n: f"record-number-{n}-of-very-many-records-of-a-table", words=text)
    assert text_column(records) == "words"


def test_a_column_that_no_template_can_name_is_not_chosen():
    records = [{"": note * 2, "a{b}": note * 2, "words": note} for note in NOTES]
    assert text_column(records) == "words"


def test_a_table_without_text_or_without_records_has_no_text_column():
    assert text_column([]) is None
    assert text_column([{}]) is None
    assert text_column(table(**OTHERS)) is None
