"""The published systems in their authors' Keras form (keras_reference.py).

The rate is constant, as in the sources, which have no schedule.
"""

from typing import Any

import numpy as np

from competitors import Found, Row, Task
from competitors.training import (
    Encoded,
    Measure,
    Watch,
    beginning,
    contexts_of,
    mean,
    score_in_windows,
)
from textwright.tokenizer import TokenizerOptions

WORDS = TokenizerOptions(kind="word", vocab_size=10_000, lowercase=True)
CHARACTERS = TokenizerOptions(kind="char", vocab_size=100_000)
WINDOW, STRIDE = 40, 3  # of the character model's training windows


def train(model: Any, task: Task, batches: Any, validate: Any) -> dict[str, Any]:
    """Train until the time is up, and keep the weights that validated best → facts."""
    model.optimizer.learning_rate = task.rate
    model.train_on_batch(*next(batches))  # TensorFlow traces its graph here, outside the budget
    watch = Watch(task.seconds, validate, model.get_weights)
    over = False
    while not over:
        model.train_on_batch(*next(batches))
        over = watch.step_done()
    model.set_weights(watch.best)
    return {"parameters": model.count_params(), **watch.facts}


def measure_words(task: Task, gpt: bool) -> Found:
    """S1 or S4: rows of one document each, padded with stops that count like any other target."""
    from keras_reference import (
        WINE_CONTEXT,
        build_recipes_model,
        build_wine_model,
        make_measure,
        use_threads,
    )

    use_threads(task.threads)
    encoded = Encoded.of(task, WORDS)
    model = build_wine_model(task.seed) if gpt else build_recipes_model(task.seed)
    length = WINE_CONTEXT if gpt else 200
    # An LSTM reads on where its training rows end.
    context, stride = (length, length // 8) if gpt else (1000, 500)
    rows = np.zeros((len(encoded.train), length + 1), np.int32)  # the stop is 0
    for row, ids in zip(rows, encoded.train, strict=True):
        row[1 : len(ids) + 1] = ids[:length]
    nats = _on_arrays(make_measure(model))
    looked_at = beginning(encoded.valid.rows)
    facts = train(
        model,
        task,
        ((batch[:, :-1], batch[:, 1:]) for batch in _shuffled(rows, 32, task.seed)),
        lambda: mean(score_in_windows(nats, looked_at, context, context, batch=8)),
    )
    return encoded.found(
        task, lambda rows: score_in_windows(nats, rows, context, stride, batch=8), facts
    )


def measure_characters(task: Task) -> Found:
    """S2: windows of 40 characters, one every 3, each with the one that follows as its target."""
    import keras
    from keras_reference import build_character_model, make_measure, use_threads

    use_threads(task.threads)
    encoded = Encoded.of(task, CHARACTERS)
    size = encoded.tokenizer.vocab_size
    model = build_character_model(task.seed, size, WINDOW)
    if not isinstance(model.optimizer, keras.optimizers.RMSprop):
        raise RuntimeError("keras_reference.py builds S2 with another optimizer than RMSprop.")
    nats = _on_arrays(make_measure(model))
    one_hot = np.eye(size, dtype=np.float32)
    stream = encoded.stream
    offsets = np.arange(WINDOW + 1)
    starts = np.arange(0, len(stream) - WINDOW, STRIDE)

    def nats_of(rows: list[np.ndarray]) -> list[np.ndarray]:
        found = []
        for row in rows:
            contexts, targets = contexts_of(row, WINDOW, encoded.tokenizer.stop_id)
            parts = [
                nats(one_hot[contexts[at : at + 1024]], targets[at : at + 1024])
                for at in range(0, len(targets), 1024)
            ]
            found.append(np.concatenate(parts))
        return found

    looked_at = beginning(encoded.valid.rows)
    windows = (stream[drawn[:, None] + offsets] for drawn in _shuffled(starts, 128, task.seed))
    batches = ((one_hot[window[:, :-1]], window[:, -1]) for window in windows)
    facts = train(model, task, batches, lambda: mean(nats_of(looked_at)))
    return encoded.found(task, nats_of, facts)


def _shuffled(items: np.ndarray, size: int, seed: int) -> Any:
    """Batches of the items without end, in a new order each epoch."""
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(len(items))
        for at in range(0, len(items) - size + 1, size):
            yield items[order[at : at + size]]


def _on_arrays(measure: Any) -> Measure:
    """keras_reference's measure for NumPy arrays, in float64."""
    import tensorflow as tf

    def nats(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        kind = tf.float32 if inputs.dtype == np.float32 else tf.int32
        found = measure(tf.constant(inputs, kind), tf.constant(targets, tf.int32))
        return found.numpy().astype(np.float64)

    return nats


NEEDS = ("tensorflow", "keras")
ROWS = [
    Row(
        "keras-char",
        "The character LSTM of Keras' example on Nietzsche: one-hot characters, LSTM 128, windows "
        "of 40 every 3 characters with one target each, batch 128, RMSprop; its rate is 1e-2.",
        measure_characters,
        rates=(1e-3, 3e-3, 1e-2),
        needs=NEEDS,
    ),
    Row(
        "keras-recipes",
        "The word LSTM of D. Foster, Generative Deep Learning, chapter 5, in Keras: 10,000 "
        "lower-cased words, embedding 100, LSTM 128, rows of 200, batch 32, Adam; its rate is "
        "1e-3. What its words lose is paid for by textwright's escape code.",
        lambda task: measure_words(task, gpt=False),
        rates=(1e-3, 3e-3, 1e-2),
        needs=NEEDS,
        corpora=("recipes", "anime", "wine"),
    ),
    Row(
        "keras-wine",
        "The small GPT of D. Foster, Generative Deep Learning, chapter 9, in Keras: 10,000 "
        "lower-cased words, width 256, 2 heads, one block, rows of 80, batch 32, Adam; its rate is "
        "1e-3. What its words lose is paid for by textwright's escape code.",
        lambda task: measure_words(task, gpt=True),
        rates=(1e-3, 3e-3, 1e-2),
        needs=NEEDS,
        corpora=("recipes", "anime", "wine"),
    ),
]
