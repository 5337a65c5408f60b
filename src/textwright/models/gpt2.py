"""GPT-2 as Hugging Face stores it: its names and config.json, converted to ours and back.

The tensors are the same under other names, except that its matrices (`Conv1D`) are input-first and
ours (`nn.Linear`) output-first. Queries, keys and values are one matrix in both, in this order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from textwright.errors import ConfigError
from textwright.families import GPTOptions
from textwright.run import Arrays

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
NO_PARAMETER = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight")

ACTIVATIONS = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "relu": "relu"}
# Keys of config.json of which gpt.py can compute only one value.
FIXED: dict[str, Any] = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def names(layers: int) -> dict[str, str]:
    """Canonical name → GPT-2's name without its prefix, for a model with this many layers."""
    pairs = dict(OUTSIDE)
    ends = {"norm": "ln_f"} | {
        f"blocks.{layer}.{ours}": f"h.{layer}.{theirs}"
        for layer in range(layers)
        for ours, theirs in PARTS.items()
    }
    for ours, theirs in ends.items():
        pairs |= {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}
    return pairs


def from_gpt2(tensors: Mapping[str, np.ndarray], layers: int) -> Arrays:
    """Weights by canonical name. Raises ValueError if one is missing or unknown."""
    found = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    wanted = names(layers)
    if missing := sorted(set(wanted.values()) - found.keys()):
        raise ValueError(f"they lack {missing[0]}")
    unknown = sorted(n for n in found.keys() - wanted.values() if not NO_PARAMETER.fullmatch(n))
    if unknown:
        raise ValueError(f"they hold {unknown[0]}, which no GPT-2 has")
    return {ours: _turned(ours, found[theirs]) for ours, theirs in wanted.items()}


def to_gpt2(weights: Mapping[str, np.ndarray], layers: int) -> Arrays:
    """The tensors that `GPT2LMHeadModel` loads, from weights by canonical name."""
    return {PREFIX + theirs: _turned(ours, weights[ours]) for ours, theirs in names(layers).items()}


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `[model]` options of the model that a config.json describes.

    Raises ValueError if gpt.py cannot compute it.
    """
    if config.get("model_type") != "gpt2":
        raise ValueError(f"its model_type is {config.get('model_type')!r}, not 'gpt2'")
    for key, value in FIXED.items():
        if config.get(key, value) != value:
            raise ValueError(f"its {key} is {config[key]!r}; only {value!r} can be computed here")
    activation = config.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"its activation_function is {activation!r}, not one of {known}")
    try:
        return {
            "family": "gpt",
            "layers": config["n_layer"],
            "heads": config["n_head"],
            "width": config["n_embd"],
            "key_width": 0,
            "value_width": 0,
            "feedforward_width": config.get("n_inner") or 0,
            "activation": ACTIVATIONS[activation],
            "norm": "pre",
            "norm_epsilon": config.get("layer_norm_epsilon", 1e-5),
            "positions": "learned",
            "embedding_scale": 0.0,
            "context_length": config["n_positions"],
            "tie_output": True,
        }
    except KeyError as error:
        raise ValueError(f"its config.json lacks {error.args[0]}") from None


def config_of(options: GPTOptions, vocab_size: int, stop_id: int) -> dict[str, Any]:
    """config.json of a model in GPT-2's form; `options.context_length` must be set.

    Raises ConfigError that names an option if no GPT-2 has this form.
    """
    head = options.width // options.heads
    key, value = options.head_widths
    other = {
        "norm": options.norm != "pre",
        "positions": options.positions != "learned",
        "embedding_scale": options.token_scale != 1,
        "tie_output": not options.tie_output,
        "heads": options.width % options.heads != 0,
        "key_width": key != head,
        "value_width": value != head,
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


def _turned(name: str, tensor: np.ndarray) -> np.ndarray:
    """Matrices inside blocks are transposed: input-first to output-first, or back."""
    inside = name.startswith("blocks.") and tensor.ndim == 2
    return np.ascontiguousarray(tensor.T) if inside else tensor
