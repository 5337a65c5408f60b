"""Building an ONNX graph node by node, so that axes of any length follow from the operators and not
from a traced example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from textwright.run import Arrays

if TYPE_CHECKING:
    from onnx import ModelProto

OPERATORS = 20  # the operator set, of 2023: the first with GELU
FORMAT = 9  # the file format: as old as the operators, so that older runtimes read it


class Graph:
    """Nodes in the order they are computed, each added by its operator: `graph("Add", a, b)`."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def __call__(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node → the name of its output, or the names if it has several."""
        from onnx import helper

        number = len(self.nodes)
        names = [f"{operator}_{number}_{output}" for output in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, name: str = "") -> str:
        """Add an array or integers, named by their values unless named here → the name."""
        array = np.asarray(value, order="C")
        name = name or f"{array.dtype}_{array.ndim}_{array.flatten().tolist()}"
        self.constants[name] = array
        return name

    def linear(self, x: str, weights: Arrays, name: str) -> str:
        """Add a linear layer, x·Wᵀ + b, or x·Wᵀ if it has no bias."""
        weight = self.constant(weights[f"{name}.weight"].T, f"{name}.weight")
        product: str = self("MatMul", x, weight)
        if f"{name}.bias" not in weights:
            return product
        return str(self("Add", product, self.constant(weights[f"{name}.bias"], f"{name}.bias")))

    def norm(self, x: str, weights: Arrays, name: str, epsilon: float) -> str:
        """Add a layer norm with weight and bias, or an RMS norm, which has no bias."""
        weight = self.constant(weights[f"{name}.weight"], f"{name}.weight")
        if f"{name}.bias" in weights:
            bias = self.constant(weights[f"{name}.bias"], f"{name}.bias")
            return str(self("LayerNormalization", x, weight, bias, epsilon=epsilon))
        mean = self("ReduceMean", self("Mul", x, x), self.constant([-1]))
        root = self("Sqrt", self("Add", mean, self.constant(np.float32(epsilon))))
        return str(self("Mul", self("Div", x, root), weight))

    def halves(self, x: str) -> list[str]:
        """Cut the last axis in two."""
        parts: list[str] = self("Split", x, outputs=2, axis=-1, num_outputs=2)
        return parts

    def project(self, x: str, weights: Arrays) -> str:
        """Add the output layer, with a matrix of its own or the embedding's."""
        if "output.weight" in weights:
            return self.linear(x, weights, "output")
        logits = self("MatMul", x, self("Transpose", "embedding", perm=[1, 0]))
        if "output.bias" in weights:
            logits = self("Add", logits, self.constant(weights["output.bias"], "output.bias"))
        return logits

    def model(
        self, states: Mapping[str, Sequence[int | str]], logits: str, after: Sequence[str], V: int
    ) -> ModelProto:
        """The finished model. states: name → shape, as read · after: names of the next states."""
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
