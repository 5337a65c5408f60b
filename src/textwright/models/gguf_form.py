"""A GPT-2, Llama, Qwen2 or Qwen3 as a GGUF file describes it: keys, names and order of rows.

Shape and tensors are those of Hugging Face's form under other names, with two differences. GPT-2's
matrices are output-first. Rotary positions turn pairs of a head's queries and keys: in a file of
architecture llama the rows of a pair are neighbors, in the other forms half a head apart.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from textwright.backends.positions import rotary_frequencies
from textwright.families import GPTOptions
from textwright.models.gguf_header import Header
from textwright.models.places import Places
from textwright.models.published import FORMS

LLAMA = "llama"
_KEYS_OF_LLAMA = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
KEYS = {  # architecture → GGUF's key, after the architecture's name → config.json's
    "gpt2": {
        "context_length": "n_positions",
        "embedding_length": "n_embd",
        "feed_forward_length": "n_inner",
        "block_count": "n_layer",
        "attention.head_count": "n_head",
        "attention.layer_norm_epsilon": "layer_norm_epsilon",
    },
    **dict.fromkeys((LLAMA, "qwen2", "qwen3"), _KEYS_OF_LLAMA),
}
OPTIONAL = (
    *("attention.head_count_kv", "attention.key_length", "attention.value_length"),
    "rope.freq_base",
)
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
STRETCH = "rope_freqs.weight"  # what Llama 3 divides the frequencies of rotary positions by
PARTS = {  # of Hugging Face's names → of GGUF's
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
IN_A_BLOCK = re.compile(r"(?:transformer\.h|model\.layers)\.(\d+)\.(.+)")
PAIRED = re.compile(r"blk\.\d+\.attn_([qk])\.(weight|bias)")

UNLIKE: dict[str, tuple[str, tuple[Any, ...]]] = {  # key → what it describes, values without effect
    "expert_count": ("a mixture of experts", (0,)),
    "attention.sliding_window": ("a sliding window of attention", (0,)),
    "attention.causal": ("attention to later tokens", (True,)),
    "attention.max_alibi_bias": ("ALiBi positions", (0,)),
    "attention.clamp_kqv": ("clamped queries, keys and values", (0,)),
    "attention.scale": ("a scale of attention", (0,)),
    "attn_logit_softcapping": ("soft-capped attention", (0,)),
    "final_logit_softcapping": ("soft-capped logits", (0,)),
    "embedding_scale": ("scaled embeddings", (0, 1)),
    "residual_scale": ("scaled residuals", (0, 1)),
    "logit_scale": ("scaled logits", (0, 1)),
    "rope.dimension_sections": ("rotary positions in sections", ()),
    "rope.scale_linear": ("linearly scaled rotary positions", (0, 1)),
}


def config_in(header: Header) -> dict[str, Any]:
    """The config.json of the model in a file. Raises ValueError if it is none that gpt.py knows."""
    values, tensors = header.values, header.tensors
    architecture = values.get("general.architecture")
    if values.get("split.count", 1) > 1:
        raise ValueError("it is one of several parts; join them with llama-gguf-split --merge")
    unlike = " and ".join(_unlike(architecture, values))
    if architecture not in KEYS:
        also = f" (it has {unlike})" if unlike else ""
        raise ValueError(f"its architecture is {architecture}, not {', '.join(KEYS)}{also}")
    if unlike:
        raise ValueError(f"it has {unlike}, which cannot be computed here")
    config: dict[str, Any] = {"model_type": architecture}
    for key, theirs in KEYS[architecture].items():
        value = _of_all_blocks(key, values.get(f"{architecture}.{key}"))
        if value is None and key not in OPTIONAL:
            raise ValueError(f"it lacks {architecture}.{key}")
        if value is not None and config.setdefault(theirs, value) != value:
            raise ValueError(f"its {key} is {value}, not {config[theirs]} as in other models")
    if (blocks := values[f"{architecture}.block_count"]) > len(tensors):
        raise ValueError(f"it has {blocks} blocks, but {len(tensors)} tensors")
    if architecture == "gpt2":
        return config
    heads = config["num_attention_heads"]
    config = {
        "num_key_value_heads": heads,
        "head_dim": config["hidden_size"] // heads,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": OUTPUT not in tensors,
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
        **config,
    }
    turned = values.get(f"{architecture}.rope.dimension_count", config["head_dim"])
    config["partial_rotary_factor"] = turned / config["head_dim"]
    if STRETCH in tensors:
        config["rope_scaling"] = _scaling(header.read(STRETCH), config)
    return config


def places(architecture: str, options: GPTOptions) -> Places:
    """GGUF's name of each tensor → its place in ours."""
    found = FORMS[architecture].places(options)
    return {_name(theirs): replace(place, turned=False) for theirs, place in found.items()}


def with_halves(name: str, tensor: Tensor, options: GPTOptions) -> Tensor:
    """Queries or keys of architecture llama with the rows of a pair half a head apart, as ours;
    other tensors as they are."""
    heads = _heads(name, options)
    if not heads:
        return tensor
    return tensor.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(tensor.shape)


def with_neighbors(name: str, array: np.ndarray, options: GPTOptions) -> np.ndarray:
    """The opposite of `with_halves`."""
    heads = _heads(name, options)
    if not heads:
        return array
    halves = array.reshape(heads, 2, -1, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)


def _heads(name: str, options: GPTOptions) -> int:
    """Number of heads in a tensor of queries or keys; 0 for others."""
    part = PAIRED.fullmatch(name)
    if not part:
        return 0
    return options.heads if part[1] == "q" else options.shared_heads


def _name(theirs: str) -> str:
    part, _, kind = theirs.rpartition(".")
    if inside := IN_A_BLOCK.fullmatch(part):
        return f"blk.{inside[1]}.{PARTS[inside[2]]}.{kind}"
    return f"{PARTS[part]}.{kind}"


def _unlike(architecture: Any, values: dict[str, Any]) -> list[str]:
    """What a model has that gpt.py does not compute."""
    found = [
        feature
        for key, (feature, neutral) in UNLIKE.items()
        if (value := values.get(f"{architecture}.{key}")) is not None and value not in neutral
    ]
    kind = values.get(f"{architecture}.rope.scaling.type", "none")
    return found if kind == "none" else [*found, f"rotary positions of type {kind}"]


def _of_all_blocks(key: str, value: Any) -> Any:
    """A value that a file may give for each block, and the shortest float32 for a float."""
    if isinstance(value, list):
        if len(set(value)) != 1:
            raise ValueError(f"its blocks differ in {key}, which cannot be computed here")
        value = value[0]
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _scaling(stretch: np.ndarray, config: dict[str, Any]) -> dict[str, Any] | None:
    """Llama 3's scaling of rotary positions that gives these factors, as in config.json.

    A file holds the factors alone, (K/2,). Between the wavelengths that stay and those that stretch
    whole, the share that stays grows in proportion to the frequency: that line gives the settings,
    up to a common scale, which is chosen so that `low_freq_factor` is 1, as Llama 3's is.
    """
    width, most = config["head_dim"], float(stretch.max())
    if most == stretch.min() == 1:
        return None
    plain = GPTOptions(heads=1, width=width, positions="rotary", rotary_base=config["rope_theta"])
    waves = rotary_frequencies(plain)[0] / (2 * np.pi)  # in one place
    stays = (1 / stretch - 1 / most) / (1 - 1 / most)
    between = (stays > 1e-4) & (stays < 1 - 1e-4)
    if stretch.shape == waves.shape and between.any():
        high = 4.0  # Llama 3's; a line needs two points
        if between.sum() > 1:
            _, start = np.polyfit(waves[between], stays[between], 1)
            high = round(float(1 - 1 / start), 3)
        original = np.median((stays * (high - 1) + 1)[between] / waves[between])
        scaled = {"rotary_factor": most, "rotary_high": high, "rotary_original": round(original)}
        again = rotary_frequencies(plain.model_copy(update=scaled))[1]
        if np.allclose(again, stretch, rtol=1e-3):
            return {
                "rope_type": "llama3",
                "factor": most,
                "low_freq_factor": 1.0,
                "high_freq_factor": high,
                "original_max_position_embeddings": round(original),
            }
    raise ValueError(f"its {STRETCH} is not Llama 3's scaling of rotary positions")
