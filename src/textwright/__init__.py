"""textwright: train, understand and trust small autoregressive text models.

>>> import textwright as tw
>>> run = tw.train("recipes.json", preset="recipes-lstm", out="runs/recipes")
>>> print(run.generate("recipe for", temperature=0.5)[0].text)
"""

from typing import TYPE_CHECKING, Any

from textwright.errors import TextwrightError

if TYPE_CHECKING:
    from textwright.api import Writer, compare, load, train

__version__ = "0.2.0.dev0"
__all__ = ["TextwrightError", "Writer", "compare", "load", "train"]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """Load the API when it is asked for, so that the command line answers at once."""
    if name in ("Writer", "compare", "load", "train"):
        from textwright import api

        return getattr(api, name)
    raise AttributeError(f"module 'textwright' has no attribute {name!r}")
