"""Properties of a text that a unit may tell, one number a token."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OPENING, CLOSING = "([{", ")]}"


def structure(text: str, ends: NDArray[np.int64]) -> dict[str, Floats]:
    """How far the text has come, and whether a quote or a bracket is open, at tokens that end
    before the characters `ends` (T,): each property (T,)."""
    quoted = np.array([0, *accumulate(map(_toggles, text), _quote)])
    depth = np.cumsum([0, *((c in OPENING) - (c in CLOSING) for c in text)])
    return {
        "position in the text": np.arange(len(ends), dtype=np.float64),
        "an open quote": quoted[ends].astype(np.float64),
        "an open bracket": (depth[ends] > 0).astype(np.float64),
    }


def _toggles(character: str) -> int:
    """1: opens a quote, −1: closes one, 2: either; 0: no quotation mark."""
    return {"“": 1, "”": -1, '"': 2}.get(character, 0)


def _quote(is_open: int, mark: int) -> int:
    return {0: is_open, 1: 1, -1: 0, 2: 1 - is_open}[mark]
