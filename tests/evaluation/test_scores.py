"""Scores equal a computation by hand, whatever rows run together."""

import math
import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from textwright import grammar
from textwright.errors import EvaluationError
from textwright.escape import EscapeCode
from textwright.evaluation import neural
from textwright.evaluation import scores as numbers
from textwright.evaluation.neural import score
from textwright.evaluation.scores import HeldOut, evaluate
from textwright.families import GPTOptions, LSTMOptions
from textwright.models import build
from textwright.tokenizer import Tokenizer, TokenizerOptions

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["", "ab", "hello there", "b", "a rather longer text, abc " * 9, "héllo", "ba " * 40]


def tokenizer(kind="char", **options):
    return Tokenizer.train(TokenizerOptions(kind=kind, **options), TEXTS[:5])


def model_of(vocab_size, cell="lstm"):
    torch.manual_seed(4)
    made = build(
        LSTMOptions(cell=cell, embedding_size=5, hidden_size=8, layers=2, dropout=0.5),
        vocab_size,
        8,
    )
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


def held_out(texts=TEXTS, **options):
    tokens = tokenizer(**options)
    return HeldOut.of(texts, tokens, EscapeCode.fit(tokens, TEXTS[:5]))


@torch.no_grad()
def nats_one_by_one(model, row):
    """−log p of every token of a row, from one softmax each, with the state carried by hand."""
    model.eval()
    nats, state = [], None
    for given, target in zip(row[:-1].tolist(), row[1:].tolist(), strict=True):
        hidden, state = model.encode(torch.tensor([[given]]), state)
        logits = model.project(hidden)[0, 0].double()
        nats.append(float(torch.logsumexp(logits, 0) - logits[target]))
    return nats


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(("rows", "tokens"), [(64, 256), (3, 7), (1, 1), (2, 1000)])
def test_a_document_is_scored_token_by_token(monkeypatch, cell, rows, tokens):
    monkeypatch.setattr(neural, "ROWS_AT_A_TIME", rows)
    monkeypatch.setattr(neural, "TOKENS_AT_A_TIME", tokens)
    given = held_out()
    model = model_of(tokenizer().vocab_size, cell)
    for row, found in zip(given.rows, score(model, given.rows), strict=True):
        assert found == pytest.approx(nats_one_by_one(model, row), abs=1e-4)


def test_a_model_whose_state_grows_is_scored_few_rows_at_a_time(monkeypatch):
    given = held_out()
    model = build(GPTOptions(layers=1, heads=2, width=16), tokenizer().vocab_size, 12)
    together = score(model, given.rows)
    monkeypatch.setattr(neural, "TOKENS_KEPT", 24)
    encode, sizes = model.encode, []

    def watched(ids, state=None):
        sizes.append(ids.numel())
        return encode(ids, state)

    monkeypatch.setattr(model, "encode", watched)
    apart = score(model, given.rows)
    assert max(sizes) <= 24
    for one, other in zip(together, apart, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize("most", [3, 1])
def test_fewer_rows_are_scored_together_when_memory_runs_out(monkeypatch, most):
    given = held_out()
    model = model_of(tokenizer().vocab_size).train()
    together = score(model, given.rows)
    encode = model.encode

    def limited(ids, state=None):
        if len(ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(ids, state)

    monkeypatch.setattr(model, "encode", limited)
    for one, other in zip(together, score(model, given.rows), strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_memory_that_does_not_hold_one_document_is_a_sentence(monkeypatch):
    model = model_of(tokenizer().vocab_size).train()

    def full(ids, state=None):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(model, "encode", full)
    with pytest.raises(EvaluationError, match="Memory ran out while one document was scored; free"):
        score(model, held_out().rows)
    assert model.training


def test_scoring_leaves_a_model_in_training_as_it_was():
    model = model_of(tokenizer().vocab_size).train()
    random = torch.get_rng_state()
    score(model, held_out().rows)
    assert model.training
    assert torch.equal(random, torch.get_rng_state())


def test_a_document_costs_its_stop_too():
    tokens = tokenizer()
    rows = HeldOut.of(["ab"], tokens, EscapeCode.fit(tokens, TEXTS)).rows
    ids = tokens.encode("ab").tolist()
    assert rows[0].tolist() == [tokens.stop_id, *ids, tokens.stop_id]


def test_characters_cost_the_sum_of_their_surprise():
    texts = ["hello", "", "a there"]
    tokens = tokenizer()
    model = model_of(tokens.vocab_size)
    given = HeldOut.of(texts, tokens, EscapeCode.fit(tokens, TEXTS))
    nats = [sum(nats_one_by_one(model, row)) for row in given.rows]
    scores = evaluate(partial(score, model), given)
    assert given.escape_bits.sum() == 0  # every character is known
    assert scores.bits_per_character == pytest.approx(sum(nats) / math.log(2) / 12, rel=1e-5)
    assert scores.loss == pytest.approx(sum(nats) / 15, rel=1e-5)  # each text's stop counts
    assert scores.perplexity == pytest.approx(math.exp(scores.loss))
    assert (scores.documents, scores.tokens) == (3, 15)


def test_bits_per_byte_divide_by_utf8_bytes():
    scores = evaluate(partial(score, model_of(tokenizer().vocab_size)), held_out(["héé"]))
    assert scores.bits_per_byte * 5 == pytest.approx(scores.bits_per_character * 3)


@pytest.mark.parametrize(
    "options",
    [{"kind": "char"}, {"kind": "word", "lowercase": True}, {"kind": "bpe", "vocab_size": 300}],
)
def test_bits_for_what_a_tokenizer_threw_away_are_added(options):
    tokens = tokenizer(**options)
    code = EscapeCode.fit(tokens, TEXTS[:5])
    texts = ["Hello  there", "zebra ÿ", "ab"]
    given = HeldOut.of(texts, tokens, code)
    lost = [code.bits(text) for text in texts]
    assert given.escape_bits.tolist() == lost
    assert (sum(lost) == 0) == tokens.lossless
    model = model_of(tokens.vocab_size)
    nats = sum(map(sum, (nats_one_by_one(model, row) for row in given.rows)))
    characters = sum(map(len, texts))
    assert evaluate(partial(score, model), given).bits_per_character == pytest.approx(
        (nats / math.log(2) + sum(lost)) / characters, rel=1e-5
    )


def test_row_loss_is_over_the_targets_of_training_rows():
    given = held_out()
    model = model_of(tokenizer().vocab_size)
    cut = [nats_one_by_one(model, row)[:6] for row in given.rows]
    scores = evaluate(partial(score, model), given, row_length=6)
    total, count = sum(map(sum, cut)), sum(map(len, cut))
    assert scores.row_loss == pytest.approx(total / count, rel=1e-5)
    assert scores.padded_loss == pytest.approx(total / (6 * len(TEXTS)), rel=1e-5)
    without = evaluate(partial(score, model), given)
    assert (without.row_loss, without.padded_loss) == (None, None)
    assert without.loss == scores.loss


def many(count):
    return list(grammar.documents(count, seed=5))


def test_the_interval_contains_the_mean_and_is_the_same_each_time():
    tokens = tokenizer()
    given = HeldOut.of(many(210), tokens, EscapeCode.fit(tokens, TEXTS))
    model = model_of(tokens.vocab_size)
    scores = evaluate(partial(score, model), given)
    low, high = scores.interval
    assert given.places is None
    assert low < scores.bits_per_character < high
    assert evaluate(partial(score, model), given).interval == (low, high)


def test_the_interval_takes_little_memory_however_many_documents():
    count = 20_000
    bits, characters = np.ones(count), np.ones(count)
    tracemalloc.start()
    numbers.redrawn_interval(bits, characters)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * count  # bytes; all draws at once are 8,000 a document and more


def test_many_documents_are_redrawn_whole():
    """The interval is as wide as the spread between documents implies."""
    tokens = tokenizer()
    given = HeldOut.of(many(300), tokens, EscapeCode.fit(tokens, TEXTS))
    model = model_of(tokens.vocab_size)
    scores = evaluate(partial(score, model), given)
    bits = np.array([nats.sum() for nats in score(model, given.rows)]) / math.log(2)
    bits += given.escape_bits
    rest = bits - scores.bits_per_character * given.characters
    error = rest.std() / given.characters.mean() / math.sqrt(len(rest))
    assert scores.interval[1] - scores.interval[0] == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_few_documents_are_redrawn_in_blocks_of_text():
    tokens = tokenizer()
    text = "a there b" * 500  # 4,500 characters: four blocks and a half
    given = HeldOut.of([text, "ab" * 300], tokens, EscapeCode.fit(tokens, TEXTS))
    model = model_of(tokens.vocab_size)
    nats = score(model, given.rows)
    bits, characters = numbers._blocks(nats, given)
    assert characters.tolist() == [1000, 1000, 1000, 1000, 500, 600]
    by_hand = [nats[0][at : at + 1000].sum() for at in range(0, 4000, 1000)]
    by_hand += [nats[0][4000:].sum(), nats[1].sum()]  # the stops belong to the last blocks
    assert bits == pytest.approx(np.array(by_hand) / math.log(2))
    low, high = evaluate(partial(score, model), given).interval
    assert low < bits.sum() / characters.sum() < high


def test_a_short_rest_belongs_to_the_last_block():
    """It would have few characters, and the stop's bits: drawn alone, many bits per character."""
    for length, sizes in [(2_012, [1000, 1012]), (2_700, [1000, 1000, 700]), (12, [12])]:
        rows = [np.arange(length + 2)]
        given = HeldOut.sized(["a" * length], [np.arange(length + 1)], rows)
        _, characters = numbers._blocks([np.ones(length + 1)], given)
        assert characters.tolist() == sizes


def test_an_interval_over_few_parts_is_doubted():
    few, enough = (numbers.caution(units) for units in (2, numbers.FEW_UNITS))
    assert "2 parts" in few and not enough


def test_blocks_add_up_to_all_bits_and_characters():
    """With words there are several characters per token, and bits of the escape code."""
    given = held_out(["Hello there, ZEBRA! " * 130, "ab", ""], kind="word")
    model = model_of(tokenizer("word").vocab_size)
    nats = score(model, given.rows)
    bits, characters = numbers._blocks(nats, given)
    charged = sum(n.sum() for n in nats) / math.log(2) + given.escape_bits.sum()
    assert given.escape_bits.sum() > 0
    assert bits.sum() == pytest.approx(charged)
    assert characters.sum() == given.characters.sum()


def test_one_short_document_has_an_interval_of_no_width():
    scores = evaluate(partial(score, model_of(tokenizer().vocab_size)), held_out(["ab"]))
    assert scores.interval == pytest.approx((scores.bits_per_character,) * 2)
