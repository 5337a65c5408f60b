"""Where each tensor of another project's model stands in ours: the same weights, cut and named in
another way. Queries, keys and values are one matrix here; elsewhere they are often three.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from textwright.compute.memory import free_memory
from textwright.errors import PretrainedError
from textwright.families import Family
from textwright.models import build_empty
from textwright.run import Arrays

Shape = tuple[int, ...]
PER_TOKEN = ("embedding", "output.weight", "output.bias")  # a row for each token


@dataclass(frozen=True)
class Place:
    """Rows of one of our arrays. start, rows: the first, and how many; 0 rows are all of them ·
    turned: the other project keeps this matrix input-first."""

    name: str
    start: int = 0
    rows: int = 0
    turned: bool = False

    def rows_of(self, array: np.ndarray) -> np.ndarray:
        """The rows that belong here, without a copy."""
        return array[self.start : self.start + self.rows] if self.rows else array


Places = Mapping[str, Place]
"""By the other project's name of a tensor."""


def shapes_of(options: Family, vocab_size: int) -> dict[str, Shape]:
    """The shape of each of our arrays, by canonical name. The options name their context."""
    state = build_empty(options, vocab_size, 0).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def check(found: Mapping[str, Shape], places: Places, shapes: Mapping[str, Shape]) -> None:
    """Raise ValueError if tensors of these shapes are not those of the model: one is missing,
    unknown, or of another shape."""
    if missing := sorted(places.keys() - found.keys()):
        raise ValueError(f"they lack {missing[0]}")
    if unknown := sorted(found.keys() - places.keys()):
        raise ValueError(f"they hold {unknown[0]}, which this model does not have")
    for name, place in places.items():
        rows, *others = shapes[place.name]
        wanted = (place.rows or rows, *others)
        wanted = wanted[::-1] if place.turned else wanted
        if found[name] != wanted:
            raise ValueError(f"{name} has shape {_times(found[name])}, not {_times(wanted)}")


def gather(
    tensors: Iterable[tuple[str, Tensor]], places: Places, shapes: Mapping[str, Shape], tokens: int
) -> Arrays:
    """Our arrays, float32, from tensors of any precision that `check` has passed, one at a time.

    tokens: rows to keep of what has a row for each token.
    """
    arrays = {
        name: np.empty((tokens, *shape[1:]) if name in PER_TOKEN else shape, np.float32)
        for name, shape in shapes.items()
    }
    for name, tensor in tensors:
        place = places[name]
        into = place.rows_of(arrays[place.name])
        source = tensor.T if place.turned else tensor
        torch.from_numpy(into).copy_(source[: len(into)])
    return arrays


def spread(weights: Mapping[str, np.ndarray], places: Places) -> Arrays:
    """The other project's tensors, from ours by canonical name."""
    tensors = {name: place.rows_of(weights[place.name]) for name, place in places.items()}
    return {
        name: np.ascontiguousarray(tensor.T if places[name].turned else tensor)
        for name, tensor in tensors.items()
    }


def refuse_larger_than_memory(source: str, shapes: Mapping[str, Shape]) -> None:
    """Raise PretrainedError if arrays of these shapes, in float32, need more than the free
    memory."""
    count = sum(math.prod(shape) for shape in shapes.values())
    need, free = 4 * count, free_memory()
    if free is not None and need > free:
        raise PretrainedError(
            f"{source} has {count:,} weights, which need {need / 1e9:.1f} GB of memory in float32, "
            f"but {free / 1e9:.1f} GB are free; name a smaller model."
        )


def _times(shape: Shape) -> str:
    return " × ".join(map(str, shape))
