"""Who says how likely a text is in its language: never the model that wrote it.

A model finds its own favorite phrases likely, and one that has read the same training text finds
passages copied from it likely; both would call repetition and copying quality. The default judge
has read neither: it counts the n-grams of held-out documents that serve for nothing else. It is a
small model, but texts are held to real ones under the same judge, not to 0 bits.
"""

from __future__ import annotations

import filecmp
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from textwright.counts.kneser_ney import KneserNey, count_models
from textwright.errors import EvaluationError
from textwright.evaluation.held_out import HeldOutText, refuse_other_division, refuse_overlap
from textwright.evaluation.predictors import CountsPredictor, open_predictor
from textwright.run import WEIGHTS, Run
from textwright.sweep.real_texts import RealTexts
from textwright.tokenizer import Tokenizer
from textwright.wording import counted

LONGEST = 8  # tokens of an n-gram; the length that predicts the reference best is taken


class Judge(Protocol):
    """name: as it stands beside its figures."""

    name: str

    def bits(self, texts: Sequence[np.ndarray]) -> NDArray[np.float64]:
        """The bits of each text, (N,), its end not counted, because a text may have been cut.
        texts: the ids of each, as the writing model has them."""


class CountsJudge:
    """Kneser-Ney counts of held-out documents, in the tokens of the model that writes."""

    def __init__(self, real: RealTexts, tokenizer: Tokenizer):
        self.stop_id = tokenizer.stop_id
        ids = np.concatenate(real.others).astype(np.int64)
        starts = np.cumsum([0, *map(len, real.others)])
        size = tokenizer.vocab_size
        models = count_models(ids, starts, self.stop_id, size, LONGEST)
        self.counts: KneserNey = min(models, key=lambda model: self._bits(model, real.texts).sum())
        self.name = (
            f"Kneser-Ney counts of up to {counted(self.counts.order, 'token')} of "
            f"{counted(len(real.others), 'held-out text')} that serve for nothing else"
        )

    def bits(self, texts: Sequence[np.ndarray]) -> NDArray[np.float64]:
        return self._bits(self.counts, texts)

    def _bits(self, model: KneserNey, texts: Sequence[np.ndarray]) -> NDArray[np.float64]:
        rows = [np.array([self.stop_id, *text], np.int64) for text in texts]
        nats = CountsPredictor(model).score(rows)
        return np.array([values.sum() for values in nats]) / np.log(2)


class RunJudge:
    """Another run; it reads the texts with its own tokenizer.

    Raises EvaluationError if it is the run that writes, or was trained on the held-out text.
    """

    def __init__(self, run: Run, writer: Run, held_out: HeldOutText, device: str = "auto"):
        if _is_same(run.path, writer.path):
            raise EvaluationError(
                f"{run.path} cannot judge what it writes itself; name another run, or --judge "
                "counts."
            )
        refuse_other_division(writer, run)
        refuse_overlap(run, held_out)
        self.name = str(run.path)
        self.tokenizer, self.written_with = run.tokenizer, writer.tokenizer
        self.predictor = open_predictor(run, device)

    def bits(self, texts: Sequence[np.ndarray]) -> NDArray[np.float64]:
        read = self.tokenizer.encode_batch([self.written_with.decode(text) for text in texts])
        stop = self.tokenizer.stop_id
        nats = self.predictor.score([np.array([stop, *ids, stop], np.int64) for ids in read])
        return np.array([values[:-1].sum() for values in nats]) / np.log(2)


def _is_same(one: Path, other: Path) -> bool:
    """Whether two folders are one run, or one a copy of the other."""
    if one.resolve() == other.resolve():
        return True
    files = [one / WEIGHTS, other / WEIGHTS]
    return all(file.exists() for file in files) and filecmp.cmp(files[0], files[1], shallow=False)
