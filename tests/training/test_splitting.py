"""Split tokens spell what whole ones do, and none is split at the end of a training."""

import numpy as np
import pytest

from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.training.dataset import Batch
from textwright.training.splitting import ROUNDS, UNTIL, Splitter

TEXT = "The river carried the old wooden boats slowly towards the sea; the river was wide. " * 20


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TokenizerOptions(kind="bpe", vocab_size=320), [TEXT])


@pytest.fixture(scope="module")
def batch(tokenizer):
    ids = tokenizer.encode(TEXT)
    rows = np.stack([ids[start : start + 65] for start in range(8)])
    return Batch(rows[:, :-1], rows[:, 1:], np.ones(8, bool))


def split(batch, tokenizer, rate=0.5, seed=0, step=3, share=0, shares=1, done=0.0):
    return Splitter(tokenizer.halves, rate, seed).split(batch, step, share, shares, done)


def rows_of(batch):
    return np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)


def test_halves_spell_their_token(tokenizer):
    halves = tokenizer.halves
    assert (halves[:, 0] >= 0).sum() == len(tokenizer.merges) > 0
    for token, (left, right) in enumerate(halves.tolist()):
        if left >= 0:
            first, second, whole = tokenizer.bytes_of([left, right, token])
            assert first + second == whole


def test_a_kind_that_merges_nothing_has_no_halves():
    characters = Tokenizer.train(TokenizerOptions(kind="char"), [TEXT])
    assert characters.merges == []
    assert (characters.halves == -1).all()


def test_split_rows_spell_the_beginning_of_the_same_text(batch, tokenizer):
    found = split(batch, tokenizer)
    assert found.inputs.shape == batch.inputs.shape
    assert (found.inputs[:, 1:] == found.targets[:, :-1]).all()
    for now, before in zip(rows_of(found), rows_of(batch), strict=True):
        short, whole = tokenizer.decode(now), tokenizer.decode(before)
        assert whole.startswith(short)
        assert len(short) < len(whole)


@pytest.mark.parametrize(("rate", "done"), [(0.3, 0.0), (0.6, UNTIL / 2)])
def test_the_share_that_is_split_falls_as_training_goes_on(batch, tokenizer, rate, done):
    # A token stays whole if it is spared in every round.
    row = rows_of(batch)[0]
    splittable = row[tokenizer.halves[row, 0] >= 0]
    alone = Batch(splittable[:, None], np.zeros_like(splittable)[:, None], np.ones(1, bool))
    rounds = [rows_of(split(alone, tokenizer, rate, step=n, done=done)) for n in range(300)]
    kept = np.mean([rows[:, 0] == splittable for rows in rounds])
    assert kept == pytest.approx(0.7**ROUNDS, abs=0.01)


def test_nothing_is_split_at_the_end(batch, tokenizer):
    assert split(batch, tokenizer, rate=0.9, done=UNTIL) is batch


def test_what_is_drawn_depends_on_seed_and_step(batch, tokenizer):
    assert (split(batch, tokenizer).inputs == split(batch, tokenizer).inputs).all()
    for other in ({"seed": 1}, {"step": 4}):
        assert (split(batch, tokenizer, **other).inputs != split(batch, tokenizer).inputs).any()


def test_shares_are_split_as_the_whole_batch_is(batch, tokenizer):
    whole = split(batch, tokenizer)
    for share in range(3):
        own = slice(share, None, 3)
        part = Batch(batch.inputs[own], batch.targets[own], batch.starts[own])
        assert (split(part, tokenizer, share=share, shares=3).inputs == whole.inputs[own]).all()
