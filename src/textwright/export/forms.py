"""The forms of a family's models for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from textwright.errors import ExportError
from textwright.families import Family, implementation
from textwright.models import LanguageModel
from textwright.run import Arrays

if TYPE_CHECKING:
    from onnx import ModelProto

CODE = "modeling_textwright.py"  # the code of a model that is not part of transformers


class Forms(Protocol):
    """The module that a family names as its `exports`."""

    def onnx_graph(self, model: Any) -> ModelProto:
        """The model's equations as an ONNX graph, with its state in and out."""

    def transformers_files(
        self, model: Any, vocab_size: int, stop_id: int
    ) -> tuple[dict[str, Any], Arrays]:
        """config.json and the tensors: those of a model in transformers, or `custom_config` and the
        tensors that custom_model/<family>.py loads."""

    def gguf_config(self, model: Any, vocab_size: int, stop_id: int) -> dict[str, Any]:
        """The config.json of a model that llama.cpp can compute. Raises ConfigError that names what
        it cannot compute."""


def forms_of(model: LanguageModel) -> Forms:
    """The forms of a model's family. Raises ExportError if it has none."""
    if not model.options.exports:
        raise ExportError(f"Models of family {model.options.family} cannot be exported.")
    forms: Forms = implementation(model.options.exports)
    return forms


def custom_config(options: Family, vocab_size: int) -> dict[str, Any]:
    """config.json of a model that transformers computes with the code in CODE."""
    module = CODE.removesuffix(".py")
    return {
        "architectures": ["TextwrightForCausalLM"],
        "model_type": f"textwright-{options.family}",
        "auto_map": {
            "AutoConfig": f"{module}.TextwrightConfig",
            "AutoModelForCausalLM": f"{module}.TextwrightForCausalLM",
        },
        "vocab_size": vocab_size,
        "tie_word_embeddings": False,  # the code ties them itself
        **options.model_dump(exclude={"family"}),
    }
