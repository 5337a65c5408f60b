"""The description of a family of models, so that no other room has to distinguish families."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar, Self

from textwright.options import Options


class Family(Options):
    """The `[model]` options of a family, and all that other rooms need from it.

    A family names the code that implements it as "module" or "module:name", which `implementation`
    imports, so that a config can be read without torch.
    """

    family: str

    layouts: ClassVar[tuple[str, ...]]
    """Layouts of `[data]` that this family trains on. `auto` chooses "rows" for short documents and
    the last of these for long ones."""

    counted: ClassVar[bool] = False
    """True for a model that is counted in one pass, without torch; it has no `model`."""

    adaptable: ClassVar[bool] = False
    """True if `train.lora_rank` and `train.recompute_blocks` apply."""

    model: ClassVar[str] = ""
    """A `models.LanguageModel`, called with (options, vocab_size)."""

    backend: ClassVar[str] = ""
    """A function (weights, options) that returns a backend without torch, if there is one."""

    exports: ClassVar[str] = ""
    """A module with the forms for other programs (`export.forms.Forms`), if there is one."""

    @property
    def title(self) -> str:
        """Name of the kind of model."""
        raise NotImplementedError

    @classmethod
    def suited(cls, seconds: float, dropout: float) -> dict[str, dict[str, Any]]:
        """Tables of options (`model`, `data`, `train`) for so many seconds of training on two
        cores, which the preset `auto` takes where nothing is set."""
        return {}

    def with_context(self, context_length: int) -> Self:
        """The same options, with those set that depend on `data.context_length`."""
        return self

    def check_context(self, context_length: int) -> None:
        """Raise ValueError if rows of `context_length` tokens do not fit these options."""

    def fixed_by_weights(self, context_length: int) -> dict[str, Any]:
        """The options that trained weights determine, so that they cannot be changed."""
        free = {"dropout", "variational", "initialization"}  # of training, not of what was trained
        return self.with_context(context_length).model_dump(exclude=free)

    def looks_back(self, context_length: int) -> int | None:
        """The most tokens that the model can look back on, given `data.context_length`; None: no
        limit."""
        return None

    def describe(self, context_length: int) -> str:
        """The shape in a few words, for a model card."""
        raise NotImplementedError


def implementation(reference: str) -> Any:
    """Import "module" or "module:name"."""
    module, _, name = reference.partition(":")
    loaded = import_module(module)
    return getattr(loaded, name) if name else loaded
