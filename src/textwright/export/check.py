"""Comparing an export with its run: both read the same real text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from textwright.errors import ExportError
from textwright.evaluation.held_out import evenly_spaced
from textwright.models import LanguageModel, TorchBackend
from textwright.progress import OnStage, silent
from textwright.run import Run
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions

DOCUMENTS = 8
CHARACTERS = 32_000  # of all together
TOKENS = 256  # of each document


@dataclass(frozen=True)
class Reloaded:
    """An export, loaded by its own reader."""

    encode: Callable[[str], list[int]]  # a text → its ids, the stop id before them
    logits: Callable[[np.ndarray], np.ndarray]  # ids (T,) → (T, V)


@contextmanager
def reading_back(package: str) -> Iterator[None]:
    """Raise ExportError if a package cannot load an export: it may be too old for its form."""
    try:
        yield
    except Exception as error:  # of many kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(
            f"{package} cannot load the export ({lines[0].rstrip('.')}), which was not kept; "
            f"update it: pip install --upgrade {package}."
        ) from error


@torch.no_grad()
def largest_difference(
    run: Run,
    model: LanguageModel,
    reloaded: Reloaded,
    on_progress: OnStage = silent,
) -> float:
    """The largest difference in log-probability (nats) over held-out text of the run.

    Raises ExportError if the export turns a text into other ids than the run.
    """
    texts = sample_texts(run, model, DOCUMENTS, CHARACTERS)
    differences = []
    for done, text in enumerate(texts):
        on_progress("Checking", done, len(texts))
        ids = [run.tokenizer.stop_id, *run.tokenizer.encode(text).tolist()]
        if reloaded.encode(text) != ids:
            raise ExportError(
                f"Read back, the export turns {text[:40]!r}… into other ids than the run; it was "
                "not kept. Please report this."
            )
        seen = np.array(ids[: min(TOKENS, model.context_length or TOKENS)])
        mine = model.project(model.encode(torch.from_numpy(seen)[None])[0])[0]
        theirs = torch.from_numpy(reloaded.logits(seen))
        differences.append((mine.log_softmax(-1) - theirs.float().log_softmax(-1)).abs().max())
    return float(torch.stack(differences).max())


def sample_texts(run: Run, model: LanguageModel, documents: int, characters: int) -> list[str]:
    """Beginnings of so many held-out documents, evenly spaced, with so many characters in all; for
    a private run, texts that it writes itself."""
    if not run.private:
        for part in ("test", "valid"):
            if texts := list(run.held_out(part)):
                chosen = evenly_spaced(texts, documents)
                return [text[: characters // len(chosen)] for text in chosen]
    generator = Generator(TorchBackend(model), run.tokenizer)
    return [sample.text for sample in generator.generate("", SamplingOptions(), num=documents)]
