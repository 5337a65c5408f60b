"""The sweep, with generators whose law is known: which setting it recommends, and what for."""

from dataclasses import dataclass

import numpy as np
import pytest

from textwright.errors import EvaluationError, GenerationError
from textwright.grammar import Grammar
from textwright.sweep.judges import CountsJudge
from textwright.sweep.real_texts import choose_real_texts
from textwright.sweep.sweep import Setting, choose_settings, sweep
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.writing.generator import Generator
from textwright.writing.sequences import KnownSequences

TOKENS = 60  # characters of a text, at most


@dataclass
class Readings:
    """Of each row, the ways to go on: (odds, text to write next, items left, facts)."""

    rows: list
    lengths: np.ndarray

    def select(self, rows):
        return Readings([self.rows[row] for row in rows], self.lengths[rows])

    @classmethod
    def concat(cls, states):
        rows = [row for state in states for row in state.rows]
        return cls(rows, np.concatenate([state.lengths for state in states]))


class GrammarBackend:
    """The grammar's own law of the next character, exact; its logits times `sharpness`."""

    context_length = None

    def __init__(self, grammar, tokenizer, sharpness=1.0):
        self.grammar, self.tokenizer, self.sharpness = grammar, tokenizer, sharpness
        self.begun = self._settled([(1.0, "", grammar.first, {})])

    def prefill(self, ids, lengths):
        rows = [self.begun] * len(ids)
        for at, (row, length) in enumerate(zip(ids, lengths, strict=True)):
            for token in row[1:length]:
                rows[at] = self._read(rows[at], int(token))
        return self._predicted(Readings(rows, np.array(lengths)))

    def step(self, ids, state):
        rows = [self._read(row, int(i)) for row, i in zip(state.rows, ids, strict=True)]
        return self._predicted(Readings(rows, state.lengths + 1))

    def _predicted(self, state):
        odds = np.zeros((len(state.rows), self.tokenizer.vocab_size))
        for at, row in enumerate(state.rows):
            for share, text, _, _ in row:
                odds[at, self._id(text)] += share
        with np.errstate(divide="ignore"):
            logits = self.sharpness * np.log(odds)
        return logits.astype(np.float32), state

    def _read(self, row, token):
        return self._settled([(s, t[1:], i, f) for s, t, i, f in row if self._id(t) == token])

    def _settled(self, todo):
        """All ways, expanded until each has a character to write or is at its end."""
        todo, found = list(todo), []
        while todo:
            share, text, items, facts = todo.pop()
            if text or not items:
                found.append((share, text, items, facts))
            elif isinstance(items[0], str):
                todo.append((share, items[0], items[1:], facts))
            else:
                ways = self.grammar.expand(items, facts)
                todo += [(share * odds, "", left, known) for odds, left, known in ways]
        return found

    def _id(self, text):
        return self.tokenizer.id_of(text[0]) if text else self.tokenizer.stop_id


# Ten words with steep odds, five times: what a temperature changes shows in short texts.
WORDS = (
    "sun",
    "moon",
    "star",
    "rain",
    "snow",
    "wind",
    "fire",
    "lake",
    "tree",
    "hill",
    "road",
    "door",
)
STEEP = Grammar(
    "text\n1 | {word} {word} {word} {word} {word}.\n\nword\n"
    + "\n".join(f"{1 + 400 // 3**place} | {word}" for place, word in enumerate(WORDS))
)
NOTES = Grammar.default()


@pytest.fixture(scope="module")
def texts():
    return list(STEEP.documents(400, seed=11))


@pytest.fixture(scope="module")
def characters(texts):
    return Tokenizer.train(TokenizerOptions(kind="char"), texts)


@pytest.fixture(scope="module")
def real(texts, characters):
    return choose_real_texts(texts, characters, 60, TOKENS)


@pytest.fixture(scope="module")
def swept(characters, real):
    """Sweep the temperature of the steep grammar's law, times a sharpness."""

    def go(sharpness, *temperatures, **how):
        backend = GrammarBackend(STEEP, characters, sharpness)
        settings = choose_settings({"temperature": temperatures})
        judge = CountsJudge(real, characters)
        return sweep(Generator(backend, characters), real, judge, settings, **how)

    return go


def test_the_backend_gives_the_odds_of_the_grammar():
    documents = list(NOTES.documents(300, seed=2))
    tokenizer = Tokenizer.train(TokenizerOptions(kind="char"), documents)
    backend = GrammarBackend(NOTES, tokenizer)
    for document in documents[:5]:
        ids = [*tokenizer.encode(document).tolist(), tokenizer.stop_id]
        logits, state = backend.prefill(np.array([[tokenizer.stop_id]]), np.array([1]))
        total = 0.0
        for token in ids:
            total += logits[0, token] - np.logaddexp.reduce(logits[0])
            if token != tokenizer.stop_id:
                logits, state = backend.step(np.array([token]), state)
        assert total == pytest.approx(NOTES.log_probability(document), abs=1e-3)


def test_of_kitchen_notes_the_law_itself_is_found():
    documents = list(NOTES.documents(300, seed=11))
    tokenizer = Tokenizer.train(TokenizerOptions(kind="char"), documents)
    real = choose_real_texts(documents, tokenizer, 50, TOKENS)
    law = Generator(GrammarBackend(NOTES, tokenizer), tokenizer)
    settings = choose_settings({"temperature": [0.25, 1.0], "top_p": [0.3]})
    found = sweep(law, real, CountsJudge(real, tokenizer), settings)
    assert found.recommended == Setting("temperature", 1.0), found.reason
    assert found.results[1].distance < 1.5 < found.results[0].distance


@pytest.mark.parametrize(("sharpness", "truth"), [(1.0, 1.0), (2.0, 2.0), (0.5, 0.5)])
def test_of_texts_by_the_law_of_the_real_ones_the_true_temperature_is_found(
    swept, sharpness, truth
):
    found = swept(sharpness, 0.6 * truth, truth, 1.6 * truth)
    assert found.recommended == Setting("temperature", truth), found.reason
    distances = {result.setting.value: result.distance for result in found.results}
    assert distances[truth] < 2 < min(distances[0.6 * truth], distances[1.6 * truth])


def test_settings_are_each_tried_once_and_off_is_one_setting():
    settings = choose_settings({"temperature": [1.0, 0.7], "top_p": [1.0, 0.9], "min_p": [0.0]})
    assert [setting.name for setting in settings] == [
        *("temperature 1", "temperature 0.7", "top-p 0.9")
    ]
    assert len(choose_settings({})) == 13
    assert choose_settings({"top_p": [0.5]})[0].values() == {
        **{"temperature": 1.0, "top_p": 0.5, "min_p": 0.0}
    }


@pytest.mark.parametrize(
    "given", [{"temperature": [-1.0]}, {"temperature": [float("nan")]}, {"top_p": [0.0]}]
)
def test_a_value_that_an_option_cannot_have_is_refused(given):
    with pytest.raises(GenerationError, match="cannot be"):
        choose_settings(given)


def test_the_same_seed_gives_the_same_sweep_and_progress_reaches_its_end(swept):
    calls = []
    one, two = (swept(1.0, 1.0, on_progress=lambda *of: calls.append(of), seed=3) for _ in range(2))
    assert one == two
    assert ("Writing", 60, 60) in calls


def test_copying_is_the_share_of_sequences_that_the_training_text_lacks(swept, characters, texts):
    ids = characters.encode_batch(texts)
    starts = np.cumsum([0, *map(len, ids)])
    encoded = np.concatenate(ids), starts
    found = swept(1.0, 1.0, known_sequences=lambda length: KnownSequences.of(*encoded, length))
    assert found.real.new == 0  # all real texts are among them
    assert 0 < found.results[0].figures.new < 0.5
    assert swept(1.0, 1.0).real.new is None


class Hesitant(GrammarBackend):
    """Ends at once, more often than not when it is cold."""

    def _predicted(self, state):
        logits, state = super()._predicted(state)
        logits[state.lengths == 1, self.tokenizer.stop_id] = -0.15
        return logits, state


def test_texts_too_short_to_compare_are_not_recommended(characters, real):
    hesitant = Generator(Hesitant(STEEP, characters), characters)
    judge = CountsJudge(real, characters)
    settings = choose_settings({"temperature": [0.01, 2.0]})
    found = sweep(hesitant, real, judge, settings)
    assert [result.distance is None for result in found.results] == [True, False]
    assert found.recommended.value == 2.0
    assert found.results[1].figures.diversity.words == found.real.diversity.words
    with pytest.raises(EvaluationError, match="less than half as long"):
        sweep(hesitant, real, judge, settings[:1])


def test_pieces_of_a_long_document_are_written_each_by_chance_of_its_own(characters, texts):
    real = choose_real_texts([" ".join(texts)], characters, 12, 20)

    class Flat(GrammarBackend):
        """Every character is as likely as every other, whatever was read."""

        def _predicted(self, state):
            return np.zeros((len(state.rows), self.tokenizer.vocab_size), np.float32), state

        def _read(self, row, token):
            return row

    flat = Generator(Flat(STEEP, characters), characters)
    settings = choose_settings({"temperature": [1.0]})
    found = sweep(flat, real, CountsJudge(real, characters), settings)
    assert all(real.prompts)
    assert found.results[0].figures.diversity.self_bleu < 0.5


def test_json_says_what_was_measured(swept):
    found = swept(1.0, 0.6, 1.0).to_json()
    assert set(found) == {
        *("judge", "texts", "max_tokens", "seed", "real", "settings", "recommended")
    }
    assert found["recommended"]["temperature"] == 1.0
    assert len(found["settings"]) == 2
    low, high = found["real"]["interval"]["bits_per_character"]
    assert low < found["real"]["bits_per_character"] < high
    assert sum(each["nearest"] for each in found["settings"]) == pytest.approx(1)
