"""In some rows, a paragraph is read as if a text began with it."""

import numpy as np
import pytest

from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.training.dataset import Batch
from textwright.training.encoded import Documents
from textwright.training.opening import Opener

NOVEL = (
    "The first line,\nand the second.\n\nThe next paragraph.\n\n\nOne more, of\ntwo lines.\n\n" * 40
)
PLAY = "ANN\nWho is there?\nBOB\nNobody.\n" * 40


def of(text: str, rate: float = 1.0, **options) -> tuple[Opener, Tokenizer, np.ndarray]:
    """The opener of a text, its tokenizer, and its ids."""
    tokenizer = Tokenizer.train(TokenizerOptions(vocab_size=270, **options), [text])
    ids = tokenizer.encode(text)
    documents = Documents(ids, np.array([0, len(ids)]), tokenizer.stop_id)
    return Opener.of(documents, tokenizer, rate, seed=3), tokenizer, ids


def after_places(text: str, **options) -> set[str]:
    """What follows each place at which a paragraph begins, up to the end of its line."""
    opener, tokenizer, ids = of(text, **options)
    rests = [tokenizer.decode(ids[place + 1 :]) for place in opener.places(ids).tolist()]
    return {rest.partition("\n")[0] for rest in rests}


@pytest.mark.parametrize("options", [{}, {"cut": "qwen35"}, {"kind": "char"}])
def test_paragraphs_follow_empty_lines(options):
    assert after_places(NOVEL, **options) == {
        "The first line,",
        "The next paragraph.",
        "One more, of",
    }


def test_the_ids_that_begin_paragraphs_are_told():
    opener, tokenizer, ids = of(NOVEL)
    found = opener.openings(Documents(ids, np.array([0, len(ids)]), tokenizer.stop_id))
    assert len(found) == 119  # all but the first, which follows the stop anyway
    assert {text[0] for text in tokenizer.texts(set(found.tolist()))} == {"T", "O"}


def test_without_empty_lines_each_line_is_a_paragraph():
    assert after_places(PLAY) == {"ANN", "BOB", "Who is there?", "Nobody."}


def test_a_text_of_one_line_and_words_have_no_paragraphs():
    assert after_places("One line without an end. " * 40) == set()
    assert after_places(NOVEL, kind="word") == set()


def test_the_stop_stands_for_the_line_break_before_a_paragraph():
    opener, tokenizer, ids = of(NOVEL)
    rows = np.stack([ids[start : start + 61].astype(np.int64) for start in range(0, 600, 60)])
    batch = Batch(rows[:, :-1], rows[:, 1:], np.ones(len(rows), bool), tokenizer.stop_id)
    opened = opener.open(batch, 5, 0, 1, 0.0)
    assert (opened.targets == batch.targets).all()
    for row, before in zip(opened.inputs, batch.inputs, strict=True):
        (place,) = np.flatnonzero(row != before)
        assert row[place] == tokenizer.stop_id and place in opener.places(before)
    again = opener.open(batch, 5, 0, 1, 0.5)
    assert (again.inputs == opened.inputs).all()
    assert (opener.open(batch, 6, 0, 1, 0.0).inputs != opened.inputs).any()
    apart = Batch(batch.inputs[1::2], batch.targets[1::2], batch.starts[1::2])
    assert (opener.open(apart, 5, 1, 2, 0.0).inputs == opened.inputs[1::2]).all()


def test_some_of_the_rows_are_opened():
    opener, tokenizer, ids = of(NOVEL, rate=0.1)
    row = ids[:60].astype(np.int64)
    rows = np.repeat(row[None], 2_000, 0)
    opened = opener.open(Batch(rows, rows, np.ones(len(rows), bool)), 0, 0, 1, 0.0)
    share = (opened.inputs == tokenizer.stop_id).any(1).mean()
    assert share == pytest.approx(0.1, abs=0.03)
