"""The sample of a step's softmax stands for the whole vocabulary."""

import shutil

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from textwright.config import DataOptions, TrainOptions
from textwright.families import LSTMOptions
from textwright.models import build
from textwright.models.loss import PADDING_TARGET, TokenSample, next_token_loss
from textwright.run import Run
from textwright.training.dataset import cut
from textwright.training.encoded import Documents
from textwright.training.sampled_softmax import MULTIPLE, UNSEEN, TokenSampler
from textwright.training.trainer import Trainer

COUNT, SIZE = 1_000, 128
TARGETS = np.array([[3, 7, 7, 900], [999, 3, PADDING_TARGET, PADDING_TARGET]])
OWN = [3, 7, 900, 999]


@pytest.fixture(scope="module")
def sampler():
    return TokenSampler(1_000 / np.arange(1, COUNT + 1), SIZE, seed=5)  # Zipf's law


def test_a_sample_holds_the_targets_and_the_frequent_once(sampler):
    ids, log_weights = sampler.draw(TARGETS, step=0, share=0)
    assert len(ids) == len(log_weights) == SIZE
    assert (np.diff(ids) > 0).all()
    stands_for = dict(zip(ids.tolist(), np.exp(log_weights).tolist(), strict=True))
    for token in [*OWN, *range(10)]:
        assert stands_for[token] == 1
    assert max(stands_for.values()) > 5


def test_it_stands_for_all_on_average(sampler):
    values = np.random.default_rng(1).lognormal(size=COUNT) / np.arange(1, COUNT + 1)
    sums = []
    for step in range(2_000):
        ids, log_weights = sampler.draw(TARGETS, step, share=0)
        sums.append((np.exp(log_weights) * values[ids]).sum())
    error = np.std(sums) / np.sqrt(len(sums))
    assert error < 0.002 * values.sum()
    # 4 standard errors: by chance once in 16,000 seeds.
    assert np.mean(sums) == pytest.approx(values.sum(), abs=4 * error)


def test_what_is_drawn_depends_on_seed_step_and_share(sampler):
    def draw(sampler=sampler, step=3, share=0):
        return sampler.draw(TARGETS, step, share)[0].tolist()

    assert draw() == draw()
    other = TokenSampler(sampler.frequencies, SIZE, seed=6)
    for differs in (draw(step=4), draw(share=1), draw(sampler=other)):
        assert differs != draw()


def test_more_tokens_are_drawn_where_targets_would_fill_the_sample(sampler):
    many = np.arange(100, 200)[None]
    ids, _ = sampler.draw(many, step=0, share=0)
    assert len(ids) == 256 == 4 * MULTIPLE
    assert set(many[0]) < set(ids.tolist())


def test_nothing_is_drawn_where_it_would_be_everything(sampler):
    assert sampler.draw(np.arange(COUNT)[None], step=0, share=0) is None


def test_tokens_and_the_ends_of_documents_are_counted():
    documents = Documents(np.array([1, 1, 3, 1], np.uint16), np.array([0, 2, 4]), stop_id=0)
    found = TokenSampler.of(documents, 5, TrainOptions(sampled_softmax=2))
    assert found is not None
    assert (found.frequencies - UNSEEN).tolist() == [2, 3, 0, 1, 0]
    for size in (0, 5):  # all tokens
        assert TokenSampler.of(documents, 5, TrainOptions(sampled_softmax=size)) is None


@pytest.mark.parametrize("bias", [True, False])
def test_the_loss_over_a_sample_is_that_of_weighted_logits(sampler, bias):
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 4, 6, generator=random, requires_grad=True)
    weight = torch.randn(COUNT, 6, generator=random, requires_grad=True)
    offset = torch.randn(COUNT, generator=random, requires_grad=True) if bias else None
    leaves = [leaf for leaf in (hidden, weight, offset) if leaf is not None]
    ids, log_weights = map(torch.from_numpy, sampler.draw(TARGETS, step=0, share=0))
    targets = torch.from_numpy(TARGETS)

    sample = TokenSample(ids, log_weights)
    nats, count = next_token_loss(hidden, targets, weight, offset, sample)
    got = torch.autograd.grad(nats, leaves)

    logits = torch.nn.functional.linear(hidden, weight, offset)
    stands_for = torch.full((COUNT,), -torch.inf)
    stands_for[ids] = log_weights
    want = cross_entropy((logits + stands_for).flatten(0, 1), targets.flatten(), reduction="sum")
    assert count == 6
    torch.testing.assert_close(nats, want)
    for mine, reference in zip(got, torch.autograd.grad(want, leaves), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-6)
    # Beside adapters, the output layer is frozen.
    frozen = [None if leaf is None else leaf.detach() for leaf in (weight, offset)]
    nats, _ = next_token_loss(hidden, targets, *frozen, sample)
    torch.testing.assert_close(torch.autograd.grad(nats, hidden)[0], got[0])


def test_a_step_learns_what_the_whole_softmax_would_teach(sampler):
    """The mean gradient over many samples is the exact one, but for the logarithm's curve."""
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(200, 6, generator=random) / 3
    weight = torch.randn(COUNT, 6, generator=random, requires_grad=True)
    frequent = torch.from_numpy(sampler.frequencies).log().float()
    targets = np.random.default_rng(0).integers(60, size=(1, 200))

    def gradient(step=None):
        sample = None
        if step is not None:
            sample = TokenSample(*map(torch.from_numpy, sampler.draw(targets, step, share=0)))
        asked = torch.from_numpy(targets[0])
        nats, _ = next_token_loss(hidden, asked, weight, frequent, sample)
        return torch.autograd.grad(nats, weight)[0]

    mean = sum(gradient(step) for step in range(300)) / 300
    assert (mean - gradient()).norm() < 0.05 * gradient().norm()


# In a training


def trainer(size=64, device="cpu", **options):
    """Of a vocabulary of 300, four rows a step."""
    ids = np.random.default_rng(0).integers(1, 300, size=400).astype(np.uint16)
    documents = Documents(ids, np.arange(0, 401, 8), stop_id=0)
    given = TrainOptions(sampled_softmax=size, schedule="constant", clip_norm=0.0, **options)
    torch.manual_seed(0)
    model = build(LSTMOptions(embedding_size=6, hidden_size=10), 300, 8).to(device)
    layout = cut(documents, DataOptions(layout="rows", context_length=6), 4, seed=0)
    return Trainer(model, layout, given, None, sampler=TokenSampler.of(documents, 300, given))


def losses(made, steps=5):
    return [made.train_step().loss for _ in range(steps)]


def test_a_training_takes_the_sample_and_learns_nearly_the_same():
    exact, sampled = losses(trainer(0)), losses(trainer())
    assert sampled != exact
    assert sampled == pytest.approx(exact, rel=0.1)


def test_a_training_goes_on_with_the_samples_it_would_have_had():
    whole = losses(trainer())
    first = trainer()
    begun = losses(first, 2)
    second = trainer()
    second.restore(first.snapshot())
    assert begun + losses(second, 3) == whole


def test_each_part_of_a_batch_has_its_own_sample(monkeypatch):
    drawn = []
    draw = TokenSampler.draw

    def note(self, targets, step, share):
        drawn.append((step, share))
        return draw(self, targets, step, share)

    monkeypatch.setattr(TokenSampler, "draw", note)
    losses(trainer(accumulate=2), 2)
    assert drawn == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_sampled_softmax_trains_other_weights(train, tmp_path):
    weights = []
    for size in (0, 64):
        train("tokenizer.kind=bpe", "tokenizer.vocab_size=400", f"train.sampled_softmax={size}")
        weights.append(Run.load(tmp_path / "run").weights()["embedding"])
        shutil.rmtree(tmp_path / "run")
    assert not np.array_equal(*weights)
    np.testing.assert_allclose(*weights, atol=0.05)


@pytest.mark.gpu
def test_an_accelerator_takes_the_same_sample():
    assert losses(trainer(device="cuda")) == pytest.approx(losses(trainer()), rel=1e-4)
