"""A server as a subject: an OpenAI-compatible one whose /v1/completions answers `echo` with
`logprobs`, which gives the log-probability of every token of a text that is sent.

Such a server gives no whole distribution, so nothing can be decoded from it: that its tokens' texts
join to the document is all the proof there is. What it does not say is charged by plain codes, so
that the score stays that of a whole code: a first token without log-probability costs 8 bits a
byte, and an end that is not echoed the Elias delta code of the document's length. A server that
tells the tokens which begin and end a document (`/tokenizer_info`, `/tokenize`) is sent them with
it, and then leaves nothing out: ours is charged what its run is.
"""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np

from textwright.comparison.subjects import (
    UNKNOWN,
    Codec,
    Measured,
    Writing,
    Written,
    check_restored,
)
from textwright.errors import EvaluationError
from textwright.evaluation.kept import NOTHING_KEPT
from textwright.evaluation.scores import HeldOut
from textwright.progress import OnProgress

MODELS, COMPLETIONS, TOKENIZE = "/v1/models", "/v1/completions", "/tokenize"
TIMEOUT = 120.0  # seconds for one answer
ECHO = {"echo": True, "max_tokens": 0, "logprobs": 1, "temperature": 1.0}


class CompletionServer:
    """A server at a URL, such as http://127.0.0.1:8000 or …/v1. The first model that it lists is
    taken. Raises EvaluationError if it does not answer."""

    kind = "server"
    kept = NOTHING_KEPT  # what it serves may change

    def __init__(self, url: str, timeout: float = TIMEOUT):
        self.name, self.timeout = url, timeout
        base = url.rstrip("/").removesuffix("/completions").removesuffix("/v1")
        if not _is_server(base):
            raise EvaluationError(f"{url} is no URL of a server, such as http://127.0.0.1:8000.")
        self.base = base
        listed = self._ask(MODELS).get("data") or [{}]
        with self._reading(MODELS):
            self.model = str(listed[0].get("id", ""))
        self._unsaid: set[str] = set()

    def measure(self, documents: Sequence[str], on_progress: OnProgress) -> Measured:
        nats, places, plain = [], [], []
        for done, document in enumerate(documents):
            on_progress(done, len(documents))
            of_document, starts, bits = self._echo(document)
            nats.append(of_document)
            places.append(starts)
            plain.append(bits)
        return Measured(nats, HeldOut.sized(documents, places, escape_bits=plain))

    def write(self, prompts: Sequence[str], writing: Writing, max_new_tokens: int) -> Written:
        texts, tokens, known, begun = [], 0, True, time.perf_counter()
        for prompt, seed in zip(prompts, writing.seeds(len(prompts)), strict=True):
            answer = self._complete(
                prompt=prompt,
                max_tokens=max_new_tokens,
                temperature=writing.temperature,
                top_p=writing.top_p,
                seed=seed,
            )
            texts.append(str(self._choice(answer).get("text", ""))[: writing.characters])
            with self._reading(COMPLETIONS):
                count = (answer.get("usage") or {}).get("completion_tokens")
            known = known and isinstance(count, int)
            tokens += count if isinstance(count, int) else 0
        return Written(texts, time.perf_counter() - begun, tokens if known else None)

    def codec(self) -> Codec | None:
        """None: it does not give its distribution away."""
        return None

    def context(self) -> str:
        return "each document is sent whole; how far back a token sees is the server's affair"

    def remarks(self) -> list[str]:
        return [UNKNOWN, *sorted(self._unsaid)]

    def parameters(self) -> int | None:
        """None: it does not say."""
        return None

    def bytes(self) -> int | None:
        """None: it does not say."""
        return None

    def _echo(self, document: str) -> tuple[np.ndarray, np.ndarray, float]:
        """Nats of each token with its first character, and bits for what the server leaves out."""
        if not document:
            self._unsaid.add(_END)
            return np.zeros(0), np.zeros(0, int), elias_delta_bits(1)
        sent = document.encode("utf-8", "surrogatepass")
        row = self._row(document)
        choice = self._choice(self._complete(prompt=row or document, **ECHO))
        with self._reading(COMPLETIONS):
            found = choice.get("logprobs") or {}
            pieces = [_plain(token) for token in found.get("tokens") or []]
            said = found.get("token_logprobs") or []
            values = [None if value is None else float(value) for value in said]
        if not pieces or len(pieces) != len(values):
            raise EvaluationError(
                f"{self.name} gives no log-probabilities of the text that it is sent, without "
                "which nothing can be scored; name a server that answers echo with logprobs."
            )
        if row and len(pieces) == len(row):  # the end has no text
            pieces, values = [*pieces[1:-1], b""], values[1:]
        if values[0] is None and b"".join(pieces[1:]) == sent:  # a start token of the server's own
            pieces, values = pieces[1:], values[1:]
        joined = b"".join(pieces).decode("utf-8", "replace")
        check_restored(self.name, document, joined)
        nats = -np.array([0.0 if value is None else value for value in values])
        bits = 0.0
        for place, value in enumerate(values):
            if value is None and place:
                raise EvaluationError(
                    f"{self.name} leaves out the log-probability of token {place + 1} of a text; "
                    "only the first may lack one."
                )
            if value is None:
                bits += 8.0 * len(pieces[0])
                self._unsaid.add(_FIRST)
        if pieces[-1]:  # the end would be echoed as a token without text
            bits += elias_delta_bits(1 + len(sent))
            self._unsaid.add(_END)
        if not np.isfinite(nats).all():
            raise EvaluationError(
                f"{self.name} gives a token of the text no probability at all, or one that is no "
                "number; its bits would be without end."
            )
        # A character is counted where its first byte stands: tokens may split it.
        ends = np.cumsum([sum(byte & 0xC0 != 0x80 for byte in piece) for piece in pieces])
        return nats, np.minimum(np.concatenate([[0], ends[:-1]]), len(document)), bits

    def _row(self, document: str) -> list[int] | None:
        """The ids of a document between those that begin and end one; None: it does not tell."""
        if self._marks is None:
            return None
        start, end = self._marks
        return [start, *self._tokenize(document), end]

    @cached_property
    def _marks(self) -> tuple[int, int] | None:
        """The ids that begin and end a document."""
        named = f"?{urlencode({'model': self.model})}" if self.model else ""
        told = self._ask(f"/tokenizer_info{named}")
        start, end = told.get("bos_token"), told.get("eos_token")
        if not (start and end):
            return None
        first, last = self._tokenize(start), self._tokenize(end)
        with self._reading(TOKENIZE):
            return first[0], last[0]

    def _tokenize(self, text: str) -> list[int]:
        body = {"model": self.model, "prompt": text, "add_special_tokens": False}
        found = self._ask(TOKENIZE, body)
        with self._reading(TOKENIZE):
            return list(map(int, found["tokens"]))

    def _complete(self, **body: Any) -> dict[str, Any]:
        named = {"model": self.model} if self.model else {}
        return self._ask(COMPLETIONS, {**named, **body})

    def _choice(self, answer: dict[str, Any]) -> dict[str, Any]:
        with self._reading(COMPLETIONS):
            return dict(answer["choices"][0])

    @contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        """Raise EvaluationError, one sentence, where an answer has another form than it should."""
        try:
            yield
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
            raise EvaluationError(
                f"{self.name} answers {path} in another form than OpenAI-compatible servers do; "
                "name another."
            ) from None

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON of an answer. Raises EvaluationError, one sentence, if there is none."""
        request = urllib.request.Request(
            self.base + path,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                found = json.loads(answer.read())
            if not isinstance(found, dict):
                raise ValueError("its answer is no JSON object")
            return found
        except urllib.error.HTTPError as error:
            reason = ""
            with error, suppress(OSError, HTTPException):  # it may break off
                reason = _message(error.read())
            if body is None and error.code in (404, 405, 501):
                return {}  # it lists no models, and may need no name
            raise EvaluationError(
                f"{self.name} refuses what it is asked at {path} ({error.code}{reason}); it must "
                "be an OpenAI-compatible server that answers echo with logprobs."
            ) from None
        except TimeoutError:
            raise self._too_slow() from None
        except (OSError, ValueError) as error:
            if isinstance(getattr(error, "reason", None), TimeoutError):
                raise self._too_slow() from None
            cause = getattr(error, "reason", None) or error
            raise EvaluationError(
                f"{self.name} does not answer ({cause}); start the server, or name another."
            ) from None
        except HTTPException:
            raise EvaluationError(
                f"{self.name} does not answer in HTTP, or its answer breaks off; start the server, "
                "or name another."
            ) from None

    def _too_slow(self) -> EvaluationError:
        return EvaluationError(
            f"{self.name} did not answer within {self.timeout:.0f} seconds; score fewer documents "
            "with --documents, or a server that is not busy."
        )


_FIRST = (
    "the server gives the first token of a document no probability; it is charged 8 bits a byte"
)
_END = "the end of a document is not predicted here; its length is charged instead"


def elias_delta_bits(number: int) -> int:
    """Bits of a whole number above 0 in the code of Elias (1975), which needs no bound."""
    places = number.bit_length()
    return places - 1 + 2 * int(math.log2(places)) + 1


def _is_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an address or a port that is none
        return False


def _plain(token: Any) -> bytes:
    """The bytes of a token's text; `bytes:\\xe2\\x80` is how part of a character is written."""
    text = str(token)
    if text.startswith("bytes:\\x"):
        return bytes.fromhex(text.removeprefix("bytes:").replace("\\x", ""))
    return text.encode("utf-8", "surrogatepass")


def _message(body: bytes) -> str:
    try:
        found = json.loads(body)
        said = found.get("error", found.get("detail", ""))
        said = said.get("message", "") if isinstance(said, dict) else said
    except (ValueError, AttributeError):
        said = body.decode("utf-8", "replace")
    text = " ".join(str(said).split()).rstrip(".")
    return f": {text[:120]}" if text else ""
