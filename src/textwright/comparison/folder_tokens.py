"""The tokens of a model folder: those that `transformers` loads, which must lose nothing, or those
of one of our runs, with the escape code that its export took along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from textwright.comparison.subjects import check_restored, restored_by_code
from textwright.errors import TextwrightError
from textwright.escape import EscapeCode
from textwright.escape.arithmetic import ArithmeticDecoder, SymbolWriter
from textwright.hub import quiet_transformers
from textwright.tokenizer import Tokenizer

ESCAPE, ESCAPE_TOKENIZER = "escape.json.gz", "escape_tokenizer.json"


class FolderTokens(Protocol):
    """How a folder's model cuts text."""

    remarks: list[str]

    def encode(self, document: str) -> tuple[list[int], list[int]]:
        """Ids, and the first character of each. Raises EvaluationError if what they lose is not
        charged."""

    def decode(self, ids: Sequence[int]) -> str: ...
    def escape_bits(self, document: str) -> float:
        """Bits for what the ids lose."""

    def write(self, document: str, writer: SymbolWriter) -> Sequence[int]:
        """Ids; what they lose is written."""

    def read(self, ids: Sequence[int], reader: ArithmeticDecoder) -> str:
        """The document of which `write` wrote the rest."""


@dataclass
class WholeTokens:
    """A tokenizer of transformers, which gives every document back."""

    name: str
    tokenizer: Any
    remarks: list[str]

    def encode(self, document: str) -> tuple[list[int], list[int]]:
        with quiet_transformers():
            found = self.tokenizer(
                document,
                add_special_tokens=False,
                return_offsets_mapping=self.tokenizer.is_fast,
            )
        ids = list(found["input_ids"])
        check_restored(self.name, document, self.decode(ids))
        if self.tokenizer.is_fast:
            return ids, [start for start, _ in found["offset_mapping"]]
        return ids, [len(document) * at // max(1, len(ids)) for at in range(len(ids))]

    def decode(self, ids: Sequence[int]) -> str:
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    def escape_bits(self, document: str) -> float:
        return 0.0

    def write(self, document: str, writer: SymbolWriter) -> Sequence[int]:
        return self.encode(document)[0]

    def read(self, ids: Sequence[int], reader: ArithmeticDecoder) -> str:
        return self.decode(ids)


@dataclass
class EscapedTokens:
    """The tokenizer of one of our runs, with its escape code."""

    name: str
    escape: EscapeCode
    remarks: list[str]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return self.escape.tokenizer

    def encode(self, document: str) -> tuple[list[int], list[int]]:
        ids = self.tokenizer.encode(document).tolist()
        check_restored(self.name, document, restored_by_code(self.escape, document, ids))
        return ids, self.tokenizer.starts(document).tolist()

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)

    def escape_bits(self, document: str) -> float:
        return self.escape.bits(document)

    def write(self, document: str, writer: SymbolWriter) -> Sequence[int]:
        return self.escape.write(writer, document)

    def read(self, ids: Sequence[int], reader: ArithmeticDecoder) -> str:
        return self.escape.read(reader, ids)


def tokens_of(path: Path, tokenizer: Any, vocabulary: int) -> FolderTokens:
    """How the model in a folder cuts text.

    tokenizer: what transformers loads there · vocabulary: ids that the model has. Raises a
    TextwrightError where an escape code stands there that is damaged or fits another model.
    """
    if not (path / ESCAPE).exists():
        return WholeTokens(str(path), tokenizer, [])
    own = Tokenizer.load(path / ESCAPE_TOKENIZER)
    if own.vocab_size > vocabulary:
        raise TextwrightError(
            f"{path / ESCAPE_TOKENIZER} has more tokens than the model beside it; export the run "
            "again."
        )
    remark = "pays the escape code of its export for what its tokens lose"
    return EscapedTokens(str(path), EscapeCode.load(path / ESCAPE, own), [remark])
