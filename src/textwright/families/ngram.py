"""The n-gram family: counted, not trained."""

from typing import ClassVar, Literal

from pydantic import Field

from textwright.families.family import Family


class NGramOptions(Family):
    """Options of the n-gram family: interpolated modified Kneser-Ney (see `counts.kneser_ney`)."""

    layouts: ClassVar = ()
    counted: ClassVar = True
    backend: ClassVar = "textwright.backends.counts:open_backend"

    family: Literal["ngram"] = "ngram"
    longest: int = Field(
        8,
        ge=1,
        le=12,
        description="Longest n-gram that may be counted; longer ones are tried while each saves "
        "0.2 % on held-out text.",
    )

    @property
    def title(self) -> str:
        return "n-gram"

    def describe(self, context_length: int) -> str:
        return f"Kneser-Ney, n-grams of up to {self.longest} tokens"
