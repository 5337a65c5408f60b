"""The models as ONNX graphs, node by node from the equations in models/.

ONNX has the recurrent layers as operators, and axes of any length follow from the operators rather
than from an example that was traced.

Letters: B batch, T time, S what was read before, and T, D width, H heads (or hidden width, of an
LSTM), K key width, U value width of a head, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from textwright.config import GPTOptions, LSTMOptions
from textwright.run import Arrays

if TYPE_CHECKING:
    from onnx import ModelProto

OPERATORS = 20  # the operator set, of 2023: the first with GELU
FORMAT = 9  # of the file, as old as the operators, so that older runtimes read it
# The gates' order here → ONNX's, as places in ours.
GATE_ORDER = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn": [0]}


class Graph:
    """Nodes in the order they are computed, each called by its operator: `graph("Add", a, b)`."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def __call__(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node → the name of what it gives, or several names."""
        from onnx import helper

        number = len(self.nodes)
        names = [f"{operator}_{number}_{output}" for output in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, name: str = "") -> str:
        """An array, or integers, by a name that can be given."""
        array = np.asarray(value, order="C")
        name = name or f"{array.dtype}_{array.ndim}_{array.flatten().tolist()}"
        self.constants[name] = array
        return name

    def linear(self, x: str, weights: Arrays, name: str) -> str:
        """x·Wᵀ + b, of a layer that has both."""
        weight = self.constant(weights[f"{name}.weight"].T, f"{name}.weight")
        product = self("MatMul", x, weight)
        return self("Add", product, self.constant(weights[f"{name}.bias"], f"{name}.bias"))

    def norm(self, x: str, weights: Arrays, name: str, epsilon: float) -> str:
        """A layer norm, which has both too."""
        parts = (f"{name}.weight", f"{name}.bias")
        constants = [self.constant(weights[part], part) for part in parts]
        return self("LayerNormalization", x, *constants, epsilon=epsilon)

    def project(self, x: str, weights: Arrays) -> str:
        """The output layer, with a matrix of its own or the embedding's."""
        if "output.weight" in weights:
            return self.linear(x, weights, "output")
        logits = self("MatMul", x, self("Transpose", "embedding", perm=[1, 0]))
        if "output.bias" in weights:
            logits = self("Add", logits, self.constant(weights["output.bias"], "output.bias"))
        return logits

    def model(
        self, states: Mapping[str, Sequence[int | str]], logits: str, after: Sequence[str], V: int
    ) -> ModelProto:
        """The finished model. states: name → shape, as read · after: what becomes of them."""
        from onnx import TensorProto, helper, numpy_helper

        outputs = ["logits", *(f"next_{name}" for name in states)]
        for name, found in zip(outputs, [logits, *after], strict=True):
            self.nodes.append(helper.make_node("Identity", [found], [name]))
        grown = [[("total" if axis == "past" else axis) for axis in s] for s in states.values()]
        shapes: list[Sequence[int | str]] = [["batch", "time", V], *grown]

        def describe(name: str, shape: Sequence[int | str]) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "time"])
        graph = helper.make_graph(
            self.nodes,
            "textwright",
            [ids, *(describe(name, shape) for name, shape in states.items())],
            [describe(name, shape) for name, shape in zip(outputs, shapes, strict=True)],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        operators = [helper.make_opsetid("", OPERATORS)]
        return helper.make_model(
            graph, opset_imports=operators, ir_version=FORMAT, producer_name="textwright"
        )


def lstm_graph(options: LSTMOptions, weights: Arrays) -> ModelProto:
    """The equations of models/lstm.py."""
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
        x = graph("Squeeze", found, graph.constant([1]))  # of the two directions, one
    x = graph("Transpose", x, perm=[1, 0, 2])
    logits = graph.project(x, weights)
    joined = [graph("Concat", *state, axis=0) for state in zip(*after, strict=True)]
    shape = (options.layers, "batch", options.hidden_size)
    return graph.model(dict.fromkeys(names, shape), logits, joined, len(weights["embedding"]))


def gpt_graph(options: GPTOptions, weights: Arrays) -> ModelProto:
    """The equations of models/gpt.py."""
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
        looked = graph("Softmax", graph("Add", scores, mask), axis=-1)
        found = graph("Transpose", graph("MatMul", looked, kept[1]), perm=[0, 2, 1, 3])
        found = graph("Reshape", found, graph.constant([0, 0, heads * value]))
        return graph.linear(found, weights, f"{name}.output")

    def feedforward(x: str, layer: int) -> str:
        wide = graph.linear(x, weights, f"blocks.{layer}.feedforward.input")
        relu = options.activation == "relu"
        bent = graph("Relu", wide) if relu else graph("Gelu", wide, approximate="tanh")
        return graph.linear(bent, weights, f"blocks.{layer}.feedforward.output")

    def norm(x: str, name: str) -> str:
        return graph.norm(x, weights, name, options.norm_epsilon)

    embedding = graph.constant(weights["embedding"], "embedding")
    positions = graph.constant(weights["positions"], "positions")
    x = graph("Add", graph("Gather", embedding, "ids"), graph("Gather", positions, places))
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
