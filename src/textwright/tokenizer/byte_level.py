"""Byte-level BPE tokenizers that come with trained weights, as textwright's own.

Text is cut as GPT-2, Llama 3, Qwen2 (or Qwen3) or SmolLM cuts it. Pieces and ids are kept. Added
tokens, such as `<|im_start|>`, become entries that no text can spell, so a text that contains
`<|endoftext|>` does not end there. The token that ends a document is called `<|endoftext|>` in
our file, whatever its name was.

Qwen's tokenizer first brings text into Unicode's form NFC. That is left out here, so that every
text is restored and scored as it is. Text in NFC, which nearly all text is, has the same ids; any
other text has those of its own characters.

Each tokenizer is compared with its original on texts of all scripts before it is used.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from textwright.errors import TokenizerError
from textwright.tokenizer.scripts import texts_of_all_scripts
from textwright.tokenizer.tokenizer import Tokenizer
from textwright.tokenizer.treatment import BPE_STOP, CUTS, Cut, Treatment, pipeline

# What ends a document in training; in a model for chats, the eos token ends only an answer.
STOPS = (BPE_STOP, "<|end_of_text|>")
# Settings that a file may leave out, but not change.
_MODEL: dict[str, tuple[Any, ...]] = {
    "type": ("BPE",),
    "dropout": (None, 0.0),
    "byte_fallback": (False,),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
}
_LETTERS = frozenset(pre_tokenizers.ByteLevel.alphabet())
_BY_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def read_pretrained(folder: Path) -> Tokenizer:
    """The tokenizer in a folder: tokenizer.json, or GPT-2's vocab.json with merges.txt.

    Raises TokenizerError where there is none, or none that can be rebuilt exactly.
    """
    with _exact(f"in {folder}"):
        original = _original(folder)
        content = json.loads(original.to_str())
        cut = _cut_of(content)
        vocabulary: dict[str, int] = content["model"]["vocab"]
        for token in content["added_tokens"]:  # stored in plain letters, not as bytes
            vocabulary.pop(token["content"], None)
            if vocabulary.setdefault(_spelled(token["content"]), token["id"]) != token["id"]:
                raise ValueError(f"its added token {token['content']!r} has two ids")
        tokenizer = _assemble(
            vocabulary,
            content["model"]["merges"],
            cut,
            _stop_of(original, folder),
            ignore_merges=content["model"].get("ignore_merges", False),
        )
        for token in content["added_tokens"]:
            if token["id"] in tokenizer.encode(token["content"]):
                raise ValueError(f"a text can spell its added token {token['content']!r}")
        _check(tokenizer, original)
    return tokenizer


def rebuild(vocabulary: Sequence[str], merges: Sequence[str], cut: str, stop: str) -> Tokenizer:
    """The tokenizer with these tokens, in the order of their ids, and merges such as "Ġ t".

    Tokens are spelled in byte-level letters. cut: one of `treatment.CUTS` · stop: the token that
    ends a text, if the vocabulary has none of STOPS. Raises TokenizerError if a token is missing
    or there twice, and if texts of all scripts are not restored.
    """
    with _exact("that comes with the weights"):
        if cut not in CUTS:
            raise ValueError(f"it cuts text as {cut!r} does, which is none of {', '.join(CUTS)}")
        if "" in vocabulary:
            raise ValueError(f"it has no token with the id {vocabulary.index('')}")
        tokens = list(map(_entry, vocabulary))
        for token, count in Counter(tokens).most_common(1):
            if count > 1:
                raise ValueError(f"its token {token!r} has {count} ids")
        for merge in merges:
            if merge.count(" ") != 1:
                raise ValueError(f"its merge {merge!r} does not have two parts")
        ids = {token: at for at, token in enumerate(tokens)}
        stop = next((name for name in STOPS if name in ids), _entry(stop))
        pairs = [merge.split(" ") for merge in merges]
        # As llama.cpp does.
        tokenizer = _assemble(ids, pairs, cut, stop, ignore_merges=cut == "llama-bpe")
        _check(tokenizer)
    return tokenizer


@contextmanager
def _exact(where: str) -> Iterator[None]:
    try:
        yield
    except TokenizerError:
        raise
    except Exception as error:  # the Rust side raises bare Exceptions
        reason = " ".join(str(error).split()).rstrip(".")
        raise TokenizerError(
            f"The tokenizer {where} cannot be rebuilt exactly ({reason}); name weights with a "
            "byte-level BPE that cuts text as GPT-2, Llama 3, Qwen2, Qwen3.5 or SmolLM does."
        ) from error


def _original(folder: Path) -> tokenizers.Tokenizer:
    if (folder / "tokenizer.json").exists():
        rust = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        rust.no_truncation()
        rust.no_padding()
        return rust
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        if (kind := _settings(folder, "config.json").get("model_type", "gpt2")) != "gpt2":
            raise ValueError(
                f"vocab.json and merges.txt do not say how a {kind} cuts text, and tokenizer.json "
                "is missing"
            )
        names = [str(folder / name) for name in ("vocab.json", "merges.txt")]
        rust = tokenizers.Tokenizer(models.BPE.from_file(*names))
        rust.pre_tokenizer = CUTS["gpt-2"]
        return rust
    if (folder / "tokenizer.model").exists():
        raise ValueError("it is of SentencePiece's kind, in tokenizer.model")
    raise TokenizerError(
        f"{folder} holds no tokenizer: neither tokenizer.json, nor vocab.json and merges.txt; save "
        "the tokenizer beside the weights."
    )


def _settings(folder: Path, name: str) -> dict[str, Any]:
    file = folder / name
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


def _cut_of(content: dict[str, Any]) -> Cut:
    """How the file cuts text. Raises ValueError where it does not work as one of ours can."""
    _refuse_sentencepiece(content)
    for key, wanted in _MODEL.items():
        if (value := content["model"].get(key, wanted[0])) not in wanted:
            raise ValueError(f"its model has {key} {value!r}, not {wanted[0]!r}")
    normalizer = content["normalizer"]
    if normalizer is not None and normalizer["type"] != "NFC":
        raise ValueError(f"it changes text first, with {normalizer['type']}")
    steps = _steps(content["pre_tokenizer"])
    for cut in CUTS:
        ours = json.loads(pipeline(Treatment("bpe", False, "tokens", cut)).to_str())
        if steps == _steps(ours["pre_tokenizer"]):
            return cut
    described = ", ".join(
        f"{step.pop('type')!r}"
        + (f" ({', '.join(f'{key} {value}' for key, value in step.items())})" if step else "")
        for step in steps
    )
    raise ValueError(f"its pre_tokenizer has type {described or None}")


def _steps(pre_tokenizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a pre-tokenizer, without what changes no id."""
    if pre_tokenizer is None:
        return []
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return [{key: step[key] for key in step if key != "trim_offsets"} for step in steps]


def _refuse_sentencepiece(content: dict[str, Any]) -> None:
    model = content["model"]
    if model["type"] == "Unigram":
        signs = "Unigram"
    elif model.get("byte_fallback"):
        signs = "byte_fallback"
    elif any(step["type"] == "Metaspace" for step in _steps(content["pre_tokenizer"])):
        signs = "Metaspace"
    elif "▁" in json.dumps(content["normalizer"], ensure_ascii=False):
        signs = "▁ for spaces"
    else:
        return
    raise ValueError(f"it is of SentencePiece's kind ({signs}), as Llama 2's and Gemma's are")


def _stop_of(original: tokenizers.Tokenizer, folder: Path) -> str:
    """The entry that ends a document. Raises ValueError where there is none."""
    for name in _ends(original, folder):
        if name is not None and original.token_to_id(name) is not None:
            return _spelled(name)
    raise ValueError(f"it has neither {' nor '.join(STOPS)}, and no file names its eos token")


def _ends(original: tokenizers.Tokenizer, folder: Path) -> Iterator[str | None]:
    """The names of what may end a document, the likeliest first; None where a file has none."""
    yield from STOPS
    for file in ("generation_config.json", "config.json"):
        ends = _settings(folder, file).get("eos_token_id")
        for end in ends if isinstance(ends, list) else [ends]:
            yield None if end is None else original.id_to_token(end)
    end = _settings(folder, "tokenizer_config.json").get("eos_token")
    yield end["content"] if isinstance(end, dict) else end


def _assemble(
    vocabulary: dict[str, int],
    merges: Iterable[Sequence[str]],
    cut: Cut,
    stop: str,
    *,
    ignore_merges: bool,
) -> Tokenizer:
    if stop not in vocabulary:
        raise ValueError(f"its vocabulary lacks {stop}")
    vocabulary[BPE_STOP] = vocabulary.pop(stop)
    rust = pipeline(Treatment("bpe", lowercase=False, punctuation="tokens", cut=cut))
    pairs = [(left, right) for left, right in merges]
    rust.model = models.BPE(vocabulary, pairs, ignore_merges=ignore_merges)
    return Tokenizer(rust)


def _check(tokenizer: Tokenizer, original: tokenizers.Tokenizer | None = None) -> None:
    """Raises ValueError where a text is not restored, or has other ids than the original gives."""
    texts: Iterable[str] = texts_of_all_scripts()
    if tokenizer.unspelled:
        texts = (tokenizer.unspelled.sub("", text) for text in texts)
    if original is not None and original.normalizer is not None:
        texts = map(normalizers.NFC().normalize_str, texts)
    texts = list(texts)
    ids = [row.tolist() for row in tokenizer.encode_batch(texts)]
    for text, row in zip(texts, ids, strict=True):
        if tokenizer.decode(row) != text:
            raise ValueError(f"the text {text!r} is not restored")
    if original is None:
        return
    encodings = original.encode_batch_fast(texts, add_special_tokens=False)
    for text, row, encoding in zip(texts, ids, encodings, strict=True):
        if row != encoding.ids:
            raise ValueError(f"the text {text!r} would have other ids")


def _entry(token: str) -> str:
    """A token as a list holds it: special ones in plain letters, which may be none of ours."""
    return token if _LETTERS.issuperset(token) else _spelled(token)


def _spelled(token: str) -> str:
    """A token in byte-level letters."""
    return "".join(part for part, _ in _BY_BYTES.pre_tokenize_str(token))
