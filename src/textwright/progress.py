"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[int, int], None]
"""Called with how much is done, and of how much."""
OnStage = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done, and of how much; 0: not known."""


def silent(*_: object) -> None:
    """Tell nobody."""
