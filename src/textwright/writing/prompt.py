"""What a text goes on from: its prompt, and a guide where parts of the text are given."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from textwright.tokenizer import Tokenizer


class Guide(Protocol):
    """Leads one text: which ids are certain, and what is shown of the ids that are written."""

    def forced_id(self) -> int | None:
        """The id that comes next whatever the model predicts; None: the model chooses."""

    @property
    def waits(self) -> bool:
        """Whether what is given has yet to come, so that the model cannot end the text."""

    def push(self, text: str) -> str:
        """What can be shown, given the text that the newest id completed."""

    def flush(self, text: str) -> str:
        """What is left to show at the end, given the text that the decoder still held."""


@dataclass(frozen=True)
class Prompt:
    """One prompt as the model reads it, and the guide of the texts that go on from it."""

    text: str
    ids: list[int]  # without the stop id that every context begins with
    unknown: list[str] = field(default_factory=list)  # words that are read as [UNK]
    make_guide: Callable[[], Guide] | None = None  # a new guide for each text; None: no guide

    def begun(self, ids: Sequence[int]) -> "Prompt":
        """The prompt of texts that begin with these ids: they are new tokens, and count as such."""
        if not ids:
            return self
        inner = self.make_guide
        return replace(self, make_guide=lambda: Opening(ids, inner() if inner else None))


class Opening:
    """Leads a text along the ids that it begins with, and then as another guide does.

    Where the other guide is certain, its id comes in place of the one that is given.
    """

    def __init__(self, ids: Sequence[int], inner: Guide | None) -> None:
        self._left, self._inner = deque(ids), inner

    def forced_id(self) -> int | None:
        """The next of the ids; after them, what the other guide is certain of."""
        certain = self._inner.forced_id() if self._inner else None
        return self._left[0] if certain is None and self._left else certain

    @property
    def waits(self) -> bool:
        """Whether the other guide waits."""
        return self._inner is not None and self._inner.waits

    def push(self, text: str) -> str:
        """Go on to the next id."""
        if self._left:
            self._left.popleft()
        return self._inner.push(text) if self._inner else text

    def flush(self, text: str) -> str:
        """All of it can be shown."""
        return self._inner.flush(text) if self._inner else text


def read_prompts(texts: Sequence[str], tokenizer: Tokenizer) -> list[Prompt]:
    """Plain prompts. Word and symbol tokenizers drop white space at the end of each."""
    if tokenizer.kind in ("word", "symbols"):  # their tokens bring the space before them
        texts = [text.rstrip() for text in texts]
    prompts = []
    for text, array in zip(texts, tokenizer.encode_batch(list(texts)), strict=True):
        ids = array.tolist()
        prompts.append(
            Prompt(text, ids, tokenizer.unknown(text) if tokenizer.unknown_id in ids else [])
        )
    return prompts
