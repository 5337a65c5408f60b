"""Continue a prompt at several temperatures, and print the entropy of what was drawn from.

    python examples/temperatures.py runs/nietzsche "The "

Entropy is in nats a token, as a mean over the new text: 0 means no choice, log(V) an even choice
among V tokens. A backend has only `prefill` and `step`, so wrapping one takes a few lines.
"""

import sys
from math import inf

import numpy as np

import textwright as tw
from textwright.writing.generator import Generator

TEMPERATURES = (0.0, 0.2, 0.5, 1.0, 1.2, inf)


class Recording:
    """A backend that records the logits of another."""

    def __init__(self, backend):
        self.backend, self.context_length, self.logits = backend, backend.context_length, []

    def prefill(self, ids, lengths):
        return self.record(*self.backend.prefill(ids, lengths))

    def step(self, ids, state):
        return self.record(*self.backend.step(ids, state))

    def record(self, logits, state):
        self.logits.append(logits[0].astype(np.float64))
        return logits, state


def entropy(logits: np.ndarray, temperature: float) -> float:
    """Nats of softmax(logits / T): 0 at T = 0, log V at T = inf."""
    if temperature == 0:
        return 0.0
    scaled = (logits - logits.max()) / temperature
    p = np.exp(scaled) / np.exp(scaled).sum()
    return float(-(p * np.log(np.maximum(p, 1e-300))).sum())


def main(path: str, prompt: str) -> None:
    writer = tw.load(path)
    for temperature in TEMPERATURES:
        recording = Recording(writer.generator.backend)
        options = writer.options(temperature=temperature, max_new_tokens=200)
        (sample,) = Generator(recording, writer.tokenizer).generate([prompt], options, seed=1)
        mean = np.mean([entropy(logits, temperature) for logits in recording.logits])
        print(f"T = {temperature:g}, {mean:.2f} nats a token\n{prompt}{sample.text}\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
