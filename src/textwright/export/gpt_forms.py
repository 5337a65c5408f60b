"""The attention family for other programs: as a GPT-2, Llama, Qwen2 or Qwen3 if it is one.

Letters: B batch, T time, S T plus the ids read before, D width, H heads, G heads of keys and
values, R heads that share them (H/G), K key width, U value width of a head, V vocabulary.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from textwright.backends.positions import rotary_waves
from textwright.errors import ConfigError
from textwright.export.forms import custom_config
from textwright.export.onnx_graph import Graph
from textwright.models.gpt import GPT
from textwright.models.published import as_published, form_for
from textwright.run import Arrays

if TYPE_CHECKING:
    from onnx import ModelProto


def transformers_files(model: GPT, vocab_size: int, stop_id: int) -> tuple[dict[str, Any], Arrays]:
    """The files of a GPT-2, Llama, Qwen2 or Qwen3 if the model is one, else those of
    custom_model/gpt.py."""
    try:
        return as_published(model, vocab_size, stop_id)
    except ConfigError:
        return _custom_files(model, vocab_size)


def _custom_files(model: GPT, vocab_size: int) -> tuple[dict[str, Any], Arrays]:
    """The files of custom_model/gpt.py, whose config has every width as a number and whose
    positions are a table."""
    options = model.options
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    tensors["positions"] = _position_table(model)
    config = custom_config(options, vocab_size)
    config |= {
        "key_value_heads": options.shared_heads,
        **dict(zip(("key_width", "value_width"), options.head_widths, strict=True)),
        "feedforward_width": options.inner_width,
        "embedding_scale": options.token_scale,
        "output_bias": options.output_bias,
    }
    return {k: v for k, v in config.items() if not k.startswith("rotary_")}, tensors


def _position_table(model: GPT) -> np.ndarray:
    """Vectors to add (C, D), or the cosines, then the sines of rotary positions (C, K)."""
    if model.options.positions == "rotary":
        return np.concatenate(rotary_waves(model.options), -1)
    return model.positions.numpy(force=True)


def gguf_config(model: GPT, vocab_size: int, stop_id: int) -> dict[str, Any]:
    """The config.json of a GPT-2, Llama, Qwen2 or Qwen3 that llama.cpp computes. Raises ConfigError
    that names what differs."""
    options = model.options
    config = form_for(options).config_of(options, vocab_size, stop_id)
    kind, head = config["model_type"], options.head_widths[0]
    if options.activation == "relu":
        raise ConfigError("model.activation is 'relu'")
    if kind != "llama" and options.rotary_factor > 1:
        raise ConfigError(
            f"model.rotary_factor is {options.rotary_factor:g}, which only a Llama has"
        )
    if kind == "qwen2" and options.heads * head != options.width:
        raise ConfigError(f"model.key_width is {head}, but width / heads in every Qwen2")
    return config


def onnx_graph(model: GPT) -> ModelProto:
    """The equations of models/gpt.py."""
    options = model.options
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    graph = Graph()
    (key, value), shared = options.head_widths, options.shared_heads
    heads, group = options.heads, options.heads // options.shared_heads
    one = graph.constant(1)
    first = graph("Squeeze", graph("Shape", "keys", start=3, end=4))
    total = graph("Add", first, graph("Squeeze", graph("Shape", "ids", start=1, end=2)))
    places = graph("Range", first, total, one)  # (T,)
    columns = graph("Range", graph.constant(0), total, one)  # (S,)
    seen = graph("LessOrEqual", columns, graph("Unsqueeze", places, graph.constant([1])))
    nothing, never = graph.constant(np.float32(0)), graph.constant(np.float32(-np.inf))
    mask = graph("Where", seen, nothing, never)  # (T, S)
    table = graph.constant(_position_table(model), "positions")
    position = graph("Gather", table, places)  # (T, D), for rotary (T, K)
    rotary = options.positions == "rotary"
    if rotary:
        cosines, sines = graph.halves(position)

    def rotated(x: str) -> str:
        """Turn each pair of x (B, heads, T, K)."""
        a, b = graph.halves(x)
        first = graph("Sub", graph("Mul", a, cosines), graph("Mul", b, sines))
        second = graph("Add", graph("Mul", b, cosines), graph("Mul", a, sines))
        return str(graph("Concat", first, second, axis=-1))

    after: list[list[str]] = [[], []]

    def attention(x: str, layer: int) -> str:
        name = f"blocks.{layer}.attention"
        widths = graph.constant([heads * key, shared * key, shared * value])
        joint = graph.linear(x, weights, f"{name}.input")
        parts = graph("Split", joint, widths, outputs=3, axis=-1)
        apart = [graph.constant([0, 0, count, -1]) for count in (heads, shared, shared)]
        parts = [graph("Reshape", *both) for both in zip(parts, apart, strict=True)]
        if options.query_key_norm:
            for place, part in enumerate(("query_norm", "key_norm")):
                parts[place] = norm(parts[place], f"{name}.{part}")
        queries, *new = (graph("Transpose", part, perm=[0, 2, 1, 3]) for part in parts)
        if rotary:
            queries, new[0] = rotated(queries), rotated(new[0])
        kept = []
        for state, part, grown in zip(("keys", "values"), new, after, strict=True):
            old = graph("Gather", state, graph.constant(layer), axis=0)
            kept.append(graph("Concat", old, part, axis=2))  # (B, G, S, K or U)
            grown.append(graph("Unsqueeze", kept[-1], graph.constant([0])))
        if group > 1:
            queries = graph("Reshape", queries, graph.constant([0, shared, group, -1, key]))
            kept = [graph("Unsqueeze", part, graph.constant([2])) for part in kept]
        flat = list(range(3 + (group > 1)))  # the axes before the last, for (B, H) or (B, G, R)
        turned = graph("Transpose", kept[0], perm=[*flat[:-1], flat[-1] + 1, flat[-1]])
        scale = graph.constant(np.float32(1 / math.sqrt(key)))
        scores = graph("Mul", graph("MatMul", queries, turned), scale)
        shares = graph("Softmax", graph("Add", scores, mask), axis=-1)
        found = graph("MatMul", shares, kept[1])
        if group > 1:
            found = graph("Reshape", found, graph.constant([0, heads, -1, value]))
        found = graph("Transpose", found, perm=[0, 2, 1, 3])
        found = graph("Reshape", found, graph.constant([0, 0, heads * value]))
        return graph.linear(found, weights, f"{name}.output")

    def feedforward(x: str, layer: int) -> str:
        wide = graph.linear(x, weights, f"blocks.{layer}.feedforward.input")
        if options.activation == "swiglu":
            gate, up = graph.halves(wide)
            active = graph("Mul", graph("Mul", gate, graph("Sigmoid", gate)), up)
        elif options.activation == "relu":
            active = graph("Relu", wide)
        else:
            active = graph("Gelu", wide, approximate="tanh")
        return graph.linear(active, weights, f"blocks.{layer}.feedforward.output")

    def norm(x: str, name: str) -> str:
        return graph.norm(x, weights, name, options.norm_epsilon)

    embedding = graph.constant(weights["embedding"], "embedding")
    x = graph("Gather", embedding, "ids")
    if options.token_scale != 1:
        x = graph("Mul", x, graph.constant(np.float32(options.token_scale)))
    if not rotary:
        x = graph("Add", x, position)
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
        "keys": (options.layers, "batch", shared, "past", key),
        "values": (options.layers, "batch", shared, "past", value),
    }
    return graph.model(shapes, logits, joined, len(weights["embedding"]))
