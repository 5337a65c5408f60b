"""Surprisal along a text, against the scores of the same run."""

import numpy as np
import pytest
from small_models import SMALL

import textwright as tw
from textwright.counts.kneser_ney import count_model
from textwright.counts.mixture import Mixture, Shares
from textwright.evaluation.neural import score
from textwright.evaluation.predictors import MixedPredictor, open_predictor
from textwright.inspection.next_tokens import next_tokens
from textwright.inspection.surprisal import surprisals
from textwright.models import TorchBackend, build
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.writing.generator import Generator

TEXT = "to be or not to be that is the question"


@pytest.fixture(scope="module")
def letters():
    return Tokenizer.train(TokenizerOptions(kind="char"), [TEXT])


def row_of(tokenizer, text):
    return np.array([tokenizer.stop_id, *tokenizer.encode(text), tokenizer.stop_id])


@pytest.mark.parametrize("name", ["lstm", "gpt"])  # the second sees 12 letters at once
def test_surprisal_is_what_scoring_charges(letters, name):
    model = build(SMALL[name], letters.vocab_size, 12)
    found = surprisals(Generator(TorchBackend(model), letters), TEXT)
    (charged,) = score(model, [row_of(letters, TEXT)])
    assert [token.nats for token in found] == pytest.approx(charged[:-1].tolist(), abs=1e-4)
    assert "".join(token.text for token in found) == TEXT


@pytest.mark.parametrize("name", ["lstm", "gpt"])
def test_surprisal_of_a_mixture_is_of_the_whole_and_names_its_parts(letters, name):
    model = build(SMALL[name], letters.vocab_size, 12)
    ids = letters.encode(TEXT)
    starts = np.array([0, len(ids)])
    counts = count_model(ids, starts, letters.stop_id, letters.vocab_size, 3)
    mixture = Mixture.constant(Shares(0.5, 0.3, 0.2))
    mixed = Generator(MixedPredictor(model, counts, mixture).backend(), letters)
    found = surprisals(mixed, TEXT)
    (charged,) = MixedPredictor(model, counts, mixture).score([row_of(letters, TEXT)])
    assert [token.nats for token in found] == pytest.approx(charged[:-1].tolist(), abs=1e-4)
    for token in found:
        whole = 0.5 * token.neural + 0.3 * token.counts + 0.2 * token.memory
        assert np.exp(-token.nats) == pytest.approx(whole, rel=1e-3)


def test_a_run_is_charged_as_it_is_scored(trained):
    writer = tw.load(trained)
    text = next(iter(writer.run.held_out("test")))
    found = surprisals(writer.generator, text)
    (charged,) = open_predictor(writer.run, "cpu").score([row_of(writer.tokenizer, text)])
    assert [token.nats for token in found] == pytest.approx(charged[:-1].tolist(), abs=1e-3)


def test_every_place_has_the_table_of_the_text_before_it(trained):
    generator = tw.load(trained).generator
    token = surprisals(generator, "Slow onions for", [1.0, 0.5], top=3)[-1]
    table = next_tokens(generator, "Slow onions", [1.0, 0.5], top=3)
    for temperature, entropy in table.entropy.items():
        assert token.entropy[temperature] == pytest.approx(entropy, abs=1e-4)
        ids = [candidate.id for candidate in table.next[temperature]]
        assert [candidate.id for candidate in token.next[temperature]] == ids
    assert token.likelier == token.next[1.0][: token.rank - 1]


def test_an_empty_text_has_no_surprisal(trained):
    assert surprisals(tw.load(trained).generator, "") == []
