"""Weights to begin from in a GGUF file, llama.cpp's form of a model with its tokenizer.

Numbers stored in few bits are widened to float32, one tensor at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textwright.config import OriginRecord
from textwright.errors import PretrainedError
from textwright.families import GPTOptions
from textwright.models.gguf_form import (
    EMBEDDING,
    LLAMA,
    OUTPUT,
    STRETCH,
    config_in,
    places,
    with_halves,
)
from textwright.models.gguf_header import Header, read_header
from textwright.models.places import (
    Places,
    Shape,
    check,
    gather,
    refuse_larger_than_memory,
    shapes_of,
)
from textwright.models.published import (
    FORMS,
    KNOWN,
    UNUSABLE,
    fine_tuned,
    reason_of,
    tokens_embedded,
)
from textwright.run import Arrays
from textwright.tokenizer import Tokenizer
from textwright.tokenizer.byte_level import rebuild

PADDING = 5  # type of a token that only fills up the vocabulary
# Other names of a way to cut text, as in llama.cpp.
CUTS = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "deepseek-r1-qwen": "qwen2"}


def open_gguf(path: Path, name: str) -> GGUF:
    """Open a GGUF file; only its header is read. name: as `--from` gives it.

    Raises PretrainedError if it is damaged, or holds another model than gpt.py can compute.
    """
    with _usable(name):
        header = read_header(path)
        config = config_in(header)
        architecture = config["model_type"]
        model = FORMS[architecture].options_of(config)
        options = GPTOptions(**model)
        return GGUF(path, name, header, architecture, model, places(architecture, options))


@dataclass(frozen=True)
class GGUF:
    """A GGUF file. source: the name given · model: its shape, as `[model]` options."""

    path: Path
    source: str
    header: Header
    architecture: str
    model: dict[str, Any]
    places: Places

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, of which some may belong to no token."""
        with _usable(self.source):
            if EMBEDDING not in self.header.tensors:
                raise ValueError(f"it lacks {EMBEDDING}")
            return self.header.tensors[EMBEDDING].shape[0]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        with _usable(self.source):
            values = self.header.values
            if (kind := values["tokenizer.ggml.model"]) != "gpt2":
                raise ValueError(f"its tokenizer is {kind!r}, not a byte-level BPE ('gpt2')")
            if not (cut := values.get("tokenizer.ggml.pre")):
                raise ValueError("it does not say how text is cut (tokenizer.ggml.pre)")
            tokens: list[str] = values["tokenizer.ggml.tokens"]
            kinds = values.get("tokenizer.ggml.token_type", [])
            used = [at for at, kind in enumerate(kinds, 1) if kind != PADDING]
            tokens = tokens[: max(used, default=len(tokens))]
            merges, stop = values["tokenizer.ggml.merges"], values["tokenizer.ggml.eos_token_id"]
            return rebuild(tokens, merges, CUTS.get(cut, cut), tokens[stop])

    def weights(self) -> Arrays:
        """float32 arrays by canonical name, without embedding rows that belong to no token."""
        self._check()
        count = tokens_embedded(self.source, self.vocab_size, self.tokenizer)
        return gather(self._tensors(), self.places, self._shapes, count)

    def inherited(self) -> dict[str, dict[str, Any]]:
        """See `run.origin.Origin`."""
        return fine_tuned(self.model, self.tokenizer)

    def record(self) -> OriginRecord:
        """See `run.origin.Origin`. Raises PretrainedError if the weights cannot be used."""
        self._check()
        return OriginRecord.of(self.source, [self.path])

    @cached_property
    def _shapes(self) -> dict[str, Shape]:
        return shapes_of(GPTOptions(**self.model), self.vocab_size)

    def _check(self) -> None:
        """Raise PretrainedError if tensors are missing, unknown, of another shape, or larger than
        the free memory. No numbers are read but those of a second output matrix."""
        tensors = self.header.tensors
        found = {name: tensor.shape for name, tensor in tensors.items() if name != STRETCH}
        with _usable(self.source):
            if self.architecture == "gpt2" and found.pop(OUTPUT, ()):
                # Older files hold a GPT-2's embedding twice.
                output, embedding = self.header.read(OUTPUT), self.header.read(EMBEDDING)
                if not np.array_equal(output, embedding):
                    raise ValueError("its output matrix is not its embedding, as a GPT-2's is")
            check(found, self.places, self._shapes)
        refuse_larger_than_memory(self.source, self._shapes)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Each tensor by GGUF's name, the rows of queries and keys in our order."""
        options = GPTOptions(**self.model)
        for name in self.places:
            with _usable(self.source):
                tensor = torch.from_numpy(self.header.read(name))
            if self.architecture == LLAMA:
                tensor = with_halves(name, tensor, options)
            yield name, tensor


@contextmanager
def _usable(source: str) -> Iterator[None]:
    try:
        yield
    except UNUSABLE as error:
        raise PretrainedError(
            f"{source} cannot be used: {reason_of(error)}; name a GGUF file of a {KNOWN}."
        ) from None
