"""A neural model, the counts of a corpus and those of the text being read as one distribution.

    p = shares[0] · p_neural + shares[1] · p_agreed + shares[2] · p_memory
    p_agreed(token) ∝ p_neural(token)^0.4 · p_counts(token)^0.75

They know different things: counts the exact phrases of the corpus, the memory this text's own names
and phrases, the neural model everything else. Either may be right alone, so the whole is a sum. But
most of what counts expect after a few tokens does not fit what stands before those, which only the
neural model knows. So the counts' part is a product, for which both have to agree (a logarithmic
opinion pool, Genest & Zidek 1986; for language models, Klakow 1998).

Who is right depends on the place: where this text has already said the last three tokens, and
always went on in the same way, the memory is; after words that the corpus has never seen, the
neural model. So the shares are a softmax of a linear function of what the counts and the memory
know of the place, the gating network of a mixture of experts (Jacobs, Jordan, Nowlan & Hinton
1991), fitted on held-out text. The neural model is not asked: its entropy as further evidence
gained nothing.

Letters: N places, E kinds of evidence, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from textwright.counts import kneser_ney, memory

Floats = NDArray[np.float64]

EVIDENCE = (*kneser_ney.EVIDENCE, *memory.EVIDENCE)
ROUNDS = 60  # of expectation maximization, after which bits are known to four digits
MOST = 20_000  # places, evenly spaced; more change nothing that can be measured
POWERS = (0.4, 0.75)  # of the neural model's and the counts' probabilities
COUNTS_ALONE = (0.0, 1.0)  # the powers of runs from when nothing had to agree
PRIOR = 50.0  # places that say that the evidence says nothing; so a short text cannot mislead


class Shares(NamedTuple):
    """Weights of the parts at one place, or their means over many; they sum to 1."""

    neural: float
    counts: float
    memory: float


EVEN = Shares(1 / 3, 1 / 3, 1 / 3)


@dataclass(frozen=True)
class Parts:
    """What each part predicts at some places, and what there is to weigh them by.

    chances: the probability of one token at each place (N, 3), or of all (N, 3, V), by the parts in
    the order of `Shares`; that of the counts is what they and the neural model agree on, see
    `agree` · evidence (N, E), in the order of EVIDENCE.
    """

    chances: NDArray[np.floating]
    evidence: Floats

    def at(self, place: int) -> Self:
        """The parts at one place alone."""
        here = slice(place, place + 1)
        return type(self)(self.chances[here], self.evidence[here])


@dataclass(frozen=True)
class Mixture:
    """weights (1 + E, 3): of the softmax; the first row is what is said without evidence · usual:
    the mean shares over the text that they were fitted on · powers: for `agree`."""

    weights: Floats
    usual: Shares
    powers: tuple[float, float] = POWERS

    @classmethod
    def constant(cls, shares: Shares = EVEN) -> Self:
        """The same shares everywhere."""
        weights = np.zeros((1 + len(EVIDENCE), 3))
        weights[0] = np.log(np.maximum(shares, 1e-12))
        return cls(weights, shares)

    def shares(self, evidence: Floats) -> Floats:
        """The share of each part at each place, (N, 3)."""
        return _softmax(self.weights[0] + evidence @ self.weights[1:])

    def mix(self, parts: Parts) -> NDArray[np.floating]:
        """The mixed probabilities, (N,) or (N, V)."""
        shares = self.shares(parts.evidence).astype(parts.chances.dtype)
        if parts.chances.ndim == 2:
            return np.einsum("ns,ns->n", shares, parts.chances)
        return np.matmul(shares[:, None], parts.chances)[:, 0]

    def to_json(self) -> dict[str, Any]:
        names = ("always", *EVIDENCE)
        weights = {name: row.tolist() for name, row in zip(names, self.weights, strict=True)}
        return {"usual": self.usual._asdict(), "weights": weights, "powers": list(self.powers)}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Raises KeyError or TypeError if `kept` is no mixture."""
        if "weights" not in kept:  # of a run from when shares were three numbers
            return replace(cls.constant(Shares(**kept)), powers=COUNTS_ALONE)
        weights = [kept["weights"][name] for name in ("always", *EVIDENCE)]
        neural, counts = kept.get("powers", COUNTS_ALONE)
        return cls(np.array(weights, np.float64), Shares(**kept["usual"]), (neural, counts))


def agree(neural: NDArray[np.float32], powered: NDArray[np.float32], power: float) -> None:
    """Turn powers of the counts' probabilities (N, V), in place, into what the counts and the
    neural model agree on: the product with powers of the model's, as a distribution.

    neural (N, V): logits of which the largest is 0 · power: that of the neural model.
    """
    products = power * neural
    np.exp(products, out=products)
    powered *= products
    powered /= powered.sum(1, keepdims=True)


def fit_mixture(parts: Parts, powers: tuple[float, float] = POWERS) -> Mixture:
    """The mixture under which held-out text is likeliest; parts: of every target (N,), with what
    agrees by these powers.

    Expectation maximization: whose each target was, given the shares, then weights that make the
    shares so. The second is one step of Newton's method with a bound in place of the curvature
    (Böhning 1992), so the text becomes likelier in every round.
    """
    stride = -(-len(parts.evidence) // MOST)
    chances, evidence = parts.chances[::stride], parts.evidence[::stride]
    mean, spread = evidence.mean(0), evidence.std(0)
    spread[spread == 0] = 1.0
    inputs = np.ones((len(chances), 1 + len(EVIDENCE)))
    inputs[:, 1:] = (evidence - mean) / spread
    prior = np.full(1 + len(EVIDENCE), PRIOR)
    prior[0] = 0.0
    step = np.linalg.inv(inputs.T @ inputs / 2 + np.diag(prior))
    weights = np.zeros((len(prior), 3))
    for _ in range(ROUNDS):
        shares = _softmax(inputs @ weights)
        owed = shares * chances
        owed /= owed.sum(1, keepdims=True)
        weights += step @ (inputs.T @ (owed - shares) - prior[:, None] * weights)
    usual = Shares(*_softmax(inputs @ weights).mean(0).tolist())
    weights[1:] /= spread[:, None]
    weights[0] -= mean @ weights[1:]
    return Mixture(weights, usual, powers)


def _softmax(values: Floats) -> Floats:
    powers = np.exp(values - values.max(-1, keepdims=True))
    shares: Floats = powers / powers.sum(-1, keepdims=True)
    return shares
