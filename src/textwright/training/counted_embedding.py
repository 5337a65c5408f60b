"""An embedding to begin with: tokens that stand near the same tokens get similar vectors.

With random vectors, a model has to find out step by step which tokens are alike, and the vector of
a rare one has hardly moved when the time is over. What stands near it is counted in seconds. These
are the largest singular vectors of the positive pointwise mutual information of tokens and their
neighbors, the matrix that word2vec factorizes, too (Levy & Goldberg 2014), with the frequencies of
neighbors smoothed as there (Levy, Goldberg & Dagan 2015).

Letters: V vocabulary, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from textwright.compute.processes import gather, leads
from textwright.models import LanguageModel
from textwright.training.encoded import Documents

WINDOW = 5  # tokens on each side that are near; the next one counts 1, that at distance d 1/d
PLACES = 2_000_000  # evenly spaced, at which the token on the right is looked up
SMOOTHING = 0.75  # power of the frequencies of neighbors
DOUBT = 10.0  # neighbors that a token has to have before its vector is believed
EXTRA, ROUNDS = 20, 3  # of the search for singular vectors (Halko, Martinsson & Tropp 2011)


@torch.no_grad()
def embed_by_neighbors(model: LanguageModel, documents: Documents, seed: int) -> None:
    """Replace a model's random embedding by one of the same size, the same in all processes."""
    vocab_size, width = model.embedding.shape
    found = counted_embedding(documents, vocab_size, width, seed) if leads() else None
    vectors = gather(found)[0]
    assert vectors is not None
    model.embedding.copy_(vectors * model.embedding.std())


def counted_embedding(documents: Documents, vocab_size: int, width: int, seed: int) -> Tensor:
    """Vectors (V, D) float32, with a mean of 0 and a mean square of 1 over all their numbers.

    A token that the documents do not have is at the mean.
    """
    random = torch.Generator().manual_seed(seed)
    left, values = _largest(_information(documents, vocab_size), width, random)
    turn = torch.linalg.qr(torch.randn(width, width, generator=random)).Q
    vectors = left * values.sqrt() @ turn[: len(values)]  # so that no direction is the largest
    vectors -= vectors.mean(0)
    return vectors / vectors.square().mean().sqrt().clamp_min(1e-12)


def _information(documents: Documents, vocab_size: int) -> Tensor:
    """The positive pointwise mutual information of tokens and their neighbors, smaller for rare
    tokens: sparse (V, V)."""
    token, neighbor, counts = _near(documents, vocab_size)
    total = np.bincount(token, counts, vocab_size)
    usual = total**SMOOTHING
    usual /= usual.sum()
    found = np.log(counts / total[token] / usual[neighbor]).clip(0)
    found *= np.sqrt(total / (total + DOUBT))[token]
    return torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([token, neighbor])),
        torch.from_numpy(found.astype(np.float32)),
        (vocab_size, vocab_size),
        is_coalesced=True,
        check_invariants=False,
    )


def _near(documents: Documents, vocab_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each pair of tokens that stand near each other, in both orders, and how often they do.

    Nothing is near across the end of a document; each begins with its stop.
    """
    opening = documents.starts[:-1] + np.arange(len(documents))  # places of the stops
    total = len(documents.ids) + len(documents)
    left = np.arange(0, total, -(-total // PLACES))
    owner = opening.searchsorted(left, "right") - 1
    left -= opening[owner]  # from here on, places in their document

    def tokens(owner: np.ndarray, place: np.ndarray) -> np.ndarray:
        found = documents.ids[documents.starts[owner] + np.maximum(place - 1, 0)]
        return np.where(place, found.astype(np.int64), documents.stop_id)

    keys = []  # of a pair and its distance
    for distance in range(1, WINDOW + 1):
        inside = left + distance <= documents.lengths[owner]
        here, place = owner[inside], left[inside]
        one, other = tokens(here, place), tokens(here, place + distance)
        for pairs in (one * vocab_size + other, other * vocab_size + one):
            keys.append(pairs * WINDOW + distance - 1)
    pairs, distances = np.divmod(np.sort(np.concatenate(keys)), WINDOW)
    firsts = np.flatnonzero(np.diff(pairs, prepend=-1))
    counts = np.add.reduceat(1 / (1 + distances), firsts)
    return *np.divmod(pairs[firsts], vocab_size), counts


def _largest(matrix: Tensor, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Left singular vectors (V, count) of the largest singular values (count,); of fewer than
    `count` rows, as many as there are."""
    size = min(count + EXTRA, len(matrix))
    back = matrix.mT.coalesce()
    found = torch.randn(len(matrix), size, generator=random)
    for _ in range(ROUNDS):
        basis = torch.linalg.qr(matrix @ found).Q.contiguous()  # else the product takes ten times
        found = back @ basis
    squares, turn = torch.linalg.eigh(found.mT @ found)  # in ascending order
    return (basis @ turn).fliplr()[:, :count], squares.clamp_min(0).sqrt().flipud()[:count]
