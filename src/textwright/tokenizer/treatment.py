"""How a text is cut into the pieces of a vocabulary, and how a tokenizer.json records it.

Each treatment has one pipeline (normalizer, pre-tokenizer, model, decoder) of `tokenizers`, and
is recognized by the pipeline in a file. `split` gives the same pieces as the pipelines of the
word, char and symbols kinds, four times as fast: the Rust side carries offsets and normalized
copies of every piece, about 500 bytes each.
"""

import json
import re
import string
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, Literal, NamedTuple

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

Kind = Literal["word", "char", "bpe", "symbols"]
Punctuation = Literal["tokens", "drop"]
# `tokenizer.ggml.pre` of a GGUF file.
Cut = Literal["gpt-2", "llama-bpe", "qwen2", "qwen35", "smollm"]

UNKNOWN = "[UNK]"
# White space ends words and symbols, and a character is one letter long: no text spells this.
STOP = "[END OF TEXT]"
# GPT-2's name. Every cut splits "<|" from "endoftext", so no text can spell it.
BPE_STOP = "<|endoftext|>"

STRETCH = 1 << 16  # characters the Rust side gets at once; it takes some tens of megabytes for them

_MARKS = re.escape(string.punctuation)
# The white space of str.split; the Rust side's lacks the separators U+001C to U+001F.
_SPACE = r"\s\x1c-\x1f"
# Regular expressions of the pieces looked up; the text between them is left out.
PIECES = {
    ("word", "tokens"): f"[{_MARKS}]|[^{_SPACE}{_MARKS}]+",
    ("word", "drop"): f"[^{_SPACE}{_MARKS}]+",
    ("char", "tokens"): r"[\s\S]",
    ("symbols", "tokens"): f"[^{_SPACE}]+",
}


def _cut_by(numbers: str, marks: str = "") -> pre_tokenizers.PreTokenizer:
    """Cut by the regular expression of Llama 3, Qwen2 and Qwen3.5, which differ in the length of
    numbers and in whether marks belong to words."""
    letters = rf"[\p{{L}}{marks}]+" if marks else r"\p{L}+"
    words = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?{letters}|{numbers}"
    others = rf" ?[^\s\p{{L}}{marks}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(f"{words}|{others}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


# How kind bpe cuts a text before it merges bytes.
CUTS: dict[Cut, pre_tokenizers.PreTokenizer] = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    "llama-bpe": _cut_by(r"\p{N}{1,3}"),
    "qwen2": _cut_by(r"\p{N}"),
    "qwen35": _cut_by(r"\p{N}", r"\p{M}"),
    "smollm": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    ),
}


class Treatment(NamedTuple):
    """How a text is changed and cut before its pieces are looked up."""

    kind: Kind
    lowercase: bool
    punctuation: Punctuation
    cut: Cut = "gpt-2"  # kind bpe only


def split(text: str, treatment: Treatment) -> Iterable[str]:
    """The words, characters or symbols of a text, in order (not for kind bpe)."""
    if treatment.lowercase:
        text = lower(text)
    if treatment.kind == "char":
        return text
    if treatment.kind == "word":
        for mark in string.punctuation:
            text = text.replace(mark, f" {mark} " if treatment.punctuation == "tokens" else " ")
    return text.split()


def lower(text: str) -> str:
    """Lower-case letter by letter, as the pipeline does; str.lower looks at a sigma's neighbors."""
    return text.lower() if text.isascii() else normalizers.Lowercase().normalize_str(text)


def finder(literal: str, treatment: Treatment) -> re.Pattern[str] | None:
    """A pattern that finds a literal text in a document, as far as a model can see it.

    Words match with any white space around them, and with marks between them where the treatment
    drops those, but not inside longer words; symbols match with any white space between them;
    characters and bytes match exactly. At the end of a text, the literal's final white space may be
    missing. None where the treatment keeps nothing.
    """
    flags = re.IGNORECASE if treatment.lowercase else re.NOFLAG
    if treatment.kind == "word":
        letter = f"[^{_SPACE}{_MARKS}]"
        pieces = [
            re.escape(piece)
            if piece in string.punctuation
            else f"(?<!{letter}){re.escape(piece)}(?!{letter})"
            for piece in split(literal, treatment)
        ]
        between = r"\s*" if treatment.punctuation == "tokens" else f"[{_SPACE}{_MARKS}]*"
        return re.compile(rf"\s*{between.join(pieces)}\s*", flags) if pieces else None
    symbols = treatment.kind == "symbols"
    core = literal.rstrip() or ("" if symbols else literal)
    if not core:
        return None

    def escaped(text: str) -> str:
        return r"\s+".join(map(re.escape, re.split(r"\s+", text) if symbols else [text]))

    after = literal[len(core) :]
    return re.compile(escaped(core) + (rf"(?:{escaped(after)}|\Z)" if after else ""), flags)


# No token of these holds white space after something else.
_BEFORE_SPACE = re.compile(r"(?<=\S)(?=[ \n])")
# Line breaks after a mark belong to its token; nothing but white space follows a line break in one.
_BETWEEN_LINES = re.compile(r"(?<=\S)(?= )|(?<=[\r\n])(?=\S)")
_PLACES: dict[Cut, re.Pattern[str]] = {
    "gpt-2": _BEFORE_SPACE,
    "llama-bpe": _BETWEEN_LINES,
    "qwen2": _BETWEEN_LINES,
    "qwen35": _BETWEEN_LINES,
    "smollm": _BEFORE_SPACE,
}


def cut(text: str, treatment: Treatment) -> Iterator[str]:
    """Cut a text into stretches that give the same tokens apart as together.

    A text without a place to cut at stays whole; characters may be cut anywhere.
    """
    places = _PLACES[treatment.cut]
    begin = 0
    while len(text) - begin > STRETCH:
        end = begin + STRETCH
        if treatment.kind != "char":
            place = places.search(text, end)
            if place is None:
                break
            end = place.start()
        yield text[begin:end]
        begin = end
    if begin < len(text):
        yield text[begin:]


def pipeline(treatment: Treatment) -> tokenizers.Tokenizer:
    """A tokenizer with this treatment, and with nothing in its vocabulary yet."""
    kind, lowercase, punctuation, way = treatment
    if kind == "bpe":
        rust = tokenizers.Tokenizer(models.BPE())
        rust.pre_tokenizer = CUTS[way]
        rust.decoder = decoders.ByteLevel()
    else:
        rust = tokenizers.Tokenizer(models.WordLevel({UNKNOWN: 1}, unk_token=UNKNOWN))
        pieces = tokenizers.Regex(PIECES[kind, punctuation])
        # Inverted and removed: everything but the pieces is removed.
        rust.pre_tokenizer = pre_tokenizers.Split(pieces, "removed", invert=True)
        if kind == "char":
            rust.decoder = decoders.Fuse()
    if lowercase:
        rust.normalizer = normalizers.Lowercase()
    return rust


def recognize(rust: tokenizers.Tokenizer) -> Treatment:
    """The treatment of a tokenizer's pipeline. Raises ValueError where it is not one of ours."""
    found = _without_vocabulary(rust)
    choices: list[tuple[Kind, Punctuation, Cut]] = [
        ("word", "tokens", "gpt-2"),
        ("word", "drop", "gpt-2"),
        ("char", "tokens", "gpt-2"),
        ("symbols", "tokens", "gpt-2"),
        *(("bpe", "tokens", way) for way in CUTS),
    ]
    for (kind, punctuation, way), lowercase in product(choices, (False, True)):
        treatment = Treatment(kind, lowercase, punctuation, way)
        if found == _without_vocabulary(pipeline(treatment)):
            return treatment
    raise ValueError("its pipeline is not one that textwright writes")


def _without_vocabulary(rust: tokenizers.Tokenizer) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(rust.to_str())
    # Whether a piece that is an entry needs no merges is a matter of the vocabulary too.
    content["model"] |= {"vocab": None, "merges": None, "ignore_merges": None}
    return content
