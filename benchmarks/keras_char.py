"""S2's Keras form on a plain text: held-out bits per character after every epoch.

    python benchmarks/keras_char.py nietzsche.txt --out keras_char.jsonl --epochs 20 --seed 0

The text is lower-cased and cut by position, at int(0.9 n) and int(0.95 n) characters. The model
sees the first part only: windows of 40 characters, one every 3, each with the character that
follows as its only target. On the other two parts every character is predicted from the 40 before
it *in its own part*; where fewer exist, the window is filled on the left with zero vectors. (The
Keras form never sees such a window in training; they are 40 of some 30,000 characters a part.)

Characters get their ids from the whole text, as in the source. There is no stop token to predict,
which is an advantage of the Keras form, by one token a part.

One JSON object a line: first the run's facts, then one object an epoch.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras_reference import build_character_model, describe_machine, make_measure, use_threads
from numpy.lib.stride_tricks import sliding_window_view

WINDOW, STRIDE, BATCH = 40, 3, 128


def cut_by_position(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Train, valid and test part of one document."""
    valid, test = int(0.9 * len(ids)), int(0.95 * len(ids))
    return ids[:valid], ids[valid:test], ids[test:]


def make_training_batches(
    ids: np.ndarray, vocab_size: int, seed: int
) -> tuple[tf.data.Dataset, int]:
    """Shuffled batches of (one-hot windows, next ids), and the number of targets in an epoch."""
    windows = sliding_window_view(ids, WINDOW + 1)[::STRIDE].astype(np.int32)
    batches = (
        tf.data.Dataset.from_tensor_slices((windows[:, :-1], windows[:, -1]))
        .shuffle(len(windows), seed=seed)
        .batch(BATCH)
        .map(lambda inputs, targets: (tf.one_hot(inputs, vocab_size), targets))
    )
    return batches, len(windows)


def measure_bits(measure, ids: np.ndarray, vocab_size: int) -> float:
    """Mean bits a character of one held-out part, each from the 40 characters before it."""
    # tf.one_hot turns the id -1 into a zero vector: the filling on the left.
    filled = np.concatenate([np.full(WINDOW, -1, np.int32), ids])
    windows = sliding_window_view(filled, WINDOW + 1)
    nats = 0.0
    for start in range(0, len(windows), 1024):
        chunk = windows[start : start + 1024]
        nats += float(
            tf.reduce_sum(
                tf.cast(measure(tf.one_hot(chunk[:, :-1], vocab_size), chunk[:, -1]), tf.float64)
            )
        )
    return nats / len(ids) / float(np.log(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one an epoch")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0: TensorFlow's choice")
    parser.add_argument("--limit", type=int, default=0, help="read only so many characters")
    arguments = parser.parse_args()
    use_threads(arguments.threads)

    text = arguments.text.read_text(encoding="utf-8").lower()
    text = text[: arguments.limit or None]
    alphabet = sorted(set(text))
    id_of = {character: index for index, character in enumerate(alphabet)}
    parts = cut_by_position(np.array([id_of[character] for character in text], np.int32))
    train, valid, test = parts

    model = build_character_model(arguments.seed, len(alphabet), WINDOW)
    measure = make_measure(model)
    batches, targets_an_epoch = make_training_batches(train, len(alphabet), arguments.seed)
    with arguments.out.open("w", encoding="utf-8") as log:

        def record(facts: dict) -> None:
            print(json.dumps(facts), file=log, flush=True)
            print(json.dumps(facts), flush=True)

        record(
            {
                "text": arguments.text.name,
                "seed": arguments.seed,
                "characters": {"train": len(train), "valid": len(valid), "test": len(test)},
                "alphabet": len(alphabet),
                "parameters": model.count_params(),
                "window": WINDOW,
                "stride": STRIDE,
                "batch": BATCH,
                **describe_machine(arguments.threads),
            }
        )
        seconds = 0.0
        for epoch in range(1, arguments.epochs + 1):
            start = time.perf_counter()
            history: keras.callbacks.History = model.fit(batches, shuffle=False, verbose=0)
            seconds += time.perf_counter() - start
            bits = {
                "valid": measure_bits(measure, valid, len(alphabet)),
                "test": measure_bits(measure, test, len(alphabet)),
            }
            record(
                {
                    "epoch": epoch,
                    "target_characters": epoch * targets_an_epoch,
                    "training_seconds": round(seconds, 1),
                    "train_loss": history.history["loss"][0],
                    "bits_per_character": bits,
                }
            )


if __name__ == "__main__":
    main()
