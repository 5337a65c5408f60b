"""Text to ids and back: words, characters, byte-level BPE or whitespace-separated symbols.

A tokenizer is one `tokenizer.json`, which plain `tokenizers.Tokenizer.from_file` reads too; how a
text is treated (kind, letter case, punctuation) is read from that file and stored nowhere else.
The stop token is an entry of the vocabulary that no text can spell, so no text is ever encoded to
the stop id.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, repeat
from pathlib import Path
from typing import Literal

import numpy as np
import tokenizers
from pydantic import Field, model_validator
from tokenizers import models, pre_tokenizers, trainers

from textwright.errors import TokenizerError
from textwright.files import hash_json, write_text
from textwright.options import Options
from textwright.tokenizer.decoding import (
    ByteJoiner,
    Decoder,
    Joiner,
    PlainJoiner,
    WordJoiner,
    bytes_of,
    find_unspelled,
    spell_bytes,
)
from textwright.tokenizer.treatment import (
    BPE_STOP,
    STOP,
    UNKNOWN,
    Kind,
    Punctuation,
    Treatment,
    cut,
    lower,
    pipeline,
    recognize,
    split,
)

_BYTES = 256
LONGEST_WORD = 1_000  # characters; BPE learns a longer word in pieces
_BATCH = 1 << 20  # characters the Rust side gets at once, in stretches, on all processors

_JOINERS: dict[Kind, Callable[[], Joiner]] = {
    "word": WordJoiner,
    "char": lambda: PlainJoiner(""),
    "bpe": ByteJoiner,
    "symbols": lambda: PlainJoiner(" "),
}


class TokenizerOptions(Options):
    """How text becomes tokens."""

    kind: Kind | Literal["pretrained"] = Field(
        "bpe",
        description="word (split at white space and ASCII punctuation), char, bpe (byte-level, "
        "restores any text exactly), symbols (split at white space only) or pretrained (the "
        "byte-level one that comes with the weights of train --from)",
    )
    # 4,096 shortens English about threefold, while a small model's embedding and output layer
    # stay small beside its recurrent or attention layers; it holds any alphabet for kind char.
    vocab_size: int = Field(
        4096, ge=3, description="largest size of the vocabulary, stop and [UNK] included"
    )
    lowercase: bool = Field(False, description="lower-case the text first")
    punctuation: Punctuation = Field(
        "tokens", description="kind word: keep ASCII punctuation as tokens, or drop it"
    )
    cut: Literal["gpt-2", "qwen35"] = Field(
        "gpt-2",
        description="kind bpe: cut words as GPT-2 does, or as Qwen3.5 does, which keeps vowel "
        "signs and other marks within them, as Hindi, Thai and vocalized Arabic need",
    )
    min_frequency: int = Field(
        1,
        ge=1,
        description="leave out rarer pieces (kind bpe merges nothing that occurs once)",
    )

    @model_validator(mode="after")
    def _fit_the_kind(self) -> "TokenizerOptions":
        if self.kind == "bpe" and self.vocab_size <= _BYTES:
            raise ValueError(
                f"vocab_size {self.vocab_size} cannot hold the {_BYTES} bytes and the stop token; "
                f"kind bpe needs at least {_BYTES + 1}"
            )
        if self.kind == "pretrained" and self.lowercase:
            raise ValueError(
                "a pretrained tokenizer keeps letter case; lower-case the text with "
                "corpus.lowercase"
            )
        if self.kind != "word" and self.punctuation == "drop":
            raise ValueError(f"punctuation = drop is for kind word, not for kind {self.kind}")
        if self.kind != "bpe" and self.cut != "gpt-2":
            raise ValueError(f"cut = {self.cut} is for kind bpe, not for kind {self.kind}")
        return self

    def treatment(self) -> Treatment:
        """How text is treated. Raises TokenizerError for kind pretrained, which needs weights."""
        if self.kind == "pretrained":
            raise TokenizerError(
                "A pretrained tokenizer comes with weights; name them with --from: a folder, a "
                "GGUF file, or a hub name such as openai-community/gpt2."
            )
        return Treatment(self.kind, self.lowercase, self.punctuation, self.cut)


class Tokenizer:
    """Maps text to ids and back. Made by `train` or `load`."""

    def __init__(self, rust: tokenizers.Tokenizer) -> None:
        """Wrap a tokenizer whose pipeline is one of ours. Raises ValueError where it is not."""
        self._rust = rust
        self.treatment = recognize(rust)
        self.kind: Kind = self.treatment.kind
        self._ids: dict[str, int] = rust.get_vocab(with_added_tokens=True)
        self._tokens = sorted(self._ids, key=self._ids.__getitem__)
        _check_vocabulary(self.kind, self._tokens, self._ids)
        self.vocab_size = len(self._tokens)
        self.stop_id = self._ids[BPE_STOP] if self.kind == "bpe" else 0
        self.unknown_id: int | None = None if self.kind == "bpe" else 1
        # A character never seen becomes [UNK], so only bytes restore every text.
        self.lossless = self.kind == "bpe" and not self.treatment.lowercase
        # Characters that no entry can spell; texts that hold one are refused.
        self.unspelled = find_unspelled(self._ids) if self.kind == "bpe" else None

    @classmethod
    def train(cls, options: TokenizerOptions, documents: Iterable[str]) -> "Tokenizer":
        """Learn a vocabulary in one pass over documents, of which only counts are kept.

        Ids fall with frequency; equals are ordered by code point, so the same documents in any
        order give the same file. Raises TokenizerError where there is nothing to learn from.
        """
        treatment = options.treatment()
        texts = iter(documents)
        first = next((text for text in texts if text.strip()), None)
        if first is None:
            raise TokenizerError(
                "There is no text to learn a vocabulary from. Give a corpus with at least one "
                "document that is not empty."
            )
        learn = _learn_bytes if treatment.kind == "bpe" else _learn_pieces
        return cls(learn(options, treatment, map(_whole, chain([first], texts))))

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
                f"{path} is damaged, or not a tokenizer of textwright ({error}). {again}"
            ) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the one file that `load` needs: beside it first, then renamed."""
        write_text(Path(path), self._rust.to_str(pretty=True))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the file's content; equal tokenizers have equal fingerprints."""
        return hash_json(json.loads(self._rust.to_str()))

    @cached_property
    def merges(self) -> list[tuple[str, str]]:
        """The two tokens of each merge, in their order; none for a kind that merges nothing."""
        model = json.loads(self._rust.to_str())["model"]
        return [(left, right) for left, right in model.get("merges", [])]

    @cached_property
    def halves(self) -> np.ndarray:
        """The ids of the two tokens that each token was merged from, (V, 2); −1 for one that was
        not."""
        halves = np.full((self.vocab_size, 2), -1)
        for left, right in self.merges:
            halves[self._ids[left + right]] = self._ids[left], self._ids[right]
        return halves

    def encode(self, text: str) -> np.ndarray:
        """Ids (T,) int64 of one text, without stop ids."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids (T,) int64 of each text; a text may be a stretch of a huge document.

        Raises TokenizerError for half a surrogate pair, and for a character that the vocabulary
        of trained weights cannot spell.
        """
        if self.kind == "bpe":
            return self._encode_bytes(texts)
        encode = self._encode_characters if self.kind == "char" else self._encode_words
        return [encode(_whole(text)) for text in texts]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The raw tokens, as tokenizer.json spells them."""
        return [self._tokens[token_id] for token_id in ids]

    def texts(self, ids: Iterable[int]) -> list[str]:
        """The text of each token alone; bytes of an incomplete character are written as \\xc3."""
        tokens = self.tokens(ids)
        return list(map(spell_bytes, tokens)) if self.kind == "bpe" else tokens

    def bytes_of(self, ids: Iterable[int]) -> list[bytes]:
        """The bytes of each token alone, as UTF-8 or a part of it."""
        tokens = self.tokens(ids)
        return list(map(bytes_of, tokens)) if self.kind == "bpe" else list(map(str.encode, tokens))

    def id_of(self, token: str) -> int | None:
        """The id of a raw token, or None."""
        return self._ids.get(token)

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text; exactly what was encoded where the tokenizer is lossless.

        Stop ids give no text.
        """
        decoder = self.decoder()
        return "".join([decoder.push(token_id) for token_id in ids]) + decoder.flush()

    def decoder(self, prompt_ids: Iterable[int] = ()) -> Decoder:
        """A decoder for the ids that follow prompt_ids, whose text it does not repeat."""
        decoder = Decoder(self._tokens, self.stop_id, _JOINERS[self.kind]())
        for token_id in prompt_ids:
            decoder.push(token_id)
        return decoder

    def unknown(self, text: str) -> list[str]:
        """The words (kind char: characters) of text that map to [UNK], each once, in order."""
        if self.unknown_id is None:
            return []
        spans = self.spans(text)
        found = (text[start:end] for token_id, start, end in spans if token_id == self.unknown_id)
        return list(dict.fromkeys(found))

    def spans(self, text: str) -> list[tuple[int, int, int]]:
        """(id, start, end) of each token: the characters of text that it stands for.

        Tokens that share one character (bytes of it, or a letter that lower-cases to two) share
        its span.
        """
        return list(self._spans(text))

    def starts(self, text: str) -> np.ndarray:
        """The first character of each token, (T,) int64; in far less memory than its spans take."""
        return np.fromiter((start for _, start, _ in self._spans(text)), np.int64)

    def _spans(self, text: str) -> Iterator[tuple[int, int, int]]:
        begin = 0
        for part in cut(self._spellable(text), self.treatment):
            encoding = self._rust.encode(part, add_special_tokens=False)
            for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
                yield token_id, begin + start, begin + end
            begin += len(part)

    def _spellable(self, text: str) -> str:
        """The text itself. Raises TokenizerError where the vocabulary lacks a character of it."""
        text = _whole(text)
        if self.unspelled and (found := self.unspelled.search(text)):
            raise TokenizerError(
                f"A text holds {found[0]!a} at {found.start()}, which the vocabulary that comes "
                "with the weights cannot spell. Remove it, from a corpus with corpus.strip_symbols."
            )
        return text

    def _encode_words(self, text: str) -> np.ndarray:
        ids = map(self._ids.get, split(text, self.treatment), repeat(self.unknown_id))
        return np.fromiter(ids, dtype=np.int64)

    def _encode_characters(self, text: str) -> np.ndarray:
        if self.treatment.lowercase:
            text = lower(text)
        code_points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
        return self._id_of_code_point[code_points]

    @cached_property
    def _id_of_code_point(self) -> np.ndarray:
        table = np.full(0x110000, self.unknown_id, dtype=np.int64)
        for token_id, character in enumerate(self._tokens[2:], start=2):
            table[ord(character)] = token_id
        return table

    def _encode_bytes(self, texts: Sequence[str]) -> list[np.ndarray]:
        ids: list[list[np.ndarray]] = [[] for _ in texts]
        batch: list[str] = []
        places: list[int] = []
        waiting = 0

        def encode_waiting() -> None:
            nonlocal waiting
            # An Encoding takes far more memory than its ids, so none outlives its batch.
            encodings = self._rust.encode_batch_fast(batch, add_special_tokens=False)
            for place, encoding in zip(places, encodings, strict=True):
                ids[place].append(np.array(encoding.ids, dtype=np.int64))
            batch.clear()
            places.clear()
            waiting = 0

        for place, text in enumerate(texts):
            for part in cut(self._spellable(text), self.treatment):
                batch.append(part)
                places.append(place)
                waiting += len(part)
                if waiting >= _BATCH:
                    encode_waiting()
        encode_waiting()
        nothing = np.zeros(0, dtype=np.int64)
        return [np.concatenate(parts) if parts else nothing for parts in ids]


def _check_vocabulary(kind: Kind, tokens: list[str], ids: dict[str, int]) -> None:
    if [ids[token] for token in tokens] != list(range(len(ids))):
        raise ValueError("its ids do not run from 0 on without a gap")
    if kind == "bpe":
        if BPE_STOP not in ids:
            raise ValueError(f"its vocabulary lacks {BPE_STOP}")
    elif tokens[:2] != [STOP, UNKNOWN]:
        raise ValueError(f"its ids do not begin with {STOP} and {UNKNOWN}")
    if kind == "char" and any(len(token) != 1 for token in tokens[2:]):
        raise ValueError("one of its tokens is not one character")


def _learn_pieces(
    options: TokenizerOptions, treatment: Treatment, documents: Iterable[str]
) -> tokenizers.Tokenizer:
    """A tokenizer whose vocabulary is the most frequent words, characters or symbols."""
    counts: Counter[str] = Counter()
    for text in documents:
        counts.update(split(text, treatment))
    # A text may contain the symbol "[UNK]": it is encoded to the unknown id.
    counts.pop(UNKNOWN, None)
    frequent = [piece for piece, count in counts.items() if count >= options.min_frequency]
    if not frequent:
        least = options.min_frequency
        times = "even once" if least == 1 else f"{least} times"
        raise TokenizerError(
            f"Nothing in the corpus occurs {times}, so the vocabulary would be empty. Lower "
            "min_frequency, or give more text."
        )
    frequent.sort(key=lambda piece: (-counts[piece], piece))
    entries = [STOP, UNKNOWN, *frequent][: options.vocab_size]
    rust = pipeline(treatment)
    vocabulary = {token: token_id for token_id, token in enumerate(entries)}
    rust.model = models.WordLevel(vocabulary, unk_token=UNKNOWN)
    return rust


def _learn_bytes(
    options: TokenizerOptions, treatment: Treatment, documents: Iterable[str]
) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer: the 256 bytes, and merges of frequent neighbors."""
    trainer = trainers.BpeTrainer(
        vocab_size=options.vocab_size,
        min_frequency=max(2, options.min_frequency),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[BPE_STOP],
        show_progress=False,
    )
    rust = pipeline(treatment)
    # The Rust side reads 256 texts ahead: stretches bound their memory.
    stretches = (part for text in documents for part in cut(text, treatment))
    rust.train_from_iterator(chain.from_iterable(map(_without_long_words, stretches)), trainer)
    # The trainer made the stop an added token: a text that spells it would be encoded to it.
    content = json.loads(rust.to_str())
    content["added_tokens"] = []
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def _without_long_words(text: str) -> Iterable[str]:
    """The text in pieces, overlong words (a genome, an encoded file) cut: the time to learn a word
    grows with the square of its length."""
    if max(map(len, text.split()), default=0) <= LONGEST_WORD:
        return [text]
    return re.findall(rf"\s*\S{{1,{LONGEST_WORD}}}|\s+", text)


def _whole(text: str) -> str:
    """The text itself, which must be Unicode. Raises TokenizerError at half a surrogate pair."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"A text holds half a character ({text[error.start]!a} at {error.start}), which "
                "UTF-8 cannot encode. Remove it, or read the text in its right encoding."
            ) from error
    return text
