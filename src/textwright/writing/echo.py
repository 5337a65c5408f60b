"""A prompt whose tokens are scored, as a row of the batch."""

from textwright.writing.request import Request, Scored
from textwright.writing.rows import Row
from textwright.writing.sampling_steps import Logits, log_probabilities


class Echo(Row):
    """Reads the ids of its prompt one by one, in any company, and scores each: the first as the
    beginning of a document."""

    group = "echo"

    def __init__(self, number: int, request: Request) -> None:
        super().__init__(number, [])
        self.scored: list[Scored] = []
        self._targets = request.prompt.ids
        self._count = request.logprobs or 0

    def read(self, logits: Logits) -> bool:
        """Go on to the next id and score it by its logits (V,) → whether another one follows."""
        if not self._targets:
            return False
        target = self._targets[len(self.ids)]
        scored = Scored.of(log_probabilities(logits), target, self._count)
        assert scored is not None
        self.scored.append(scored)
        self.ids.append(target)
        return len(self.ids) < len(self._targets)
