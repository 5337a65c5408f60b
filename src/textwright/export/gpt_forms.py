"""The attention family for other programs: as a GPT-2 if it has that form.

Letters: B batch, T time, S T plus the ids read before, D width, H heads, K key width, U value width
of a head, V vocabulary.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from textwright.errors import ConfigError
from textwright.export.forms import custom_config
from textwright.export.onnx_graph import Graph
from textwright.families import GPTOptions
from textwright.models import gpt2
from textwright.models.gpt import GPT
from textwright.run import Arrays

if TYPE_CHECKING:
    from onnx import ModelProto


def transformers_files(model: GPT, vocab_size: int, stop_id: int) -> tuple[dict[str, Any], Arrays]:
    """A GPT-2's files if the model has that form, else those of custom_model/gpt.py."""
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    try:
        config = gpt2.config_of(model.options, vocab_size, stop_id)
        return config, gpt2.to_gpt2(weights, model.options.layers)
    except ConfigError:
        config = custom_config(model.options, vocab_size)
        config["embedding_scale"] = model.options.token_scale
        return config, weights | {"positions": model.positions.numpy(force=True)}


def gguf_options(model: GPT, vocab_size: int, stop_id: int) -> GPTOptions:
    """The options of a model in GPT-2's form. Raises ConfigError that names what differs."""
    gpt2.config_of(model.options, vocab_size, stop_id)
    if model.options.activation != "gelu":
        raise ConfigError("model.activation is 'relu'")
    return model.options


def onnx_graph(model: GPT) -> ModelProto:
    """The equations of models/gpt.py."""
    options = model.options
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    weights["positions"] = model.positions.numpy(force=True)
    graph = Graph()
    heads, (key, value) = options.heads, options.head_widths
    one = graph.constant(1)
    first = graph("Squeeze", graph("Shape", "keys", start=3, end=4))
    total = graph("Add", first, graph("Squeeze", graph("Shape", "ids", start=1, end=2)))
    places = graph("Range", first, total, one)  # (T,)
    columns = graph("Range", graph.constant(0), total, one)  # (S,)
    seen = graph("LessOrEqual", columns, graph("Unsqueeze", places, graph.constant([1])))
    nothing, never = graph.constant(np.float32(0)), graph.constant(np.float32(-np.inf))
    mask = graph("Where", seen, nothing, never)  # (T, S)

    after: list[list[str]] = [[], []]

    def attention(x: str, layer: int) -> str:
        name = f"blocks.{layer}.attention"
        widths = graph.constant([heads * key, heads * key, heads * value])
        joint = graph.linear(x, weights, f"{name}.input")
        parts = graph("Split", joint, widths, outputs=3, axis=-1)
        apart = graph.constant([0, 0, heads, -1])
        queries, *new = (
            graph("Transpose", graph("Reshape", part, apart), perm=[0, 2, 1, 3]) for part in parts
        )
        kept = []
        for state, part, grown in zip(("keys", "values"), new, after, strict=True):
            old = graph("Gather", state, graph.constant(layer), axis=0)
            kept.append(graph("Concat", old, part, axis=2))  # (B, H, S, K or U)
            grown.append(graph("Unsqueeze", kept[-1], graph.constant([0])))
        scale = graph.constant(np.float32(1 / math.sqrt(key)))
        turned = graph("Transpose", kept[0], perm=[0, 1, 3, 2])
        scores = graph("Mul", graph("MatMul", queries, turned), scale)
        shares = graph("Softmax", graph("Add", scores, mask), axis=-1)
        found = graph("Transpose", graph("MatMul", shares, kept[1]), perm=[0, 2, 1, 3])
        found = graph("Reshape", found, graph.constant([0, 0, heads * value]))
        return graph.linear(found, weights, f"{name}.output")

    def feedforward(x: str, layer: int) -> str:
        wide = graph.linear(x, weights, f"blocks.{layer}.feedforward.input")
        relu = options.activation == "relu"
        active = graph("Relu", wide) if relu else graph("Gelu", wide, approximate="tanh")
        return graph.linear(active, weights, f"blocks.{layer}.feedforward.output")

    def norm(x: str, name: str) -> str:
        return graph.norm(x, weights, name, options.norm_epsilon)

    embedding = graph.constant(weights["embedding"], "embedding")
    positions = graph.constant(weights["positions"], "positions")
    tokens = graph("Gather", embedding, "ids")
    if options.token_scale != 1:
        tokens = graph("Mul", tokens, graph.constant(np.float32(options.token_scale)))
    x = graph("Add", tokens, graph("Gather", positions, places))
    for layer in range(options.layers):
        for part, name in ((attention, "attention_norm"), (feedforward, "feedforward_norm")):
            name = f"blocks.{layer}.{name}"
            if options.norm == "pre":
                x = graph("Add", x, part(norm(x, name), layer))
            else:
                x = norm(graph("Add", x, part(x, layer)), name)
    if options.norm == "pre":
        x = norm(x, "norm")
    logits = graph.project(x, weights)
    joined = [graph("Concat", *state, axis=0) for state in after]
    shapes = {
        "keys": (options.layers, "batch", heads, "past", key),
        "values": (options.layers, "batch", heads, "past", value),
    }
    return graph.model(shapes, logits, joined, len(weights["embedding"]))
