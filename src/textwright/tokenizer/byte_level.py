"""A byte-level BPE tokenizer as Hugging Face stores one (GPT-2's), made one of textwright's.

Its pieces and ids stay. What is not taken over are its added tokens: `<|endoftext|>` and the like
become entries that no text can spell, so a text that says `<|endoftext|>` does not end there.
"""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models, pre_tokenizers

from textwright.errors import TokenizerError
from textwright.tokenizer.tokenizer import Tokenizer
from textwright.tokenizer.treatment import Treatment, pipeline

# What the file may say of how it cuts and joins: as GPT-2 does.
_PIPELINE: dict[str, dict[str, Any]] = {
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
    "model": {"type": "BPE", "dropout": None, "byte_fallback": False, "ignore_merges": False},
}


def read_pretrained(folder: Path) -> Tokenizer:
    """The tokenizer in a folder: tokenizer.json, or vocab.json with merges.txt.

    Raises TokenizerError where there is none, or one of another kind.
    """
    try:
        if (folder / "tokenizer.json").exists():
            rust = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        elif (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
            names = [str(folder / name) for name in ("vocab.json", "merges.txt")]
            rust = tokenizers.Tokenizer(models.BPE.from_file(*names))
            rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        else:
            raise TokenizerError(
                f"{folder} holds no tokenizer: neither tokenizer.json, nor vocab.json and "
                "merges.txt; save the tokenizer beside the weights."
            )
        return Tokenizer(_as_ours(json.loads(rust.to_str())))
    except TokenizerError:
        raise
    except Exception as error:  # the Rust reader raises bare ones
        raise TokenizerError(
            f"The tokenizer in {folder} is none of GPT-2's form ({error}); name weights that come "
            "with a byte-level BPE."
        ) from error


def _as_ours(content: dict[str, Any]) -> tokenizers.Tokenizer:
    """Our pipeline with this one's vocabulary. Raises ValueError where it cuts text otherwise."""
    for part, wanted in _PIPELINE.items():
        told = content[part] or {}
        for key, value in wanted.items():
            if told.get(key, value) != value or not told:
                raise ValueError(f"its {part} has {key} {told.get(key)!r}, not {value!r}")
    if content["normalizer"] is not None:
        raise ValueError(f"it changes text first, by {content['normalizer']['type']}")
    vocabulary: dict[str, int] = content["model"]["vocab"]
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for token in content["added_tokens"]:  # they stand there in plain letters
        vocabulary.pop(token["content"], None)
        ((spelled, _),) = by_bytes.pre_tokenize_str(token["content"])
        vocabulary[spelled] = token["id"]
    merges = [tuple(pair) for pair in content["model"]["merges"]]
    rust = pipeline(Treatment("bpe", lowercase=False, punctuation="tokens"))
    rust.model = models.BPE(vocabulary, merges)
    return rust
