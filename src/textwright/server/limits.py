"""What a server takes on: stated, so that a request beyond it is refused with a sentence."""

from dataclasses import dataclass, field
from typing import Any


def _limit(default: float, description: str) -> Any:
    return field(default=default, metadata={"description": description})


@dataclass(frozen=True)
class Limits:
    """Everything that bounds what requests cost. All are above 0."""

    batch_size: int = _limit(128, "Texts of a run that are written together.")
    queue: int = _limit(512, "Texts that run or wait, of all requests; beyond it, 429.")
    texts: int = _limit(128, "Texts and beams of one request.")
    tokens: int = _limit(200_000, "Tokens of one request: those of its prompts, and new ones.")
    logprobs: int = _limit(500_000, "Log-probabilities of one request, of the likeliest too.")
    bytes: int = _limit(4_000_000, "Bytes of a request's body.")
    seconds: float = _limit(600.0, "Seconds from a request to the end of its answer.")
