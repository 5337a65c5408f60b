"""The embedding that is computed from what stands near each token."""

import numpy as np
import pytest
import torch

from textwright.config import Config
from textwright.families import GPTOptions
from textwright.models import build
from textwright.models.pretrained import find_origin
from textwright.run import Run
from textwright.training import counted_embedding as module
from textwright.training.counted_embedding import counted_embedding, embed_by_neighbors
from textwright.training.encoded import Documents
from textwright.training.session import train_run

STOP = 0


def documents(*rows):
    starts = np.cumsum([0, *map(len, rows)])
    return Documents(np.concatenate(rows).astype(np.uint16), starts, STOP)


def some_documents(vocab_size, seed=0):
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, vocab_size)
    shares /= shares.sum()
    return documents(
        *(1 + random.choice(vocab_size - 1, random.integers(1, 30), p=shares) for _ in range(40))
    )


def plain_information(corpus, vocab_size):
    """Its definition, one pair after another."""
    near = np.zeros((vocab_size, vocab_size))
    for number in range(len(corpus)):
        row = [STOP, *corpus[number].tolist()]
        for i, one in enumerate(row):
            for j, other in enumerate(row):
                if 1 <= abs(i - j) <= 5:
                    near[one, other] += 1 / abs(i - j)
    total = near.sum(1)
    usual = total**0.75 / (total**0.75).sum()
    found = np.zeros_like(near)
    for one, other in np.argwhere(near):
        chance = near[one, other] / total[one]
        trust = np.sqrt(total[one] / (total[one] + 10))
        found[one, other] = max(0, np.log(chance / usual[other])) * trust
    return found


def test_vectors_are_those_of_the_definition():
    """As wide as the vocabulary, nothing is left out, so that all products of two vectors agree,
    which no turn of them changes."""
    corpus, size = some_documents(25), 25
    left, values, _ = np.linalg.svd(plain_information(corpus, size))
    expected = left * np.sqrt(values)
    expected -= expected.mean(0)
    for width in (25, 40):
        found = counted_embedding(corpus, size, width, seed=3).double().numpy()
        assert found.shape == (size, width)
        products = expected @ expected.T / (expected**2).sum() * found.size
        np.testing.assert_allclose(found @ found.T, products, atol=2e-3)


def test_the_largest_singular_vectors_are_found():
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(60, 60)).Q for _ in range(2))
    matrix = left * 0.8 ** torch.arange(60) @ right.T
    found, values = module._largest(matrix.to_sparse(), 10, torch.Generator().manual_seed(0))
    torch.testing.assert_close(values, 0.8 ** torch.arange(10))
    products = (found.T @ left[:, :10]).abs()
    torch.testing.assert_close(products, torch.eye(10), atol=1e-2, rtol=0)


def test_tokens_with_the_same_neighbors_are_near_each_other():
    random = np.random.default_rng(0)
    rows = [[1, random.choice([5, 6]), 2] for _ in range(300)]
    rows += [[3, random.choice([7, 8]), 4] for _ in range(300)]
    vectors = counted_embedding(documents(*rows), 10, 8, seed=0)
    alike = torch.nn.functional.cosine_similarity(vectors[:, None], vectors, dim=-1)
    assert alike[5, 6] > 0.95 and alike[7, 8] > 0.95
    assert alike[5, 7] < 0.3 and alike[6, 8] < 0.3


def test_nothing_is_near_across_the_end_of_a_document():
    one, other, _ = module._near(documents([1, 2], [3]), 5)
    assert {*zip(one.tolist(), other.tolist(), strict=True)} == {
        *((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1), (0, 3), (3, 0))
    }


def test_of_many_places_some_are_looked_at_evenly(monkeypatch):
    corpus = some_documents(10)
    everything = module._near(corpus, 10)[2].sum()
    monkeypatch.setattr(module, "PLACES", len(corpus.ids) // 4)
    some = module._near(corpus, 10)[2].sum()
    assert 0.15 * everything < some < 0.3 * everything


def test_a_model_keeps_the_size_of_its_embedding_and_random_numbers_stay():
    torch.manual_seed(0)
    model = build(GPTOptions(layers=1, heads=2, width=16, context_length=8), 25, 8)
    before, state = model.embedding.std().item(), torch.get_rng_state()
    embed_by_neighbors(model, some_documents(25), seed=1)
    assert abs(model.embedding.std().item() / before - 1) < 0.01
    expected = counted_embedding(some_documents(25), 25, 16, seed=1)
    torch.testing.assert_close(model.embedding / model.embedding.std(), expected, atol=0.01, rtol=0)
    assert model.embedding.requires_grad
    assert torch.equal(state, torch.get_rng_state())
    other = counted_embedding(some_documents(25), 25, 16, seed=2)
    assert not torch.allclose(expected, other)


def test_a_fresh_training_begins_with_it_and_one_from_weights_does_not(notes, tiny, tmp_path):
    still = [*tiny, "train.learning_rate=1e-12", "train.max_steps=1"]

    def trained(name, *settings, init_from=None):
        config = Config.resolve("demo", settings=[*still, *settings])
        list(train_run([notes], tmp_path / name, config, init_from=init_from))
        return Run.load(tmp_path / name).weights()["embedding"]

    plain = trained("plain")
    counted = trained("counted", "train.counted_embedding=true")
    assert not np.allclose(plain, counted)
    assert counted.std() == pytest.approx(plain.std(), rel=0.02)
    begun = trained(
        "begun", "train.counted_embedding=true", init_from=find_origin(str(tmp_path / "plain"))
    )
    np.testing.assert_allclose(begun, plain, atol=1e-6)
