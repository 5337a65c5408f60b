"""A run as it is served: what a body asks of it, as requests to its engine."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textwright.api import Writer, load
from textwright.errors import TextwrightError
from textwright.progress import OnStage, silent
from textwright.run.about import about
from textwright.run.lock import check_idle
from textwright.server.bodies import CompletionBody, InspectBody, TokenizeBody
from textwright.server.errors import ApiError
from textwright.server.limits import Limits
from textwright.writing.engine import Engine
from textwright.writing.prompt import Prompt, read_prompts
from textwright.writing.request import Request

if TYPE_CHECKING:
    from textwright.models import LanguageModel


@dataclass(frozen=True)
class AskedPrompt:
    """A prompt of a body. starts: it was given as ids that begin with the stop id, which is left
    out of `prompt`, because every context begins with it."""

    prompt: Prompt
    starts: bool = False


@dataclass(frozen=True)
class Asked:
    """What a body asks for. num: texts that are written for each prompt · requests: of the prompts,
    in their order; none where nothing needs the model."""

    prompts: list[AskedPrompt]
    requests: list[Request]
    num: int
    seed: int


class ServedRun:
    """One run of a server."""

    def __init__(self, name: str, writer: Writer, limits: Limits) -> None:
        self.name, self.writer, self.limits = name, writer, limits
        self.tokenizer = writer.tokenizer
        self.created = int((writer.run.path / "config.toml").stat().st_mtime)

    def engine(self) -> Engine:
        """A new engine of the run."""
        return replace(self.writer.generator, batch_size=self.limits.batch_size).engine()

    @property
    def context_length(self) -> int | None:
        """The most ids that the model looks back on; None: no limit."""
        return self.writer.generator.backend.context_length

    @cached_property
    def spellings(self) -> list[str]:
        """The text of each token alone, by id; `bytes:\\xe2\\x80` where that is no character."""
        return [_spell(data) for data in self.tokenizer.bytes_of(range(self.tokenizer.vocab_size))]

    @cached_property
    def inner(self) -> LanguageModel | None:
        """The neural model, to be looked into; None for counts. Needs torch."""
        from textwright.inspection.inner import open_model

        return open_model(self.writer.run)

    def ask(self, body: CompletionBody) -> Asked:
        """What a body asks for. Raises a TextwrightError where it is refused."""
        num = body.best_of or body.num
        prompts = self.read(body)
        self._check_size(body, prompts)
        most = max(1, body.new_tokens)
        # A search shows nothing before its end, so it has to be asked for. And what the run has
        # for longer texts does not refuse a short one.
        least = min(self.writer.run.config.sample.min_new_tokens, most)
        options = self.writer.options(
            **{"beams": 1, "min_new_tokens": least, **body.sampling(), "max_new_tokens": most}
        )
        seed = secrets.randbits(53) if body.seed is None else body.seed
        logprobs = body.logprobs
        if body.best_of is not None and logprobs is None:
            logprobs = 0  # the texts are ranked by them
        scores = bool(body.echo and body.logprobs is not None)
        begun = [asked.prompt.begun(body.begin) for asked in prompts]
        requests = self.writer.generator.requests(
            begun if body.new_tokens or scores else [],
            options,
            num=num if body.new_tokens else 0,
            seed=seed,
            logprobs=logprobs,
            echo=scores,
        )
        return Asked(prompts, requests, num, seed)

    def read(self, body: CompletionBody | InspectBody) -> list[AskedPrompt]:
        """The prompts of a body. Raises a TextwrightError where one cannot be read."""
        self.check_ids(body.begin)
        if body.fields is not None:
            return [AskedPrompt(self._read_fields(body.fields))]
        given: Any = body.prompt
        if not given:
            return [AskedPrompt(Prompt("", []))]
        prompts = [given] if isinstance(given, str) or isinstance(given[0], int) else given
        if isinstance(prompts[0], str):
            return [AskedPrompt(prompt) for prompt in read_prompts(prompts, self.tokenizer)]
        return [self._read(ids) for ids in prompts]

    def check_ids(self, ids: list[int]) -> None:
        """Raise ApiError for an id that the vocabulary does not have."""
        size = self.tokenizer.vocab_size
        if ids and max(ids) >= size:
            raise ApiError(422, f"There is no token {max(ids)}: ids go from 0 to {size - 1}.")

    def tokenize(self, body: TokenizeBody) -> dict[str, Any]:
        """The answer of `POST /tokenize`. Raises ApiError where the body cannot be used."""
        prompt = self._read_text(body)
        count, most = len(prompt.ids), self.limits.tokens
        if count > most:
            raise ApiError(
                422,
                f"The text has {count} tokens, and {most} are the most: send less text.",
                param="prompt",
            )
        ids = [*([self.tokenizer.stop_id] if body.add_special_tokens else []), *prompt.ids]
        return {
            "tokens": ids,
            "count": len(ids),
            "max_model_len": self.context_length,
            "token_strs": [self.spellings[i] for i in ids] if body.return_token_strs else None,
            "unknown": prompt.unknown,
            "prompt": prompt.text,
        }

    def starts_of(self, asked: AskedPrompt) -> list[int]:
        """Where each token of a prompt begins in its text."""
        prompt = asked.prompt
        spans = self.tokenizer.spans(prompt.text)
        if [token_id for token_id, *_ in spans] == prompt.ids:
            return [start for _, start, _ in spans]
        decoder, place, starts = self.tokenizer.decoder(), 0, []
        for token_id in prompt.ids:  # ids that no text is read as
            starts.append(place)
            place += len(decoder.push(token_id))
        return starts

    def to_json(self) -> dict[str, Any]:
        """An entry of `GET /v1/models`."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "textwright",
            "max_model_len": self.context_length,
        }

    @cached_property
    def described(self) -> dict[str, Any]:
        """An entry of `GET /api/runs`."""
        return {**about(self.writer.run), "context_length": self.context_length}

    def _read_text(self, body: TokenizeBody) -> Prompt:
        """A text as it is read, or what fields make a document begin with. The stop id stands for
        what spells the stop, and nothing else."""
        stop = self.tokenizer.stop_id
        if body.prompt == self.spellings[stop]:
            return Prompt(body.prompt, [stop])
        if body.fields is not None:
            return self._read_fields(body.fields)
        try:
            return read_prompts([body.prompt], self.tokenizer)[0]
        except TextwrightError as error:
            raise ApiError(422, str(error), param="prompt") from None

    def _read_fields(self, fields: dict[str, str]) -> Prompt:
        try:
            return self.writer.form().prompt(fields)
        except TextwrightError as error:
            raise ApiError(422, str(error), param="fields") from None

    def _read(self, ids: list[int]) -> AskedPrompt:
        self.check_ids(ids)
        starts = ids[:1] == [self.tokenizer.stop_id]
        return AskedPrompt(Prompt(self.tokenizer.decode(ids), ids[starts:]), starts)

    def _check_size(self, body: CompletionBody, prompts: list[AskedPrompt]) -> None:
        limits, texts = self.limits, body.texts
        tokens = sum(texts * (len(asked.prompt.ids) + body.new_tokens) for asked in prompts)
        if tokens > limits.tokens:
            raise ApiError(
                422,
                f"The request may take {tokens} tokens, prompts included, and {limits.tokens} are "
                "the most: send less text, or lower max_tokens.",
                param="max_tokens",
            )
        if body.logprobs is None:
            return
        scores = sum(
            texts * (body.new_tokens + (len(asked.prompt.ids) if body.echo else 0))
            for asked in prompts
        ) * max(1, body.logprobs)
        if scores > limits.logprobs:
            raise ApiError(
                422,
                f"The request may take {scores} log-probabilities, and {limits.logprobs} are the "
                "most: lower logprobs, or ask for less text.",
                param="logprobs",
            )


def open_run(
    name: str,
    path: Path,
    limits: Limits,
    device: str = "cpu",
    on_progress: OnStage = silent,
) -> ServedRun:
    """A run folder to be served. Raises RunError where there is none, it is damaged, or it is being
    trained: its files change then.

    on_progress: called with stage, count done and total, where the run has a rule against copies.
    """
    check_idle(path)
    served = ServedRun(name, load(path, device), limits)
    if length := served.writer.run.config.sample.no_copy:
        served.writer.known_sequences(length, on_progress)
    return served


def _spell(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
