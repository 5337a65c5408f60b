"""Read a byte-level BPE tokenizer in Hugging Face's form (GPT-2's) as one of textwright's.

Its pieces and ids are kept. Its added tokens, such as `<|endoftext|>`, become entries that no text
can spell, so a text that contains `<|endoftext|>` does not end there.
"""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models, pre_tokenizers

from textwright.errors import TokenizerError
from textwright.tokenizer.tokenizer import Tokenizer
from textwright.tokenizer.treatment import Treatment, pipeline

# GPT-2's settings for cutting and joining; a file may leave them out, but not differ.
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
    except Exception as error:  # the Rust reader raises bare Exceptions
        raise TokenizerError(
            f"The tokenizer in {folder} is not in GPT-2's form ({error}); name weights that come "
            "with a byte-level BPE."
        ) from error


def _as_ours(content: dict[str, Any]) -> tokenizers.Tokenizer:
    """Our pipeline with the file's vocabulary. Raises ValueError where the file's differs."""
    for part, wanted in _PIPELINE.items():
        settings = content[part] or {}
        for key, value in wanted.items():
            if settings.get(key, value) != value or not settings:
                raise ValueError(f"its {part} has {key} {settings.get(key)!r}, not {value!r}")
    if content["normalizer"] is not None:
        raise ValueError(f"it changes text first, with {content['normalizer']['type']}")
    vocabulary: dict[str, int] = content["model"]["vocab"]
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for token in content["added_tokens"]:  # stored in plain letters, not as bytes
        vocabulary.pop(token["content"], None)
        ((spelled, _),) = by_bytes.pre_tokenize_str(token["content"])
        vocabulary[spelled] = token["id"]
    merges = [tuple(pair) for pair in content["model"]["merges"]]
    rust = pipeline(Treatment("bpe", lowercase=False, punctuation="tokens"))
    rust.model = models.BPE(vocabulary, merges)
    return rust
