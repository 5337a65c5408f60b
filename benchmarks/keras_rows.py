"""S1 or S4 in the source's Keras form, fed textwright's batches: loss, step time, writing speed.

    python benchmarks/keras_rows.py recipes-lstm rows.npz --out keras.json --measure-at 629 1258
    python benchmarks/keras_rows.py wine-gpt rows.npz --out keras.json --measure-at 629 1183

`rows.npz` holds four arrays of whole batches: `inputs` and `targets` (N, B, T), trained on in that
order, and `held_out_inputs` and `held_out_targets` (M, B, T). Inputs are padded with 0, targets
with -100. The model trains like the source's: padding is the target 0 and counts like any other.
Both held-out losses are in nats a target: `masked` over real targets, `padded` over all positions.
--weights saves the first weights, so that textwright can begin with the same.

Then the source's own loop writes text: it calls `predict` on the whole text for each new token.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras_reference import (
    PADDING_TARGET,
    build_recipes_model,
    build_wine_model,
    describe_machine,
    make_measure,
    use_threads,
)

BUILDERS = {"recipes-lstm": build_recipes_model, "wine-gpt": build_wine_model}
WARM_UP_STEPS = 5  # TensorFlow traces its graph in the first of them


class StepTimer(keras.callbacks.Callback):
    """Seconds of each training step, the first one of every `fit` call left out."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.last: float | None = None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        now = time.perf_counter()
        if self.last is not None:
            self.seconds.append(now - self.last)
        self.last = now

    @property
    def median_milliseconds(self) -> float:
        return 1000 * float(np.median(self.seconds[WARM_UP_STEPS:] or self.seconds or [np.nan]))


def fill_padding(targets: np.ndarray) -> np.ndarray:
    """Targets (…) with the source's padding: the stop id, 0."""
    return np.where(targets == PADDING_TARGET, 0, targets).astype(np.int32)


def measure_losses(measure, inputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Held-out loss over real targets and over all positions, nats a target; arrays (M, B, T)."""
    real = padded = 0.0
    for batch_inputs, batch_targets in zip(inputs, targets, strict=True):
        nats = measure(batch_inputs.astype(np.int32), fill_padding(batch_targets)).numpy()
        real += float(nats[batch_targets != PADDING_TARGET].sum(dtype=np.float64))
        padded += float(nats.sum(dtype=np.float64))
    return {
        "masked": real / int((targets != PADDING_TARGET).sum()),
        "padded": padded / targets.size,
    }


def write(model: keras.Model, prompt: list[int], count: int, temperature: float, seed: int) -> list:
    """The prompt and `count` new ids, written as in the source: the whole text is read for each.

    The stop id does not end the text, so that the speed is that of `count` tokens.
    """
    random = np.random.default_rng(seed)
    ids = list(prompt)
    for _ in range(count):
        probabilities = model.predict(np.array([ids]), verbose=0)[0, -1].astype(np.float64)
        probabilities **= 1 / temperature
        ids.append(int(random.choice(len(probabilities), p=probabilities / probabilities.sum())))
    return ids


def time_writing(model: keras.Model, count: int, seed: int) -> float:
    """New tokens a second, after a warm-up that lets TensorFlow trace its graph."""
    write(model, [0], 5, 1.0, seed)
    start = time.perf_counter()
    write(model, [0], count, 1.0, seed)
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=BUILDERS, help="the preset to compare with")
    parser.add_argument("rows", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--measure-at",
        type=int,
        nargs="+",
        metavar="STEP",
        help="measure the held-out loss after these steps, and end after the last (default: all)",
    )
    parser.add_argument(
        "--write", type=int, default=100, help="tokens to write; wine-gpt: up to 79"
    )
    parser.add_argument("--weights", type=Path, help="save the first weights in this .npz")
    parser.add_argument("--threads", type=int, default=0, help="0: TensorFlow's choice")
    arguments = parser.parse_args()
    use_threads(arguments.threads)

    with np.load(arguments.rows) as rows:
        inputs = rows["inputs"].astype(np.int32)
        targets = fill_padding(rows["targets"])
        held_out = rows["held_out_inputs"], rows["held_out_targets"]
    points = sorted(arguments.measure_at or [len(inputs)])
    if points[-1] > len(inputs):
        parser.error(
            f"{arguments.rows} ends at step {len(inputs)}, before {points[-1]}: record more steps, "
            "or measure earlier."
        )

    model = BUILDERS[arguments.preset](arguments.seed)
    if arguments.weights:
        np.savez(arguments.weights, **{weight.path: weight.numpy() for weight in model.weights})
    measure = make_measure(model)
    timer = StepTimer()
    result = {
        "preset": arguments.preset,
        "rows": arguments.rows.name,
        "seed": arguments.seed,
        "parameters": model.count_params(),
        "batch": list(inputs.shape[1:]),
        **describe_machine(arguments.threads),
        "measures": [],
    }

    def save() -> None:  # after each measurement, so that a run cut short leaves its results
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")

    done = 0
    for point in points:
        history = None
        if point > done:
            batches = tf.data.Dataset.from_tensor_slices((inputs[done:point], targets[done:point]))
            history = model.fit(batches, shuffle=False, verbose=0, callbacks=[timer]).history
        result["measures"].append(
            {
                "step": point,
                "held_out": measure_losses(measure, *held_out),
                "mean_padded_train_loss_since": history and history["loss"][0],
            }
        )
        done = point
        print(json.dumps(result["measures"][-1]), flush=True)
        save()
    result["milliseconds_a_step"] = round(timer.median_milliseconds, 1)
    print(f"{timer.median_milliseconds:.0f} ms a step (median)", flush=True)
    if arguments.write:
        result["tokens_per_second"] = round(time_writing(model, arguments.write, arguments.seed), 2)
        print(f"{result['tokens_per_second']:.1f} tokens/s by the predict loop", flush=True)
    save()


if __name__ == "__main__":
    main()
