"""Real texts that a run has not read, in the form in which it writes: what its texts are held to.

One half is the reference point; the other half is counted by the judge, which therefore has read
neither the reference nor what the run learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textwright.errors import EvaluationError
from textwright.tokenizer import Tokenizer

FEWEST = 10  # texts on either side
COUNTED = 2_000  # texts that the judge counts at most
PROMPT = 32  # tokens before a piece of a long document


@dataclass(frozen=True)
class RealTexts:
    """texts: the ids of each, at most max_tokens · prompts: what stands before each, "" at the
    beginning of a document · others: texts of the same kind, for a judge to count."""

    texts: list[np.ndarray]
    prompts: list[str]
    others: list[np.ndarray]
    max_tokens: int


def choose_real_texts(
    documents: Sequence[str], tokenizer: Tokenizer, count: int, max_tokens: int, seed: int = 0
) -> RealTexts:
    """Up to `count` held-out texts in random order, and others of the same kind.

    A text is the beginning of a document. Where there are too few documents for that, as of a
    novel, it is a piece of one, with the PROMPT tokens before it as what a model goes on from.
    Raises EvaluationError where there are too few of these too.
    """
    encoded = tokenizer.encode_batch(list(documents))
    texts = [(ids[:max_tokens], "") for ids in encoded]
    if len(texts) < 2 * FEWEST:
        texts = [
            (ids[start : start + max_tokens], tokenizer.decode(ids[start - PROMPT : start]))
            for ids in encoded
            for start in range(PROMPT, len(ids) - max_tokens + 1, PROMPT + max_tokens)
        ]
    if len(texts) < 2 * FEWEST:
        raise EvaluationError(
            f"The held-out text is too short to compare with: {len(documents):,} documents, or "
            f"{len(texts):,} pieces of {max_tokens} tokens, where {2 * FEWEST} are needed; name "
            "more text with --corpus."
        )
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    chosen, others = order[: min(count, len(texts) // 2)], order[min(count, len(texts) // 2) :]
    return RealTexts(
        texts=[texts[at][0] for at in chosen],
        prompts=[texts[at][1] for at in chosen],
        others=[texts[at][0] for at in others[:COUNTED]],
        max_tokens=max_tokens,
    )
