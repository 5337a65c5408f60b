"""Everything that can be seen of a run while it reads a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textwright.errors import GenerationError
from textwright.inspection.next_tokens import NextTokens, Token, next_tokens, seen
from textwright.inspection.surprisal import Surprisal, surprisals
from textwright.progress import OnStage, silent
from textwright.wording import counted
from textwright.writing.generator import Generator

if TYPE_CHECKING:
    from textwright.models import LanguageModel

Floats = NDArray[np.float64]

START = "(start)"  # shown for the stop that begins a text
MOST_WHOLE = 2_000  # tokens that are looked into at each of them: a page has a row for each
FULL_BITS = 10.0  # of a token, at which its shade is full
MAGNITUDES = {"candidate": "|C̃|", "C": "|C|", "n": "|n|", "h": "|h|"}  # of what may be below 0
TABLES = ("next", "surprisal")  # the views of any run; see also `inner.views_of`


@dataclass(frozen=True)
class Reading:
    """A text that a run has read.

    next: what may come after it; its `tokens` (T,) are those that the neural model sees at the end
    of the text · unseen: number of older ones, where the text is longer than the model's context.
    gap: what stands between tokens where their texts have no spaces. The rest is None unless it was
    asked for and the model has it.

    surprisal: of every token of the text · attention: of each layer (heads, T, T) · gates: of each
    layer, each quantity (T, units) by name · saliency (T, T), in nats: row t is that of the tokens
    0 … t for the token after t; in the last row, for the likeliest one. Where only the end was
    asked for, attention (heads, 1, T) and saliency (1, T) have the last row alone.
    """

    next: NextTokens
    unseen: int = 0
    gap: str = ""
    surprisal: list[Surprisal] | None = None
    attention: list[Floats] | None = None
    gates: list[dict[str, Floats]] | None = None
    saliency: Floats | None = None

    @property
    def shown(self) -> list[str]:
        """The names of `tokens`: their texts, with white space visible."""
        names = [token.shown for token in self.tokens]
        return names if self.unseen else [START, *names[1:]]

    @property
    def texts(self) -> list[str]:
        """The texts of `tokens`, which with `gap` between them read as the text does."""
        texts = [token.text for token in self.tokens]
        return texts if self.unseen else [f"{START}{'' if self.gap else ' '}", *texts[1:]]

    @property
    def tokens(self) -> list[Token]:
        """Those that the neural model sees at the end of the text."""
        return self.next.tokens

    @property
    def note(self) -> str:
        """What of the text the model no longer sees at its end, in a sentence; empty: nothing."""
        if not self.unseen:
            return ""
        return (
            f"The text is longer than the model's context: at its end the model sees the newest "
            f"{counted(len(self.tokens), 'token')} and no longer the {self.unseen:,} before them."
        )

    def to_json(self) -> dict[str, Any]:
        """The step that `textwright inspect --json` prints: attention and saliency in the last
        row, gates as statistics over each layer's units."""
        from textwright.inspection.inner import newest_attention, summarize_gates

        return self.next.to_json() | {
            "surprisal": None if self.surprisal is None else list(map(asdict, self.surprisal)),
            "attention": self.attention and newest_attention(self.attention),
            "gates": self.gates and summarize_gates(self.gates),
            "saliency": None if self.saliency is None else self.saliency[-1].round(6).tolist(),
        }


def read_text(
    generator: Generator,
    model: LanguageModel | None,
    text: str,
    temperatures: Sequence[float] = (1.0,),
    top: int = 5,
    views: Sequence[str] = TABLES,
    whole: bool = True,
    on_progress: OnStage = silent,
) -> Reading:
    """Read a text and keep what the views show of it, as far as the model has it.

    model: see `inner.open_model`; views that look inside need it · whole: whether attention and
    saliency are of every token, or of the last alone, which costs far less · on_progress: called
    with a stage, and how much of it is done and in all. Raises GenerationError if a temperature is
    not above 0, or the text too long to be looked into as a whole.
    """
    read = generator.tokenizer.encode(text).tolist()
    ids = seen(generator, read)
    if model is not None and whole and len(ids) > MOST_WHOLE and not {*views} <= {*TABLES}:
        raise GenerationError(
            f"The model would be looked into at each of {len(ids):,} tokens, and {MOST_WHOLE:,} "
            "are the most: shorten the text, or name the views next and surprisal alone."
        )
    after = next_tokens(generator, text, temperatures, top)
    surprisal = attention = gates = shares = None
    if "surprisal" in views:
        surprisal = surprisals(
            generator,
            text,
            temperatures,
            top,
            lambda done, total: on_progress("Reading", done, total),
        )
    if model is not None:
        from textwright.inspection import inner
        from textwright.inspection.saliency import saliency

        if "attention" in views or "gates" in views:
            traced = inner.trace(model, ids)
            attention = inner.attention_of(traced, whole) or None
            gates = inner.gates_of(traced) or None
        if "saliency" in views:
            coming = next(iter(after.next.values()))[0].id
            first = 0 if whole else len(ids) - 1
            shares = saliency(
                model,
                ids,
                np.arange(first, len(ids)),
                np.append(ids[first + 1 :], coming),
                lambda done, total: on_progress("Saliency", done, total),
            )
    gap = " " if generator.tokenizer.kind in ("word", "symbols") else ""
    return Reading(after, 1 + len(read) - len(ids), gap, surprisal, attention, gates, shares)
