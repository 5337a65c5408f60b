"""Shared by the backends without torch: a model's arrays by name, with their shapes checked, the
product that takes most of the time, and the layer in which it does."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from textwright.errors import RunError

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

# Up to this many rows, one product per row is faster than one product for all: for the latter,
# BLAS first rearranges the whole matrix, which costs as much as two or three vector products.
_ONE_BY_ONE = 3

REMEDY = "The weights are damaged or those of another model: restore them, or train the run again."


class NumpyWeights:
    """Arrays by name. Checks their shapes, and detects arrays that are never taken."""

    def __init__(self, weights: Mapping[str, NDArray[np.floating]]) -> None:
        self._weights = weights
        self._taken: set[str] = set()

    def take(self, name: str, shape: tuple[int | None, ...]) -> Floats:
        """The array, float32. Raises RunError if it is missing or has another shape."""
        if name not in self._weights:
            raise RunError(f"The weights lack {name}. {REMEDY}")
        array = np.asarray(self._weights[name], np.float32)
        fits = array.ndim == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
        )
        if not fits:
            wanted = " × ".join("any" if size is None else str(size) for size in shape)
            raise RunError(f"{name} has shape {array.shape}, not {wanted}. {REMEDY}")
        self._taken.add(name)
        return array

    def refuse_others(self) -> None:
        """Raise RunError if an array was never taken: the weights are those of another model."""
        others = sorted(set(self._weights) - self._taken)
        if others:
            raise RunError(
                f"The weights hold {', '.join(others)}, which this model does not have. {REMEDY}"
            )


def product(x: Floats, weight: Floats) -> Floats:
    """x (…, D) · weight (D, E) → (…, E), few rows one by one."""
    if x.ndim > 2 or len(x) > _ONE_BY_ONE:
        return x @ weight
    rows = np.empty((len(x), weight.shape[1]), np.float32)
    for row, into in zip(x, rows, strict=True):
        np.dot(row, weight, out=into)
    return rows


class Output:
    """The layer that predicts: hidden (B, D) → logits (B, V).

    The bias is one more row of the matrix: to add it afterwards takes another pass over (B, V).
    """

    def __init__(self, weight: Floats, bias: Floats | None) -> None:
        """weight (V, D), bias (V)."""
        self._biased = bias is not None
        columns = weight if bias is None else np.concatenate([weight, bias[:, None]], 1)
        # (D, V), because BLAS needs a third less time for this layout when B is large.
        self._weight = np.ascontiguousarray(columns.T)

    def __call__(self, hidden: Floats) -> Floats:
        if self._biased:
            filled = np.empty((len(hidden), len(self._weight)), np.float32)
            filled[:, :-1], filled[:, -1] = hidden, 1
            hidden = filled
        return product(hidden, self._weight)
