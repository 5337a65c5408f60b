"""Train on a text file, watch the loss, then write as a stream.

    python examples/train_and_stream.py my.txt [steps]

Without a file it trains on 2,000 kitchen notes of the built-in grammar.
"""

import sys
from pathlib import Path

import textwright as tw
from textwright import grammar
from textwright.training.events import Evaluation


def show(event: object) -> None:
    """Training reports its progress as events; print the evaluations."""
    if isinstance(event, Evaluation):
        scores = event.scores
        print(f"step {event.step}: {scores.bits_per_character:.3f} bits a character held out")


def main(corpus: str = "", steps: str = "600") -> None:
    if not corpus:
        corpus = "notes.txt"
        notes = grammar.documents(2_000, seed=1)
        Path(corpus).write_text("".join(f"{note}\n" for note in notes), encoding="utf-8")
    out = Path("runs") / f"{Path(corpus).stem}-example"
    settings = [f"train.max_steps={steps}", "train.evaluate_every=100", "corpus.unit=line"]
    writer = tw.train(corpus, out=out, settings=settings, on_event=show)
    for piece in writer.stream(seed=7, temperature=0.8, max_new_tokens=80):
        print(piece, end="", flush=True)
    print(f"\nThe run is in {out}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
