"""A decoder restores the text from what a model says, for what its score charges."""

import math

import numpy as np
import pytest
from short_comparison import Truth

from textwright.comparison.audit import audit
from textwright.comparison.proof import prove
from textwright.comparison.run_subject import RunSubject
from textwright.comparison.subjects import Codec, Measured
from textwright.corpus import CorpusOptions
from textwright.errors import (
    EvaluationError,
)
from textwright.evaluation.scores import HeldOut

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", ["trained", "mixed", "counted", "bpe", "exported"])
def test_a_decoder_restores_the_text_from_the_models_own_probabilities(request, kind, fresh):
    path = request.getfixturevalue(kind)
    options = None if kind != "exported" else CorpusOptions(unit="line")
    found = audit(path, [fresh], options=options, documents=2, device="cpu")
    assert found.proof is not None
    assert found.proof.documents == 2
    assert abs(found.proof.bits - found.proof.charged) <= 2 * found.proof.documents
    assert found.proof.largest <= 2.01
    assert found.proof.bytes == found.proof.characters == found.held_out.characters


def test_a_score_that_is_not_the_price_of_the_text_is_found_out(bpe, fresh, monkeypatch):
    measure = RunSubject.measure

    def flattered(self, documents, on_progress):
        found = measure(self, documents, on_progress)
        return Measured([nats * 0.9 for nats in found.nats], found.text)

    monkeypatch.setattr(RunSubject, "measure", flattered)
    with pytest.raises(EvaluationError, match="its score is not to be trusted"):
        audit(bpe, [fresh], documents=1, device="cpu")


class Certain(Truth):
    """A model of three tokens (the end, a, b) that gives b a probability of e^-60."""

    name, context_length = "certain", None
    logits = np.array([[0.0, 0.0, -60.0]], np.float32)

    def measure(self, documents, on_progress):
        nats = [np.array([self.paid("_ab".index(letter)) for letter in d + "_"]) for d in documents]
        return Measured(nats, HeldOut.sized(documents, [np.arange(len(n)) for n in nats]))

    def paid(self, token):
        return math.log(2 + math.exp(-60)) - float(self.logits[0, token])

    def prefill(self, ids, lengths):
        return self.logits, None

    def step(self, ids, state):
        return self.logits, None

    def codec(self):
        return Codec(
            self,
            0,
            0,
            lambda document, writer: ["_ab".index(letter) for letter in document],
            lambda ids, reader: "".join("_ab"[id] for id in ids),
        )


def test_a_code_that_is_shorter_than_the_charge_proves_it():
    certain = Certain()
    found = prove(certain, certain.codec(), ["aba", "aa"])
    assert found.charged == pytest.approx(7 + 60 / math.log(2), abs=1e-6)
    assert found.bits < found.charged - 40
    assert 0 <= found.largest <= 2.01
