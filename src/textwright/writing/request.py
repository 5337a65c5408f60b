"""What can be asked of the engine, and what it answers with."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from textwright.errors import GenerationError
from textwright.writing.prompt import Prompt
from textwright.writing.sampling import uniforms
from textwright.writing.sampling_options import SamplingOptions
from textwright.writing.sampling_steps import likeliest_ids
from textwright.writing.sequences import KnownSequences

MOST_LIKELIEST = 50

# stop: the stop token or a stop text came · length: max_new_tokens are written ·
# no_token_left: every token that could come next is banned
FinishReason = Literal["stop", "length", "no_token_left"]


@dataclass(frozen=True)
class Request:
    """`num` texts that go on from one prompt; of beams, the best.

    options: tokens in them are given as ids · first: the number of the first text among all texts
    of this prompt and seed, on which its draws depend · logprobs: give the log-probability of each
    token, and of so many that were the likeliest there; None: give none · echo: also score the
    tokens of the prompt; with num 0 nothing else is done · known: the sequences that `no_copy`
    forbids. Raises GenerationError where a value is out of range.
    """

    prompt: Prompt
    options: SamplingOptions = field(default_factory=SamplingOptions)
    num: int = 1
    seed: int = 0
    first: int = 0
    logprobs: int | None = None
    echo: bool = False
    known: KnownSequences | None = None

    def __post_init__(self) -> None:
        beams = self.options.beams
        if self.num < (0 if self.echo else 1):
            raise GenerationError(f"--num is {self.num}: ask for 1 or more texts.")
        if self.num > beams > 1:
            raise GenerationError(
                f"--num {self.num} needs at least {self.num} beams; --beams is {beams}."
            )
        if self.logprobs is not None and not 0 <= self.logprobs <= MOST_LIKELIEST:
            raise GenerationError(
                f"logprobs is {self.logprobs}: give a number from 0 to {MOST_LIKELIEST}."
            )
        uniforms(self.seed, 0)  # refuse a bad seed now, not at the first token

    def draws(self) -> Iterator[np.random.Generator]:
        """The random numbers of each text."""
        return (uniforms(self.seed, number) for number in count(self.first))


@dataclass(frozen=True)
class Cost:
    """What the rule against copies cost. bits: how much less likely the model's own distribution is
    to write within the rule, Σ −log₂(1 − the probability of what was forbidden), which is the
    Kullback-Leibler divergence of writing by the rule from writing without · places: how often
    something was forbidden."""

    bits: float = 0.0
    places: int = 0

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.bits + other.bits, self.places + other.places)


NO_COST = Cost()


class Scored(NamedTuple):
    """How likely one token was, by the model itself, before the options change anything."""

    logprob: float  # nats
    likeliest: dict[int, float]  # the log-probabilities of the likeliest ids there, best first

    @classmethod
    def of(
        cls, values: NDArray[np.floating], new_id: int, count: int | None, total: float = 0.0
    ) -> Self | None:
        """The id among log-probabilities (V,), with `count` likeliest; None where that is None.

        total: of logits in place of log-probabilities, what log-softmax subtracts.
        """
        if count is None:
            return None
        best = likeliest_ids(values, count)
        likeliest = values[best].astype(np.float64) - total
        found = dict(zip(best.tolist(), likeliest.tolist(), strict=True))
        return cls(float(values[new_id]) - total, found)


class TokenEvent(NamedTuple):
    """One token of one text. The texts of a sample's events, joined, are the sample's text."""

    request: int
    sample: int  # the number of the text within its request
    text: str  # what can be shown now; may be empty, and may come later than its token
    id: int | None  # None where no token was written: the sample ended instead
    finish_reason: FinishReason | None  # set on the sample's last event
    scored: Scored | None = None  # where requested; at the end, of the stop token that ended it
    cost: Cost = NO_COST


class EchoEvent(NamedTuple):
    """The scores of a prompt's tokens, of the first as the beginning of a document."""

    request: int
    scored: list[Scored]


class ErrorEvent(NamedTuple):
    """The request has ended with an error; its texts are incomplete."""

    request: int
    error: Exception


Event = TokenEvent | EchoEvent | ErrorEvent
