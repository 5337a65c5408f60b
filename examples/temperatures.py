"""The same prompt at several temperatures, with the entropy of what the model drew from.

    python examples/temperatures.py runs/nietzsche "The "

Entropy is in nats a token, the mean over the text that was written: 0 is no choice at all, and
log(V) an even choice among V tokens. A backend only has `prefill` and `step`, so one that listens
to another is four lines.
"""

import sys
from math import inf

import numpy as np

import textwright as tw
from textwright.writing.generator import Generator

TEMPERATURES = (0.0, 0.2, 0.5, 1.0, 1.2, inf)


class Listening:
    """A backend that notes the logits it passes on."""

    def __init__(self, backend):
        self.backend, self.context_length, self.heard = backend, backend.context_length, []

    def prefill(self, ids, lengths):
        return self.note(*self.backend.prefill(ids, lengths))

    def step(self, ids, state):
        return self.note(*self.backend.step(ids, state))

    def note(self, logits, state):
        self.heard.append(logits[0].astype(np.float64))
        return logits, state


def entropy(logits: np.ndarray, temperature: float) -> float:
    """Nats of softmax(logits / T); greedy has none, uniform has log V."""
    if temperature == 0:
        return 0.0
    scaled = (logits - logits.max()) / temperature
    p = np.exp(scaled) / np.exp(scaled).sum()
    return float(-(p * np.log(np.maximum(p, 1e-300))).sum())


def main(path: str, prompt: str) -> None:
    writer = tw.load(path)
    for temperature in TEMPERATURES:
        listening = Listening(writer.generator.backend)
        options = writer.options(temperature=temperature, max_new_tokens=200)
        (sample,) = Generator(listening, writer.tokenizer).generate([prompt], options, seed=1)
        mean = np.mean([entropy(logits, temperature) for logits in listening.heard])
        print(f"T = {temperature:g}, {mean:.2f} nats a token\n{prompt}{sample.text}\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
