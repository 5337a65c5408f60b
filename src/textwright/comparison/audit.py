"""One model's bits per character, with the proof that they are the price of the whole text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from textwright.comparison.comparison import Score, measure, open_subject, protocol_of
from textwright.comparison.completions import CompletionServer
from textwright.comparison.proof import Proof, prove, sample_for_proof
from textwright.comparison.run_subject import RunSubject
from textwright.corpus import CorpusOptions
from textwright.evaluation.held_out import HeldOutText, choose_text
from textwright.evaluation.kept import NOTHING_KEPT, KeptResults
from textwright.progress import OnStage, silent

NO_PROOF = (
    "No proof is possible: a server gives the log-probabilities of a text, not whole distributions "
    "that a decoder could follow. Its tokens join to the text, and that is all there is to check."
)


@dataclass(frozen=True)
class Audit:
    """A model's score, how it was made, and what a decoder restored; proof: None for a server."""

    name: str
    kind: str
    held_out: HeldOutText
    score: Score
    context: str
    remarks: list[str]
    proof: Proof | None

    def protocol(self) -> dict[str, str]:
        """How the score was made, in words."""
        return {**protocol_of(self.held_out), "context": self.context}

    def to_json(self) -> dict[str, object]:
        """What `textwright bits --json` prints."""
        return {
            "model": self.name,
            "kind": self.kind,
            "held_out": self.held_out.to_json(),
            **asdict(self.score),
            "interval": list(self.score.interval),
            "protocol": self.protocol(),
            "remarks": self.remarks,
            "proof": self.proof.to_json() if self.proof else None,
        }


def audit(
    name: str | Path,
    corpus: Sequence[str | Path] = (),
    *,
    part: str = "test",
    options: CorpusOptions | None = None,
    documents: int = 0,
    device: str = "auto",
    on_progress: OnStage = silent,
    kept: KeptResults = NOTHING_KEPT,
) -> Audit:
    """Score a run, a folder of transformers or a server, and restore a sample of the text.

    The arguments are those of `compare_models`. Raises EvaluationError if the score would not be
    that of the whole text, or if the run was trained on it.
    """
    subject = open_subject(name, device, kept)
    runs = [subject.run] if isinstance(subject, RunSubject) else []
    on_progress("Reading the held-out text", 0, 0)
    text = choose_text(runs, corpus, part, options).sampled(documents)
    score = Score.of(measure(subject, text, on_progress))

    def restore() -> Proof:
        codec = subject.codec()
        assert codec is not None  # only a server has none
        sample = sample_for_proof(text.documents)
        return prove(subject, codec, sample, partial(on_progress, "Restoring a sample"))

    proof = None
    if not isinstance(subject, CompletionServer):
        proof = subject.kept.recall(Proof, restore, part="proof", text=text.fingerprint)
    return Audit(
        subject.name, subject.kind, text, score, subject.context(), subject.remarks(), proof
    )
