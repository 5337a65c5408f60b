"""Llama, Qwen2 and Qwen3 as Hugging Face stores them: their names and config.json, converted to
ours and back.

The three have one block. Qwen2 adds biases to queries, keys and values, Qwen3 norms on queries and
keys. Their matrices for queries, keys and values are the rows of one matrix here, in this order,
and so are the two matrices into feed-forward: the gate, then what it multiplies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from textwright.errors import ConfigError
from textwright.families import GPTOptions
from textwright.models.places import Place

TYPES = ("llama", "qwen2", "qwen3")
PREFIX = "model."  # before each name if the whole language model was saved, not only its body
OUTPUT = "lm_head.weight"
# Also in some files: the frequencies of rotary positions, and the embedding as the output matrix.
NO_PARAMETER = re.compile(
    r"(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq|lm_head\.weight"
)

# What transformers takes for a key that config.json leaves out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"num_key_value_heads": 32},
    "qwen3": {"num_key_value_heads": 32, "head_dim": 128},
}
# Keys of config.json of which gpt.py can compute only one value.
FIXED: dict[str, Any] = {"hidden_act": "silu", "use_sliding_window": False}
LAYER = "full_attention"
STRETCHING = {  # ours → Llama 3's, in the table of rotary positions
    "rotary_factor": "factor",
    "rotary_low": "low_freq_factor",
    "rotary_high": "high_freq_factor",
    "rotary_original": "original_max_position_embeddings",
}


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `[model]` options of the model that a config.json describes.

    Raises ValueError if gpt.py cannot compute it.
    """
    kind = config["model_type"]
    config = {**DEFAULTS[kind], **config}
    for key, value in FIXED.items():
        if config.get(key, value) != value:
            raise ValueError(f"its {key} is {config[key]!r}; only {value!r} can be computed here")
    if others := sorted(set(config.get("layer_types") or ()) - {LAYER}):
        raise ValueError(f"its layer_types have {others[0]!r}; only {LAYER!r} can be computed here")
    tied = bool(config.get("tie_word_embeddings"))
    try:
        width, heads = config["hidden_size"], config["num_attention_heads"]
        shared = config.get("num_key_value_heads") or heads
        head = config.get("head_dim") or width // heads
        uneven = 0 if head * heads == width else head
        return GPTOptions().fixed_by_weights(config["max_position_embeddings"]) | {
            "layers": config["num_hidden_layers"],
            "heads": heads,
            "width": width,
            "key_value_heads": 0 if shared == heads else shared,
            "key_width": uneven,
            "value_width": uneven,
            "feedforward_width": config["intermediate_size"],
            "activation": "swiglu",
            "normalization": "rms",
            "norm_epsilon": config.get("rms_norm_eps", 1e-6),
            "query_key_norm": kind == "qwen3",
            "biases": _biases(kind, config, tied),
            "positions": "rotary",
            **_rotary(config),
            "tie_output": tied,
            "dropout": 0.0,  # they were trained without, and lose more by any than it could gain
        }
    except KeyError as error:
        raise ValueError(f"it lacks {error.args[0]}") from None


def config_of(options: GPTOptions, vocab_size: int, stop_id: int) -> dict[str, Any]:
    """config.json of a model in the form of Llama, Qwen2 or Qwen3; `options.context_length` must be
    set.

    Raises ConfigError that names an option if none of the three has this form.
    """
    head, value = options.head_widths
    kind = "qwen3" if options.query_key_norm else "llama"
    if options.biases == "queries_keys_values":
        kind = "qwen2"
    other = {
        "norm": options.norm != "pre",
        "normalization": options.normalization != "rms",
        "positions": options.positions != "rotary",
        "activation": options.activation != "swiglu",
        "embedding_scale": options.token_scale != 1,
        "heads": kind == "llama" and options.width % options.heads != 0,
        "value_width": value != head,
        "query_key_norm": options.query_key_norm and kind != "qwen3",
        "biases": options.biases == "all" and (kind != "llama" or options.output_bias),
    }
    for name, differs in other.items():
        if differs:
            raise ConfigError(
                f"model.{name} is {getattr(options, name)!r}, which no Llama, Qwen2 or Qwen3 has."
            )
    stretched = {"rope_type": "llama3"} | {
        theirs: getattr(options, ours) for ours, theirs in STRETCHING.items()
    }
    config = {
        "architectures": [f"{kind.title()}ForCausalLM"],
        "model_type": kind,
        "vocab_size": vocab_size,
        "max_position_embeddings": options.context_length,
        "hidden_size": options.width,
        "intermediate_size": options.inner_width,
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads,
        "num_key_value_heads": options.shared_heads,
        "head_dim": head,
        "hidden_act": "silu",
        "rms_norm_eps": options.norm_epsilon,
        # The older keys, which newer readers take too.
        "rope_theta": options.rotary_base,
        "rope_scaling": stretched if options.rotary_factor > 1 else None,
        "attention_dropout": 0.0,
        "tie_word_embeddings": options.tie_output,
        "bos_token_id": stop_id,
        "eos_token_id": stop_id,
    }
    if kind != "qwen2":
        config["attention_bias"] = options.biases == "all"
    if kind == "llama":
        config["mlp_bias"] = options.biases == "all"
    else:
        config["use_sliding_window"] = False
    return config


def places(options: GPTOptions) -> dict[str, Place]:
    """Their name of each tensor → its place in ours."""
    (key, value), shared = options.head_widths, options.shared_heads
    queries, keys, inner = options.heads * key, shared * key, options.inner_width
    weight, bias = ["weight"], ["weight", "bias"]
    attention = weight if options.biases == "none" else bias
    others = bias if options.biases == "all" else weight
    found = {
        f"{PREFIX}embed_tokens.weight": Place("embedding"),
        f"{PREFIX}norm.weight": Place("norm.weight"),
    }
    if not options.tie_output:
        found[OUTPUT] = Place("output.weight")
    for layer in range(options.layers):
        parts = [  # theirs, ours, first row, rows, kinds
            ("input_layernorm", "attention_norm", 0, 0, weight),
            ("self_attn.q_proj", "attention.input", 0, queries, attention),
            ("self_attn.k_proj", "attention.input", queries, keys, attention),
            ("self_attn.v_proj", "attention.input", queries + keys, shared * value, attention),
            ("self_attn.o_proj", "attention.output", 0, 0, others),
            ("post_attention_layernorm", "feedforward_norm", 0, 0, weight),
            ("mlp.gate_proj", "feedforward.input", 0, inner, others),
            ("mlp.up_proj", "feedforward.input", inner, inner, others),
            ("mlp.down_proj", "feedforward.output", 0, 0, others),
        ]
        if options.query_key_norm:
            parts += [
                ("self_attn.q_norm", "attention.query_norm", 0, 0, weight),
                ("self_attn.k_norm", "attention.key_norm", 0, 0, weight),
            ]
        for theirs, ours, start, rows, kinds in parts:
            for kind in kinds:
                place = Place(f"blocks.{layer}.{ours}.{kind}", start, rows)
                found[f"{PREFIX}layers.{layer}.{theirs}.{kind}"] = place
    return found


def _biases(kind: str, config: Mapping[str, Any], tied: bool) -> str:
    """Our option for the biases that a config asks for."""
    if kind == "qwen2":
        return "queries_keys_values"
    attention, inner = bool(config.get("attention_bias")), bool(config.get("mlp_bias"))
    if not (attention or inner):
        return "none"
    if kind == "llama" and attention and inner and tied:
        return "all"
    name = "attention_bias" if attention else "mlp_bias"
    raise ValueError(
        f"its {name} is True; only biases in all linear layers, in those of queries, keys and "
        "values alone, or in none can be computed here"
    )


def _rotary(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our options for rotary positions: newer files have a table, older ones two keys."""
    table = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(table, Mapping):
        raise ValueError(f"its rope_scaling is {table!r}, not a table")
    options = {"rotary_base": table.get("rope_theta", config.get("rope_theta", 10_000.0))}
    part = table.get("partial_rotary_factor", config.get("partial_rotary_factor")) or 1
    if part != 1:
        raise ValueError(f"its partial_rotary_factor is {part!r}; only 1 can be computed here")
    kind = table.get("rope_type", table.get("type", "default"))
    if kind == "llama3":
        return options | {ours: table[theirs] for ours, theirs in STRETCHING.items()}
    if kind != "default":
        raise ValueError(
            f"its rope_type is {kind!r}; only 'default' and 'llama3' can be computed here"
        )
    return options
