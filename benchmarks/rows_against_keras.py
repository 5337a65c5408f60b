"""S1 or S4 beside the source's Keras form: the same rows, in the same order, for the same steps.

    python benchmarks/rows_against_keras.py wine-gpt rows  rows.npz --corpus CORPUS --steps 1200
    KERAS  benchmarks/keras_rows.py wine-gpt rows.npz --out keras-0.json --seed 0 --measure-at 1183
    python benchmarks/rows_against_keras.py wine-gpt train rows.npz --seed 0 --measure-at 1183
    KERAS  benchmarks/keras_rows.py wine-gpt rows.npz --out 0.json --measure-at 0 --weights w.npz
    python benchmarks/rows_against_keras.py wine-gpt train rows.npz --as-keras w.npz

(KERAS: a Python that has Keras.) `rows` writes the preset's batches and the held-out rows, padded
to the context with id 0 as the source does; `train` trains textwright's model on them and prints
its held-out loss over real targets, and over all cells with padding at no cost, as JSON.

With --as-keras it does exactly what Keras does: it begins with Keras' first weights, counts
padding in the loss it trains on, and steps as Keras' Adam does (keras_adam.py explains the
difference) at the source's rate. Without dropout (S1 has none) it must reach the loss of Keras.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import torch
from keras_adam import KerasAdam

from textwright.compute.device import set_threads
from textwright.config import Config
from textwright.corpus import Corpus
from textwright.models import LanguageModel, build
from textwright.models.loss import PADDING_TARGET
from textwright.tokenizer import Tokenizer
from textwright.training.cache import encode_corpus
from textwright.training.dataset import Batch, cut
from textwright.training.events import Step
from textwright.training.trainer import Trainer


class Recorded:
    """A layout of recorded batches; padding is trained on where it has a target."""

    carries = False

    def __init__(self, inputs: np.ndarray, targets: np.ndarray, steps_per_epoch: int = 0) -> None:
        self.inputs, self.targets = inputs, targets
        self.steps_per_epoch = steps_per_epoch or len(inputs)

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        longest = int((self.targets[step] != PADDING_TARGET).sum(1).max())
        inputs, targets = self.inputs[step, :, :longest], self.targets[step, :, :longest]
        return Batch(inputs.astype(np.int64), targets.astype(np.int64), np.ones(len(inputs), bool))


def write_rows(config: Config, corpus: str, path: Path, steps: int) -> None:
    """The config's first batches, and the validation part in whole batches of rows."""
    documents = Corpus([corpus], config.corpus)
    tokenizer = Tokenizer.train(config.tokenizer, documents.documents("train"))
    parts = encode_corpus(documents, tokenizer)
    length, size = config.data.context_length, config.train.batch_size
    layout = cut(parts["train"], config.data, size, config.train.seed)
    batches = [layout.batch(step) for step in range(steps)]
    whole = [batch for batch in batches if len(batch.inputs) == size]  # not an epoch's last, short
    held_out = cut(parts["valid"], config.data, size, config.train.seed)
    scored = [held_out.batch(step) for step in range(held_out.steps_per_epoch)]
    scored = [batch for batch in scored if len(batch.inputs) == size]
    np.savez_compressed(
        path,
        inputs=np.stack([_pad(b.inputs, length, 0) for b in whole]),
        targets=np.stack([_pad(b.targets, length, PADDING_TARGET) for b in whole]),
        steps_per_epoch=layout.steps_per_epoch,
        held_out_inputs=np.stack([_pad(b.inputs, length, 0) for b in scored]),
        held_out_targets=np.stack([_pad(b.targets, length, PADDING_TARGET) for b in scored]),
    )
    print(json.dumps({"steps": len(whole), "held_out_rows": len(scored) * size}))


def _pad(cells: np.ndarray, length: int, filler: int) -> np.ndarray:
    return np.pad(cells, ((0, 0), (0, length - cells.shape[1])), constant_values=filler).astype(
        np.int16
    )


def train(
    config: Config, path: Path, seed: int, measure_at: list[int], as_keras: Path | None
) -> None:
    """Train on recorded rows and print the held-out losses; as_keras: Keras' first weights."""
    rows = np.load(path)
    torch.manual_seed(seed)
    model = build(config.model, config.tokenizer.vocab_size, config.data.context_length)
    options, targets = config.train, rows["targets"]
    if as_keras:
        plain = {"learning_rate": 1e-3, "schedule": "constant", "clip_norm": 0.0}
        options = options.model_copy(update=plain)
        targets = np.where(targets == PADDING_TARGET, 0, targets)
        begin_as_keras(model, as_keras)
    layout = Recorded(rows["inputs"], targets, int(rows["steps_per_epoch"]))
    trainer = Trainer(model, layout, options, None)
    if as_keras:
        trainer.optimizer = KerasAdam(model, options.learning_rate)
    held_out = Recorded(rows["held_out_inputs"], rows["held_out_targets"])
    measured = {}
    while trainer.progress.step < max(measure_at):
        step: Step = trainer.train_step()
        if step.step in measure_at:
            measured[step.step] = measure(trainer, held_out)
    seconds = trainer.progress.seconds / trainer.progress.step
    print(json.dumps({"seed": seed, "held_out": measured, "seconds_per_step": seconds}))


@torch.no_grad()
def begin_as_keras(model: LanguageModel, file: Path) -> None:
    """Copy Keras' weights; its layers come in the same order as the model's.

    Keras' matrices are (inputs, outputs), those of attention with an axis for the heads; queries,
    keys and values are one matrix here.
    """
    parts: dict[tuple[str, str], list[np.ndarray]] = {}
    with np.load(file) as weights:
        for path, array in weights.items():
            layer, _, name = path.rpartition("/")
            if name.endswith("kernel"):
                inputs = array.shape[:2] if layer.endswith("attention_output") else array.shape[:1]
                array = array.reshape(np.prod(inputs), -1).T
            elif name == "bias":
                array = array.ravel()
            layer = re.sub(r"/(query|key|value)$", "/input", layer)
            parts.setdefault((layer, name), []).append(array)
    parameters = dict(model.named_parameters())
    parameters["output.bias"] = parameters.pop("output.bias")  # the last in Keras
    for parameter, arrays in zip(parameters.values(), parts.values(), strict=True):
        parameter.copy_(torch.from_numpy(np.concatenate(arrays)))


@torch.no_grad()
def measure(trainer: Trainer, held_out: Recorded) -> dict[str, float]:
    """Nats for each real target, and for each cell of the padded rows."""
    model = trainer.model.eval()
    nats = count = 0.0
    for step in range(held_out.steps_per_epoch):
        batch = held_out.batch(step)
        hidden, _ = model.encode(torch.from_numpy(batch.inputs))
        targets = torch.from_numpy(batch.targets)
        real = targets != PADDING_TARGET
        nats += float(model.token_nats(hidden[real], targets[real]).double().sum())
        count += int(real.sum())
    return {"masked": nats / count, "padded": nats / held_out.targets.size}


def main() -> None:
    """Write rows, or train on them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=["recipes-lstm", "wine-gpt"])
    parser.add_argument("what", choices=["rows", "train"])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--corpus", help="the corpus that `rows` cuts into rows")
    parser.add_argument("--steps", type=int, default=629, help="batches for `rows` to write")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure-at", type=int, nargs="+", default=[629])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--as-keras", type=Path, metavar="WEIGHTS", help="train as Keras does, from its weights"
    )
    given = parser.parse_args()
    config = Config.resolve(preset=given.preset, settings=given.set)
    set_threads(given.threads)
    if given.what == "train":
        train(config, given.rows, given.seed, given.measure_at, given.as_keras)
    elif given.corpus:
        write_rows(config, given.corpus, given.rows, given.steps)
    else:
        parser.error("`rows` needs a corpus: name one with --corpus.")


if __name__ == "__main__":
    main()
