"""Texts whose ids are drawn one by one, many texts at a time.

Letters: B texts that share their options, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np

from textwright.tokenizer import Tokenizer
from textwright.writing.request import NO_COST, Cost, Request, Scored, TokenEvent
from textwright.writing.sampling import choose
from textwright.writing.sampling_steps import (
    Logits,
    NoTokenLeftError,
    bits_without,
    log_probabilities,
)
from textwright.writing.text import Text

_DRAWS = 64  # random numbers that are made at a time


class Drawn(Text):
    """A text with the random numbers of its places. Its guide, if any, may force some ids."""

    def __init__(
        self,
        number: int,
        sample: int,
        request: Request,
        tokenizer: Tokenizer,
        draws: np.random.Generator,
    ) -> None:
        super().__init__(number, sample, request, tokenizer)
        self.group = request.options.steps
        self._draws = draws
        self._drawn: list[float] = []  # the next random numbers, last first

    def uniform(self) -> float:
        """The random number of the next place. Each place has one, whether or not it is used."""
        if not self._drawn:
            self._drawn = self._draws.random(_DRAWS)[::-1].tolist()
        return self._drawn.pop()

    def forced_id(self) -> int | None:
        """The id that comes next whatever the model predicts; None: the model chooses."""
        return self._guide.forced_id() if self._guide else None

    def cost(self, logits: Logits) -> Cost:
        """What the rule against copies costs at the next place, given its logits (V,)."""
        if self.request.known is None:
            return NO_COST
        copied = self.copied
        return Cost(bits_without(logits, copied), 1) if len(copied) else NO_COST


def draw_ids(texts: Sequence[Drawn], logits: Logits) -> list[TokenEvent | Exception]:
    """Continue each text by the next id, or say why one cannot go on.

    logits (B, V), which are overwritten.
    """
    options, stop_id = texts[0].options, texts[0].stop_id
    logprobs = {
        place: log_probabilities(logits[place])
        for place, text in enumerate(texts)
        if text.request.logprobs is not None
    }
    costs = [t.cost(row) for t, row in zip(texts, logits, strict=True)] if options.no_copy else []
    uniforms = [text.uniform() for text in texts]
    ids, troubles = choose(logits, options, uniforms, texts, stop_id)
    outcomes: list[TokenEvent | Exception] = []
    for place, (text, new_id) in enumerate(zip(texts, ids, strict=True)):
        try:
            cost = costs[place] if costs else NO_COST
            if (forced := text.forced_id()) is not None:
                new_id, cost = forced, NO_COST
            elif place in troubles:
                raise troubles[place]
            scored = None
            if place in logprobs:
                scored = Scored.of(logprobs[place], new_id, text.request.logprobs)
            outcomes.append(text.take(new_id, scored, cost))
        except NoTokenLeftError:
            outcomes.append(text.end("no_token_left"))
        except Exception as error:
            outcomes.append(error)
    return outcomes
