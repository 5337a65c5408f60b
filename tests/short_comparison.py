"""What the tests of comparisons share."""

import numpy as np

from textwright import grammar
from textwright.comparison.subjects import Measured, Writing, Written
from textwright.evaluation.kept import NOTHING_KEPT
from textwright.evaluation.scores import HeldOut

QUICK = Writing(characters=40, texts=2)
SHORT = {"easy": False, "device": "cpu", "writing": QUICK}


class Truth:
    """The grammar itself: what no honest model can better."""

    name, kind, kept = "the truth", "folder", NOTHING_KEPT

    def measure(self, documents, on_progress):
        nats = [np.array([-grammar.log_probability(document)]) for document in documents]
        return Measured(nats, HeldOut.sized(documents, [np.array([0]) for _ in documents]))

    def write(self, prompts, writing, max_new_tokens):
        return Written(list(grammar.documents(len(prompts))), 1.0, None)

    def codec(self):
        return None

    def context(self):
        return ""

    def remarks(self):
        return []

    def parameters(self):
        return None

    def bytes(self):
        return None
