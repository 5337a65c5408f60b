"""Units that tell something: found where they are planted, not found by chance."""

import numpy as np
import pytest
import torch

from textwright import grammar
from textwright.errors import EvaluationError
from textwright.families import LSTMOptions
from textwright.inspection import units as module
from textwright.inspection.properties import structure
from textwright.inspection.units import stands_out, telling_units
from textwright.models import build
from textwright.tokenizer import Tokenizer, TokenizerOptions


def slow_series(random, length, width, memory=0.95):
    """Series (length, width) that change slowly, so that short ones correlate by chance."""
    series = random.normal(size=(length, width))
    for t in range(1, length):
        series[t] += memory * series[t - 1]
    return series


def test_nothing_stands_out_of_series_that_have_nothing_to_do_with_each_other():
    """A p of 0.1 or less is to be seen in 10 % of the trials. That 20 or more of 80 show one has
    a probability below 1e-4 (binomial)."""
    random = np.random.default_rng(0)
    found = 0
    for _ in range(80):
        units, labels = slow_series(random, 300, 12), slow_series(random, 300, 4)
        found += stands_out(units, labels, random)[1].min() <= 0.1
    assert found < 20


def test_shuffled_tokens_would_have_called_chance_meaning():
    """Why labels are shifted: what shuffling them calls rare happens in most of the trials."""
    random = np.random.default_rng(0)
    found = 0
    for _ in range(20):
        units, label = slow_series(random, 300, 12), slow_series(random, 300, 1)
        shuffled = [
            abs(np.corrcoef(units.T, random.permutation(label)[:, 0])[-1, :-1]).max()
            for _ in range(50)
        ]
        found += abs(np.corrcoef(units.T, label[:, 0])[-1, :-1]).max() > max(shuffled)
    assert found > 10


def test_a_unit_that_follows_a_label_stands_out_alone():
    random = np.random.default_rng(1)
    units, labels = slow_series(random, 2_000, 20), slow_series(random, 2_000, 3)
    units[:, 7] += 2 * labels[:, 1]
    r, p = stands_out(units, labels, random)
    assert r[7, 1] == pytest.approx(np.corrcoef(units[:, 7], labels[:, 1])[0, 1], abs=1e-5)
    assert np.argwhere(p <= 0.01).tolist() == [[7, 1]]


@pytest.fixture(scope="module")
def notes():
    return list(grammar.documents(120, seed=2))


@pytest.fixture(scope="module")
def words(notes):
    return Tokenizer.train(TokenizerOptions(kind="word"), notes)


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_a_planted_unit_is_found(notes, words, cell, monkeypatch):
    """Unit 3 of the second layer adds up how long the text is, or says that a comma is read."""
    monkeypatch.setattr(module, "SHIFTS", 199)
    options = LSTMOptions(cell=cell, embedding_size=8, hidden_size=6, layers=2)
    torch.manual_seed(0)
    model = build(options, words.vocab_size, 24)
    comma = words.id_of(",")
    with torch.no_grad():
        second = model.layers[1]
        second.recurrent_weight.zero_()
        second.input_weight.zero_()
        second.bias.zero_()
        if cell == "lstm":  # gates i, f, candidate, o of 6 units each: C grows by σ(0)·tanh(0.5)
            second.bias[6 + 2] = 30.0
            second.bias[12 + 2] = 0.5
        else:
            model.embedding[:, 0] = 0.0
            model.embedding[comma, 0] = 3.0
            model.layers[0].input_weight[0] = 0.0
            model.layers[0].input_weight[0, 0] = 1.0
            model.layers[0].recurrent_weight[0] = 0.0
            second.input_weight[2, 0] = 1.0
    found = telling_units(model, words, notes)
    planted = [unit for unit in found.units if unit.layer == 2]
    assert {(unit.unit, unit.tells) for unit in planted} == {
        (3, "position in the text" if cell == "lstm" else "the token ','")
    }
    assert planted[0].confirmed == pytest.approx(1, abs=1e-3)
    assert found.quantity == ("C" if cell == "lstm" else "h")


def test_too_little_held_out_text_is_said(words):
    model = build(LSTMOptions(embedding_size=4, hidden_size=4), words.vocab_size, 24)
    with pytest.raises(EvaluationError, match="takes 600 tokens of held-out text"):
        telling_units(model, words, ["Slow onions for six."])


def test_structure_is_read_from_the_text():
    text = 'a "b (c) d" [e] “f” g'
    ends = np.array([place + 1 for place, c in enumerate(text) if c.isalpha()])
    found = structure(text, ends)
    assert found["an open quote"].tolist() == [0, 1, 1, 1, 0, 1, 0]
    assert found["an open bracket"].tolist() == [0, 0, 1, 0, 1, 0, 0]
    assert found["position in the text"].tolist() == [0, 1, 2, 3, 4, 5, 6]
