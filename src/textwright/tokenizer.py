"""Text to ids and back: words, characters, byte-level BPE or whitespace-separated symbols.

A tokenizer is one `tokenizer.json`, which plain `tokenizers.Tokenizer.from_file` reads too; how a
text is treated (kind, letter case, punctuation) is told from that file and stands nowhere else.
The stop token is an entry of the vocabulary that no text can spell, so whatever a text contains,
it is never encoded to the stop id.
"""

import hashlib
import json
import os
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import product, repeat
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tokenizers
from pydantic import Field, model_validator
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from textwright.decoding import ByteDecoder, Decoder, PlainDecoder, WordDecoder
from textwright.errors import TokenizerError
from textwright.options import Options

Kind = Literal["word", "char", "bpe", "symbols"]
Punctuation = Literal["tokens", "drop"]

UNKNOWN = "[UNK]"
# White space splits words and symbols, and a character is one letter long: no text spells this.
STOP = "[END OF TEXT]"
# GPT-2's name. Its pre-tokenizer parts "<|" from "endoftext", so no merge can spell it.
BPE_STOP = "<|endoftext|>"

_BYTES = 256
_STRETCH = 1 << 16  # characters; keeps the Rust side's offsets (about 500 bytes a token) small
_BATCH = 1 << 20  # characters given to the Rust side at once


class TokenizerOptions(Options):
    """How text becomes tokens."""

    kind: Kind = Field(
        "bpe",
        description="word (split at white space and ASCII punctuation), char, bpe (byte-level, "
        "restores any text exactly) or symbols (split at white space only)",
    )
    # 4,096 shortens English about threefold, while a small model's embedding and output layer
    # stay small beside its recurrent or attention layers; it holds any alphabet for kind char.
    vocab_size: int = Field(
        4096, ge=3, description="most entries in the vocabulary, stop and [UNK] counted"
    )
    lowercase: bool = Field(False, description="lower-case the text first")
    punctuation: Punctuation = Field(
        "tokens", description="kind word: ASCII punctuation as tokens of its own, or dropped"
    )
    min_frequency: int = Field(
        1,
        ge=1,
        description="leave out what occurs less often (kind bpe merges nothing that occurs once)",
    )

    @model_validator(mode="after")
    def _fit_the_kind(self) -> "TokenizerOptions":
        if self.kind == "bpe" and self.vocab_size <= _BYTES:
            raise ValueError(
                f"vocab_size {self.vocab_size} cannot hold the {_BYTES} bytes and the stop token; "
                f"kind bpe needs at least {_BYTES + 1}"
            )
        if self.kind != "word" and self.punctuation == "drop":
            raise ValueError(f"punctuation = drop is for kind word, not for kind {self.kind}")
        return self


class _Treatment(NamedTuple):
    """What happens to a text before its pieces are looked up; the file's pipeline tells it."""

    kind: Kind
    lowercase: bool
    punctuation: Punctuation


class Tokenizer:
    """Maps text to ids and back. Made by `train` or `load`."""

    def __init__(self, rust: tokenizers.Tokenizer) -> None:
        """Wrap a tokenizer whose pipeline is one of ours. Raises ValueError where it is not."""
        self._rust = rust
        treatment = _recognize(rust)
        self.kind: Kind = treatment.kind
        self._lowercase = treatment.lowercase
        self._punctuation = treatment.punctuation
        self._ids: dict[str, int] = rust.get_vocab(with_added_tokens=True)
        self._tokens = sorted(self._ids, key=self._ids.__getitem__)
        _check_vocabulary(self.kind, self._tokens, self._ids)
        self.vocab_size = len(self._tokens)
        self.stop_id = 0
        self.unknown_id: int | None = None if self.kind == "bpe" else 1
        # A character never seen becomes [UNK], so only bytes restore every text.
        self.lossless = self.kind == "bpe" and not self._lowercase

    @classmethod
    def train(cls, options: TokenizerOptions, documents: Iterable[str]) -> "Tokenizer":
        """Learn a vocabulary in one pass over documents, of which only counts are kept.

        Ids fall with frequency; equals are ordered by code point, so the same documents in any
        order give the same file. Raises TokenizerError where there is nothing to learn from.
        """
        treatment = _Treatment(options.kind, options.lowercase, options.punctuation)
        rust = _pipeline(treatment)
        seen = _Seen(documents)
        if options.kind == "bpe":
            rust = _train_bpe(rust, options, seen)
        else:
            counts: Counter[str] = Counter()
            for text in seen:
                counts.update(_split(text, treatment))
            rust.model = models.WordLevel(_vocabulary(counts, options), unk_token=UNKNOWN)
        if not seen.any_text:
            raise TokenizerError(
                "There is no text to learn a vocabulary from. Give a corpus with at least one "
                "document that is not empty."
            )
        return cls(rust)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Read a tokenizer.json. Raises TokenizerError where it is missing, damaged or foreign."""
        path = Path(path)
        again = "Restore it from a copy, or train the run again."
        try:
            written = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise TokenizerError(f"No tokenizer at {path}. {again}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise TokenizerError(f"Cannot read the tokenizer {path} ({error}). {again}") from error
        try:
            # The Rust reader raises bare Exceptions.
            return cls(tokenizers.Tokenizer.from_str(written))
        except Exception as error:
            raise TokenizerError(
                f"{path} is damaged, or no tokenizer of textwright ({error}). {again}"
            ) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the one file that `load` needs: beside it first, then renamed."""
        path = Path(path)
        beside = path.with_name(path.name + ".tmp")
        beside.write_text(self._rust.to_str(pretty=True), encoding="utf-8")
        beside.replace(path)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all that the file says; equal tokenizers have equal ones."""
        content = json.dumps(json.loads(self._rust.to_str()), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def encode(self, text: str) -> np.ndarray:
        """Ids (T,) int64 of one text, without stop ids."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids (T,) int64 of each text; a text may be a stretch of a huge document."""
        try:
            if self.kind == "bpe":
                return self._encode_bytes(texts)
            if self.kind == "char":
                return [self._encode_characters(text) for text in texts]
            return [self._encode_words(text) for text in texts]
        except UnicodeEncodeError as error:
            raise _lone_surrogate(error) from error

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The raw tokens, as tokenizer.json spells them."""
        return [self._tokens[i] for i in ids]

    def id_of(self, token: str) -> int | None:
        """The id of a raw token, or None."""
        return self._ids.get(token)

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text; exactly what was encoded where the tokenizer is lossless.

        Stop ids give no text.
        """
        decoder = self.decoder()
        return "".join([decoder.push(i) for i in ids]) + decoder.flush()

    def decoder(self, prompt_ids: Iterable[int] = ()) -> "IdDecoder":
        """A decoder for the ids that follow prompt_ids, whose text it does not repeat."""
        decoder = IdDecoder(self._tokens, self.stop_id, _DECODERS[self.kind]())
        for i in prompt_ids:
            decoder.push(i)
        return decoder

    def unknown(self, text: str) -> list[str]:
        """The words (kind char: characters) of text that map to [UNK], each once, in order."""
        if self.unknown_id is None:
            return []
        found = (text[start:end] for i, start, end in self.spans(text) if i == self.unknown_id)
        return list(dict.fromkeys(found))

    def spans(self, text: str) -> list[tuple[int, int, int]]:
        """(id, start, end) of each token: the characters of text that it stands for.

        Tokens that share one character (bytes of it, or a letter that lower-cases to two) share
        its span.
        """
        spans: list[tuple[int, int, int]] = []
        begin = 0
        try:
            for stretch in self._stretches(text):
                encoding = self._rust.encode(stretch, add_special_tokens=False)
                spans += [
                    (i, begin + start, begin + end)
                    for i, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
                ]
                begin += len(stretch)
        except UnicodeEncodeError as error:
            raise _lone_surrogate(error) from error
        return spans

    def _encode_words(self, text: str) -> np.ndarray:
        # The Rust side takes four times as long here, most of it for offsets nobody asked for.
        words = _split(text, _Treatment(self.kind, self._lowercase, self._punctuation))
        ids = map(self._ids.get, words, repeat(self.unknown_id))
        return np.fromiter(ids, dtype=np.int64)

    def _encode_characters(self, text: str) -> np.ndarray:
        # As above, and the Rust side would need 500 bytes a character.
        if self._lowercase:
            text = _lower(text)
        return self._id_of_code_point[np.frombuffer(text.encode("utf-32-le"), dtype="<u4")]

    @cached_property
    def _id_of_code_point(self) -> np.ndarray:
        table = np.full(0x110000, self.unknown_id, dtype=np.int64)
        for i, character in enumerate(self._tokens[2:], start=2):
            table[ord(character)] = i
        return table

    def _encode_bytes(self, texts: Sequence[str]) -> list[np.ndarray]:
        parts: list[list[np.ndarray]] = [[] for _ in texts]
        batch: list[str] = []
        places: list[int] = []
        waiting = 0

        def encode_waiting() -> None:
            nonlocal waiting
            # An Encoding weighs far more than its ids, so none outlives its batch.
            encodings = self._rust.encode_batch_fast(batch, add_special_tokens=False)
            for place, encoding in zip(places, encodings, strict=True):
                parts[place].append(np.array(encoding.ids, dtype=np.int64))
            batch.clear()
            places.clear()
            waiting = 0

        for place, text in enumerate(texts):
            for stretch in self._stretches(text):
                batch.append(stretch)
                places.append(place)
                waiting += len(stretch)
                if waiting >= _BATCH:
                    encode_waiting()
        encode_waiting()
        nothing = np.zeros(0, dtype=np.int64)
        return [np.concatenate(part) if part else nothing for part in parts]

    def _stretches(self, text: str) -> Iterator[str]:
        return _cut(text, anywhere=self.kind == "char")


class IdDecoder:
    """Text of ids pushed one by one; the pieces and the flush together are `decode` of all ids."""

    def __init__(self, tokens: Sequence[str], stop_id: int, decoder: Decoder) -> None:
        self._tokens = tokens
        self._stop_id = stop_id
        self._decoder = decoder

    def push(self, id: int) -> str:
        """The text that this id makes final; empty for the stop id and for half a character."""
        return "" if id == self._stop_id else self._decoder.push(self._tokens[id])

    def flush(self) -> str:
        """What was held back, when no id follows."""
        return self._decoder.flush()


_DECODERS = {
    "word": WordDecoder,
    "char": lambda: PlainDecoder(""),
    "bpe": ByteDecoder,
    "symbols": lambda: PlainDecoder(" "),
}

_PUNCTUATION = re.escape(string.punctuation)
# str.split's white space; the Rust side's has no information separators (U+001C to U+001F).
_SPACE = r"\s\x1c-\x1f"
_PIECE = {
    ("word", "tokens"): f"[{_PUNCTUATION}]|[^{_SPACE}{_PUNCTUATION}]+",
    ("word", "drop"): f"[^{_SPACE}{_PUNCTUATION}]+",
    ("symbols", "tokens"): f"[^{_SPACE}]+",
    ("char", "tokens"): r"[\s\S]",
}


def _split(text: str, treatment: _Treatment) -> Iterable[str]:
    """The pieces of a text that are looked up: the same as `_PIECE`'s, only faster."""
    if treatment.lowercase:
        text = _lower(text)
    if treatment.kind == "char":
        return text
    if treatment.kind == "word":
        for mark in string.punctuation:
            text = text.replace(mark, f" {mark} " if treatment.punctuation == "tokens" else " ")
    return text.split()


def _lower(text: str) -> str:
    # Letter by letter, as the saved pipeline does; str.lower looks at a sigma's neighbors.
    return text.lower() if text.isascii() else normalizers.Lowercase().normalize_str(text)


def _pipeline(treatment: _Treatment) -> tokenizers.Tokenizer:
    """A tokenizer that treats text so, its vocabulary still empty."""
    kind, lowercase, punctuation = treatment
    if kind == "bpe":
        rust = tokenizers.Tokenizer(models.BPE())
        rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        rust.decoder = decoders.ByteLevel()
    else:
        rust = tokenizers.Tokenizer(models.WordLevel({UNKNOWN: 1}, unk_token=UNKNOWN))
        piece = tokenizers.Regex(_PIECE[kind, punctuation])
        # "Removed" and inverted: what is not a piece goes.
        rust.pre_tokenizer = pre_tokenizers.Split(piece, "removed", invert=True)
        if kind == "char":
            rust.decoder = decoders.Fuse()
    if lowercase:
        rust.normalizer = normalizers.Lowercase()
    return rust


def _recognize(rust: tokenizers.Tokenizer) -> _Treatment:
    """How this tokenizer treats text. Raises ValueError where no options of ours lead to it."""
    found = _without_vocabulary(rust)
    kinds: list[tuple[Kind, Punctuation]] = [
        ("word", "tokens"),
        ("word", "drop"),
        ("char", "tokens"),
        ("bpe", "tokens"),
        ("symbols", "tokens"),
    ]
    for (kind, punctuation), lowercase in product(kinds, (False, True)):
        treatment = _Treatment(kind, lowercase, punctuation)
        if found == _without_vocabulary(_pipeline(treatment)):
            return treatment
    raise ValueError("its pipeline is none that textwright writes")


def _without_vocabulary(rust: tokenizers.Tokenizer) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(rust.to_str())
    model = {"vocab": None, "merges": None}
    return content | {"model": content["model"] | model}


def _check_vocabulary(kind: Kind, tokens: list[str], ids: dict[str, int]) -> None:
    first = [BPE_STOP] if kind == "bpe" else [STOP, UNKNOWN]
    if tokens[: len(first)] != first or [ids[token] for token in tokens] != list(range(len(ids))):
        raise ValueError(f"its ids do not run from 0 on, beginning with {' and '.join(first)}")
    if kind == "char" and any(len(token) != 1 for token in tokens[2:]):
        raise ValueError("one of its characters is not one character")


def _vocabulary(counts: Counter[str], options: TokenizerOptions) -> dict[str, int]:
    # A text may contain the symbol "[UNK]": it then is what it says.
    counts.pop(UNKNOWN, None)
    frequent = (word for word, count in counts.items() if count >= options.min_frequency)
    ranked = sorted(frequent, key=lambda word: (-counts[word], word))
    return {token: i for i, token in enumerate([STOP, UNKNOWN, *ranked][: options.vocab_size])}


def _train_bpe(
    rust: tokenizers.Tokenizer, options: TokenizerOptions, documents: Iterable[str]
) -> tokenizers.Tokenizer:
    trainer = trainers.BpeTrainer(
        vocab_size=options.vocab_size,
        min_frequency=max(2, options.min_frequency),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[BPE_STOP],
        show_progress=False,
    )
    # The Rust side reads 256 texts ahead: stretches bound what that can weigh.
    stretches = (stretch for text in documents for stretch in _cut(text))
    rust.train_from_iterator(stretches, trainer)
    # The trainer made the stop an added token, which any text that spells it would become.
    content = json.loads(rust.to_str())
    content["added_tokens"] = []
    return tokenizers.Tokenizer.from_str(json.dumps(content))


class _Seen:
    """Passes documents on and remembers whether one held any text."""

    def __init__(self, documents: Iterable[str]) -> None:
        self._documents = documents
        self.any_text = False

    def __iter__(self) -> Iterator[str]:
        for text in self._documents:
            self.any_text = self.any_text or not text.isspace() and text != ""
            yield text


_CUT = re.compile(r"(?<=\S)(?=[ \n])")


def _cut(text: str, anywhere: bool = False) -> Iterator[str]:
    """Stretches of a long text that are tokenized apart as they are together.

    No token of any kind holds white space after something else, so a cut there changes nothing.
    """
    begin = 0
    while len(text) - begin > _STRETCH:
        end = begin + _STRETCH
        if not anywhere:
            place = _CUT.search(text, end)
            if place is None:
                break
            end = place.start()
        yield text[begin:end]
        begin = end
    if begin < len(text):
        yield text[begin:]


def _lone_surrogate(error: UnicodeEncodeError) -> TokenizerError:
    return TokenizerError(
        f"The text holds half a character ({error.object[error.start]!a} at {error.start}), which "
        "no UTF-8 text can. Remove it, or read the text with its right encoding."
    )
