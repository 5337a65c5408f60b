"""The recurrent family for other programs. ONNX has recurrent layers as operators.

Letters: B batch, T time, E embedding width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from textwright.errors import ConfigError
from textwright.export.forms import custom_config
from textwright.export.onnx_graph import Graph
from textwright.families import LSTMOptions
from textwright.models.lstm import LSTM
from textwright.run import Arrays

if TYPE_CHECKING:
    from onnx import ModelProto

# ONNX's order of the gates, each by its place in ours.
GATE_ORDER = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn": [0]}


def onnx_graph(model: LSTM) -> ModelProto:
    """The equations of models/lstm.py."""
    options = model.options
    weights = weights_of(model)
    graph = Graph()
    names = ["hidden", "cell"] if options.cell == "lstm" else ["hidden"]
    embedding = graph.constant(weights["embedding"], "embedding")
    x = graph("Transpose", graph("Gather", embedding, "ids"), perm=[1, 0, 2])  # (T, B, E)
    after: list[list[str]] = []
    for layer in range(options.layers):

        def part(name: str, layer: int = layer) -> np.ndarray:
            array = weights.get(f"layers.{layer}.{name}")
            if array is None:
                return np.zeros_like(weights[f"layers.{layer}.bias"])
            gates = np.split(array, len(GATE_ORDER[options.cell]))
            return np.concatenate([gates[place] for place in GATE_ORDER[options.cell]])

        biases = np.concatenate([part("bias"), part("recurrent_bias")])
        arrays = {"input": part("input_weight"), "recurrent": part("recurrent_weight")}
        constants = [
            graph.constant(array[None], f"layers.{layer}.{name}")
            for name, array in (arrays | {"bias": biases}).items()
        ]
        own = graph.constant([layer])
        states = [graph("Gather", name, own, axis=0) for name in names]
        extra = {"linear_before_reset": 1} if options.cell == "gru" else {}
        found, *last = graph(
            options.cell.upper(),
            *(x, *constants, "", *states),
            outputs=1 + len(names),
            hidden_size=options.hidden_size,
            **extra,
        )
        after.append(last)
        x = graph("Squeeze", found, graph.constant([1]))  # the axis of directions: only one
    x = graph("Transpose", x, perm=[1, 0, 2])
    logits = graph.project(x, weights)
    joined = [graph("Concat", *state, axis=0) for state in zip(*after, strict=True)]
    shape = (options.layers, "batch", options.hidden_size)
    return graph.model(dict.fromkeys(names, shape), logits, joined, len(weights["embedding"]))


def transformers_files(model: LSTM, vocab_size: int, stop_id: int) -> tuple[dict[str, Any], Arrays]:
    """The files of custom_model/lstm.py; transformers has no recurrent language model."""
    weights = weights_of(model)
    config = custom_config(model.options, vocab_size)
    del config["initialization"], config["variational"]  # they matter in training alone
    config["tie_output"] = "output_weight" not in (tensors := torch_tensors(weights, model.options))
    return config, tensors


def gguf_config(model: LSTM, vocab_size: int, stop_id: int) -> dict[str, Any]:
    """Raise ConfigError: llama.cpp has no recurrent language model."""
    raise ConfigError("the model is recurrent")


def weights_of(model: LSTM) -> Arrays:
    """Weights by canonical name. A projection is multiplied into an output matrix of its own: two
    matrices in a row are one."""
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    if model.options.projects:
        weights["output.weight"] = weights["embedding"] @ weights.pop("output.projection")
    return weights


def torch_tensors(weights: Arrays, options: LSTMOptions) -> Arrays:
    """Weights by canonical name, renamed as in `torch.nn.LSTM`, GRU and RNN."""
    tensors = {"embedding.weight": weights["embedding"], "output_bias": weights["output.bias"]}
    if "output.weight" in weights:
        tensors["output_weight"] = weights["output.weight"]
    for layer in range(options.layers):
        bias = weights[f"layers.{layer}.bias"]
        theirs = {
            "weight_ih": weights[f"layers.{layer}.input_weight"],
            "weight_hh": weights[f"layers.{layer}.recurrent_weight"],
            "bias_ih": bias,
            "bias_hh": weights.get(f"layers.{layer}.recurrent_bias", np.zeros_like(bias)),
        }
        tensors |= {f"cells.{name}_l{layer}": tensor for name, tensor in theirs.items()}
    return tensors
