"""GPT-2 as Hugging Face stores it: its names and config.json, converted to ours and back.

The tensors are the same under other names, except that its matrices (`Conv1D`) are input-first and
ours (`nn.Linear`) output-first. Queries, keys and values are one matrix in both, in this order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from textwright.errors import ConfigError
from textwright.families import GPTOptions
from textwright.models.places import Place

TYPES = ("gpt2",)
PREFIX = "transformer."  # before each name if the whole language model was saved, not only its body
OUTSIDE = {"embedding": "wte.weight", "positions": "wpe.weight"}
PARTS = {  # ours → theirs, each with a weight and a bias
    "attention_norm": "ln_1",
    "attention.input": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "feedforward_norm": "ln_2",
    "feedforward.input": "mlp.c_fc",
    "feedforward.output": "mlp.c_proj",
}
# Also in older files: masks, and the embedding again as the output matrix.
NO_PARAMETER = re.compile(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight")

ACTIVATIONS = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "relu": "relu"}
# Keys of config.json of which gpt.py can compute only one value.
FIXED: dict[str, Any] = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `[model]` options of the model that a config.json describes.

    Raises ValueError if gpt.py cannot compute it.
    """
    for key, value in FIXED.items():
        if config.get(key, value) != value:
            raise ValueError(f"its {key} is {config[key]!r}; only {value!r} can be computed here")
    activation = config.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"its activation_function is {activation!r}, not one of {known}")
    try:
        return GPTOptions().fixed_by_weights(config["n_positions"]) | {
            "layers": config["n_layer"],
            "heads": config["n_head"],
            "width": config["n_embd"],
            "feedforward_width": config.get("n_inner") or 0,
            "activation": ACTIVATIONS[activation],
            "norm_epsilon": config.get("layer_norm_epsilon", 1e-5),
        }
    except KeyError as error:
        raise ValueError(f"it lacks {error.args[0]}") from None


def config_of(options: GPTOptions, vocab_size: int, stop_id: int) -> dict[str, Any]:
    """config.json of a model in GPT-2's form; `options.context_length` must be set.

    Raises ConfigError that names an option if no GPT-2 has this form.
    """
    head = options.width // options.heads
    key, value = options.head_widths
    other = {
        "norm": options.norm != "pre",
        "normalization": options.normalization != "layer",
        "positions": options.positions != "learned",
        "activation": options.activation not in ("gelu", "relu"),
        "embedding_scale": options.token_scale != 1,
        "tie_output": not options.tie_output,
        "heads": options.width % options.heads != 0,
        "key_width": key != head,
        "value_width": value != head,
        "key_value_heads": options.shared_heads != options.heads,
        "query_key_norm": options.query_key_norm,
        "biases": options.biases != "all",
    }
    for name, differs in other.items():
        if differs:
            raise ConfigError(f"model.{name} is {getattr(options, name)!r}, which no GPT-2 has.")
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": vocab_size,
        "n_positions": options.context_length,
        "n_embd": options.width,
        "n_layer": options.layers,
        "n_head": options.heads,
        "n_inner": options.feedforward_width or None,
        "activation_function": {"gelu": "gelu_new", "relu": "relu"}[options.activation],
        "layer_norm_epsilon": options.norm_epsilon,
        "resid_pdrop": options.dropout,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "bos_token_id": stop_id,
        "eos_token_id": stop_id,
        **FIXED,
    }


def places(options: GPTOptions) -> dict[str, Place]:
    """Their name of each tensor → its place in ours."""
    parts = {"norm": "ln_f"} | {
        f"blocks.{layer}.{ours}": f"h.{layer}.{theirs}"
        for layer in range(options.layers)
        for ours, theirs in PARTS.items()
    }
    found = {PREFIX + theirs: Place(ours) for ours, theirs in OUTSIDE.items()}
    for ours, theirs in parts.items():
        turned = ours.rpartition(".")[2] in ("input", "output")
        found[f"{PREFIX}{theirs}.weight"] = Place(f"{ours}.weight", turned=turned)
        found[f"{PREFIX}{theirs}.bias"] = Place(f"{ours}.bias")
    return found
