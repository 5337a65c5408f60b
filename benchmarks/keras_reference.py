"""The published systems S1, S2 and S4 as their authors built them: Keras models to measure against.

S1 is the word-level recipe LSTM of D. Foster, *Generative Deep Learning*, chapter 5, and S4 the
small GPT of its chapter 9. S2 is the character-level LSTM of the well-known Keras example on
Nietzsche. Nothing here is textwright's: it needs TensorFlow with Keras 3, which textwright never
installs.
"""

import os
import platform
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # set before TensorFlow is imported

import keras
import numpy as np
import tensorflow as tf

RECIPES_PARAMETERS = 2_407_248
WINE_PARAMETERS = 5_809_168
WINE_CONTEXT = 80  # number of positions in S4
PADDING_TARGET = -100  # textwright's mark for a target that is not counted


def use_threads(count: int) -> None:
    """Hold TensorFlow to `count` threads; 0 leaves the choice to TensorFlow. Call it first."""
    if count:
        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def describe_machine(threads: int) -> dict[str, str | int | None]:
    """The facts that a timing is meaningless without."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def build_recipes_model(seed: int) -> keras.Model:
    """S1: ids (B, T) → probabilities (B, T, V); any B and T. Compiled, Keras' defaults throughout.

    Its loss averages over every position, padding included, as the source's does.
    """
    keras.utils.set_random_seed(seed)
    vocab_size = 10_000
    ids = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(vocab_size, 100)(ids)
    hidden = keras.layers.LSTM(128, return_sequences=True, name="hidden")(embedded)
    output = keras.layers.Dense(vocab_size, activation="softmax", name="output")(hidden)
    return _finish(keras.Model(ids, output), RECIPES_PARAMETERS)


class TokenAndPosition(keras.layers.Layer):
    """ids (B, T) → the sum of the learned vectors of each id and its position (B, T, D)."""

    def __init__(self, vocab_size: int, context: int, width: int) -> None:
        super().__init__()
        self.tokens = keras.layers.Embedding(vocab_size, width)
        self.positions = keras.layers.Embedding(context, width)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        return self.tokens(ids) + self.positions(keras.ops.arange(keras.ops.shape(ids)[1]))


def build_wine_model(seed: int) -> keras.Model:
    """S4: ids (B, T) → probabilities (B, T, V); T up to 80. Compiled, Keras' defaults throughout.

    Its loss averages over every position, padding included, as the source's does.
    """
    keras.utils.set_random_seed(seed)
    layers, vocab_size, width = keras.layers, 10_000, 256
    ids = keras.Input((None,), dtype="int32")
    x = TokenAndPosition(vocab_size, WINE_CONTEXT, width)(ids)
    attended = layers.MultiHeadAttention(num_heads=2, key_dim=256)(x, x, use_causal_mask=True)
    x = layers.LayerNormalization(epsilon=1e-6)(x + layers.Dropout(0.1)(attended))
    wide = layers.Dense(256, activation="relu")(x)
    narrow = layers.Dropout(0.1)(layers.Dense(width)(wide))
    hidden = layers.LayerNormalization(epsilon=1e-6, name="hidden")(x + narrow)
    output = layers.Dense(vocab_size, activation="softmax", name="output")(hidden)
    return _finish(keras.Model(ids, output), WINE_PARAMETERS)


def _finish(model: keras.Model, parameters: int) -> keras.Model:
    """Check that the model has the source's size, and compile it as Foster does."""
    if model.count_params() != parameters:
        raise RuntimeError(
            f"The Keras model has {model.count_params():,} parameters instead of {parameters:,}; "
            "this Keras version builds a model other than the source's."
        )
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    return model


def build_character_model(
    seed: int, vocab_size: int, window: int = 40, learning_rate: float = 0.01
) -> keras.Model:
    """S2: one-hot characters (B, window, V) → probabilities of the next one (B, V). Compiled."""
    keras.utils.set_random_seed(seed)
    characters = keras.Input((window, vocab_size))
    hidden = keras.layers.LSTM(128, name="hidden")(characters)
    output = keras.layers.Dense(vocab_size, activation="softmax", name="output")(hidden)
    model = keras.Model(characters, output)
    model.compile(keras.optimizers.RMSprop(learning_rate), "sparse_categorical_crossentropy")
    return model


def make_measure(model: keras.Model) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A function (inputs, targets) → nats of each target, float32, in the shape of the targets.

    It uses the logits: Keras' own loss clips probabilities at 1e-7, which would limit the nats of
    an unlikely target. Targets must be real ids.
    """
    to_hidden = keras.Model(model.input, model.get_layer("hidden").output)
    output = model.get_layer("output")

    @tf.function(reduce_retracing=True)
    def measure(inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        logits = tf.matmul(to_hidden(inputs, training=False), output.kernel) + output.bias
        return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)

    return measure
