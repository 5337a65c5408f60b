"""How much of what a run with counts writes it has said already, beside held-out text.

    python benchmarks/repetition.py RUN

Texts that begin freely, by temperature and other options, with the memory of the text being read
and without it. Prints the repetition of docs/sweep.md: the share of a text's sequences of four
words that it holds already, in percent, the mean over all texts.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from textwright.counts.mixture import Mixture
from textwright.evaluation.diversity import repetitions, split_words
from textwright.evaluation.predictors import MixedPredictor, open_predictor
from textwright.run import Run
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions

# Options of each row, and whether it is also written without the memory.
ROWS: list[tuple[dict[str, Any], bool]] = [
    ({"temperature": 1.0}, True),
    ({"temperature": 1.0, "top_p": 0.9}, True),
    ({"temperature": 0.85}, True),
    ({"temperature": 0.7}, True),
    ({"temperature": 0.7, "no_repeat_ngram": 6}, False),
    ({"temperature": 0.7, "repetition_penalty": 1.1}, False),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=160, help="most of a text")
    given = parser.parse_args()
    run = Run.load(given.run)
    mixed = open_predictor(run, "cpu")
    if not isinstance(mixed, MixedPredictor):
        raise SystemExit(f"{given.run} has no counts beside its model.")
    ids = run.tokenizer.encode_batch([*run.held_out("test")])
    print("held out", percent([run.tokenizer.decode(document[: given.tokens]) for document in ids]))
    for options, also_without in ROWS:
        how = SamplingOptions(max_new_tokens=given.tokens, **options)
        found = []
        for memory in [True, False] if also_without else [True]:
            predictor = mixed if memory else replace(mixed, mixture=forgetful(mixed.mixture))
            writer = Generator(predictor.backend(), run.tokenizer)
            samples = writer.generate("", how, num=given.texts, seed=0)
            found.append(percent([sample.text for sample in samples]))
        print(options, "with the memory, without:", *found, flush=True)


def forgetful(mixture: Mixture) -> Mixture:
    """The same mixture with no share for the memory."""
    weights = mixture.weights.copy()
    weights[:, 2] = 0
    weights[0, 2] = -np.inf
    return replace(mixture, weights=weights)


def percent(texts: Sequence[str]) -> str:
    return f"{100 * repetitions(split_words(texts)).mean():.1f}"


if __name__ == "__main__":
    main()
