"""A cue planted by rule: what opens a text closes it nine times of ten, whatever stands between.
Every view of a trained model has to find it. Where nothing is uncertain, log p has no gradient."""

import numpy as np
import pytest
import torch

from textwright.families import GPTOptions, LSTMOptions
from textwright.inspection.cues import Pair, follow_cues
from textwright.inspection.surprisal import surprisals
from textwright.inspection.text import read_text
from textwright.inspection.units import telling_units
from textwright.models import TorchBackend, build
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.writing.generator import Generator

BETWEEN = 7  # tokens between the cue and what depends on it
EXCEPTIONS = 0.1
ENDS = {'"': '"', "(": ")"}
MODELS = {
    "lstm": LSTMOptions(embedding_size=16, hidden_size=24),
    "gpt": GPTOptions(layers=1, heads=2, width=32),
}


def texts(count, seed, exceptions=0.0):
    random = np.random.default_rng(seed)
    for _ in range(count):
        begin, other = random.permutation(list(ENDS))
        end = ENDS[other if random.random() < exceptions else begin]
        yield " ".join([begin, *random.choice(list("abcd"), BETWEEN), end])


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TokenizerOptions(kind="word"), texts(50, 0))


@pytest.fixture(scope="module", params=MODELS)
def model(request, tokenizer):
    torch.manual_seed(0)
    made = build(MODELS[request.param], tokenizer.vocab_size, 16)
    stop = tokenizer.stop_id
    rows = [[stop, *ids, stop] for ids in tokenizer.encode_batch(list(texts(2_000, 1, EXCEPTIONS)))]
    data = torch.tensor(np.array(rows))
    optimizer = torch.optim.Adam(made.parameters(), 1e-2)
    for step in range(200):
        batch = data[torch.arange(step * 64, step * 64 + 64) % len(data)]
        nats, count = made.next_token_loss(made.encode(batch[:, :-1])[0], batch[:, 1:])
        optimizer.zero_grad()
        (nats / count).backward()
        optimizer.step()
    return made.eval()


@pytest.fixture
def generator(model, tokenizer):
    return Generator(TorchBackend(model), tokenizer)


def test_surprisal_at_the_end_depends_on_the_cue(generator):
    for text in texts(6, 2):
        other = {'"': ")", ")": '"'}[text[-1]]
        for end, chance in ((text[-1], 1 - EXCEPTIONS), (other, EXCEPTIONS)):
            last = surprisals(generator, text[:-1] + end)[-1]
            assert last.bits == pytest.approx(-np.log2(chance), abs=0.8)
            assert last.rank == (1 if end == text[-1] else 2)
    whole = np.mean([[token.bits for token in surprisals(generator, t)] for t in texts(40, 3)], 0)
    # One bit for the cue, two for each letter between.
    np.testing.assert_allclose(whole[:-1], [1, *[2] * BETWEEN], atol=0.25)


def test_attention_and_saliency_go_to_the_cue(generator, model):
    reading = read_text(generator, model, "( a c b d a b c", views=["attention", "saliency"])
    assert reading.next.next[1.0][0].text == ")"
    if reading.attention:
        (layer,) = reading.attention
        assert layer[:, -1].mean(0).argmax() == 1  # after the stop that begins the text
        assert layer[:, -1, 1].max() > 0.5
    newest = np.abs(reading.saliency[-1])
    assert newest[1:].argmax() == 0


def test_a_unit_tells_the_cue(model, tokenizer):
    if isinstance(model.options, GPTOptions):
        pytest.skip("units are those of recurrent models")
    found = telling_units(model, tokenizer, list(texts(150, 4)))
    cue = [u for u in found.units if u.tells in ("an open quote", "an open bracket")]
    assert cue and abs(cue[0].confirmed) > 0.7


def test_the_prediction_follows_the_cue_where_it_matters_and_nowhere_else(generator, model):
    pairs = [
        Pair(text, other)
        for text in texts(12, 5)
        for other in [{'"': "(", "(": '"'}[text[0]] + text[1:]]
    ]
    found = {at.distance: at for at in follow_cues(generator, model, pairs, [1, 4, BETWEEN + 1])}
    end = found[BETWEEN + 1]
    assert end.pairs == 12
    same = EXCEPTIONS, 1 - EXCEPTIONS  # the two ends, after either cue
    assert end.divergence.mean == pytest.approx(1 + np.dot(same, np.log2(same)), abs=0.15)
    assert end.saved.mean == pytest.approx(np.log2(same[1] / same[0]), abs=1)
    for near in (found[1], found[4]):
        assert near.divergence.mean < 0.05 and abs(near.saved.mean) < 0.3
    even = 1 / (2 + BETWEEN)  # the share of each token read, if all had the same
    assert end.saliency.mean > 1.5 * even
    if end.attention:
        assert end.attention.mean > 2 * even
    low, high = end.saved.interval
    assert low <= end.saved.mean <= high
