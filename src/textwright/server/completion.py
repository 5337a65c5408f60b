"""The answer of `POST /v1/completions`, put together from what the engine writes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any
from uuid import uuid4

from textwright.server.bodies import CompletionBody
from textwright.server.served import Asked, AskedPrompt, ServedRun
from textwright.server.worker import Batch
from textwright.writing.request import EchoEvent, ErrorEvent, Scored, TokenEvent

LEAST_LOGPROB = -9999.0  # stands for minus infinity, which JSON cannot say; as in vLLM

Part = dict[str, Any]  # one choice, or a stretch of one: all parts of a choice merge into it


@dataclass
class _Choice:
    """A text while it is written."""

    index: int
    begun: bool = False
    length: int = 0  # characters so far, with the prompt's if it is echoed
    tokens: int = 0  # new ones
    scores: list[float] = field(default_factory=list)  # log-probabilities of its tokens
    parts: list[Part] = field(default_factory=list)  # where they are not streamed

    @property
    def score(self) -> float:
        return sum(self.scores) / len(self.scores) if self.scores else -inf


class Completion:
    """One answer. It takes events and gives parts of choices, which are streamed or kept."""

    def __init__(self, served: ServedRun, body: CompletionBody, asked: Asked) -> None:
        self.asked = asked
        self.error: Exception | None = None  # that ended the writing
        self._served, self._body = served, body
        self._choices = [_Choice(index) for index in range(len(asked.prompts) * asked.num)]
        self._left = len(self._choices)
        self._echoed: dict[int, list[Scored]] = {}  # by prompt
        self._head = {
            "id": f"cmpl-{uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": served.name,
            "seed": asked.seed,
        }

    @property
    def done(self) -> bool:
        """Whether every text has ended."""
        return not self._left

    @property
    def tokens(self) -> tuple[int, int]:
        """How many the prompts have, and how many are written."""
        read = sum(len(asked.prompt.ids) + asked.starts for asked in self.asked.prompts)
        return read, sum(choice.tokens for choice in self._choices)

    def begin(self) -> list[Part]:
        """The parts that need no model: prompts that are echoed without anything else."""
        if self.asked.requests:
            return []
        return [part for place in range(len(self.asked.prompts)) for part in self._only_echo(place)]

    def take(self, batch: Batch) -> list[Part]:
        """The parts that events make, up to an `error`."""
        parts: list[Part] = []
        for place, event in batch:
            match event:
                case ErrorEvent():
                    self.error = event.error
                    break
                case EchoEvent():
                    self._echoed[place] = event.scored
                    if not self._body.new_tokens:
                        parts += self._only_echo(place)
                case TokenEvent():
                    parts.append(self._continue(place, event))
        return [part for part in parts if _says_something(part)]

    def keep(self, parts: Sequence[Part]) -> None:
        """Keep parts for `whole`."""
        for part in parts:
            self._choices[part["index"]].parts.append(part)

    def whole(self) -> dict[str, Any]:
        """The answer, when all parts are kept: of the texts of each prompt, the n best."""
        num, n = self.asked.num, self._body.num
        chosen = []
        for first in range(0, len(self._choices), num):
            choices = self._choices[first : first + num]
            if num > n:
                choices = sorted(choices, key=lambda choice: -choice.score)[:n]
            chosen += choices
        merged = [{**_merge(c.parts), "index": index} for index, c in enumerate(chosen)]
        return {**self._head, "choices": merged, "usage": self.usage()}

    def chunk(self, part: Part) -> dict[str, Any]:
        """A part as it is streamed."""
        options = self._body.stream_options
        usage = {"usage": None} if options and options.include_usage else {}
        return {**self._head, "choices": [part], **usage}

    def last_chunk(self) -> dict[str, Any] | None:
        """The chunk after all parts, if it was asked for."""
        options = self._body.stream_options
        if options is None or not options.include_usage:
            return None
        return {**self._head, "choices": [], "usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """The tokens of the request so far."""
        read, new = self.tokens
        return {"prompt_tokens": read, "completion_tokens": new, "total_tokens": read + new}

    def _continue(self, place: int, event: TokenEvent) -> Part:
        choice = self._choices[place * self.asked.num + event.sample]
        part = self._begin(choice, place)
        if event.scored is not None:
            choice.scores.append(event.scored.logprob)
            if self._body.logprobs is not None:
                new_id = self._served.tokenizer.stop_id if event.id is None else event.id
                self._add_score(part, new_id, event.scored, choice.length)
        if event.id is not None:
            choice.tokens += 1
            if self._body.return_token_ids:
                part["token_ids"].append(event.id)
        part["text"] += event.text
        choice.length += len(event.text)
        if event.finish_reason is not None:
            self._left -= 1
            # OpenAI has no word for a text that no token could continue.
            reason = event.finish_reason
            part["finish_reason"] = "length" if reason == "length" else "stop"
        return part

    def _only_echo(self, place: int) -> Iterator[Part]:
        for sample in range(self.asked.num):
            part = self._begin(self._choices[place * self.asked.num + sample], place)
            part["finish_reason"] = "length"
            self._left -= 1
            yield part

    def _begin(self, choice: _Choice, place: int) -> Part:
        """A part without new text: with the prompt, if it is echoed and the choice begins."""
        body, asked = self._body, self.asked.prompts[place]
        part: Part = {"index": choice.index, "text": "", "logprobs": None, "finish_reason": None}
        if body.logprobs is not None:
            part["logprobs"] = {key: [] for key in _LOGPROBS}
        if body.return_token_ids:
            part["token_ids"] = []
        if choice.begun:
            return part
        choice.begun = True
        if body.return_token_ids:
            stop = [self._served.tokenizer.stop_id] if asked.starts else []
            part["prompt_token_ids"] = stop + asked.prompt.ids
        if body.echo:
            part["text"] = asked.prompt.text
            choice.length = len(asked.prompt.text)
            if body.logprobs is not None:
                self._add_prompt(part, asked, self._echoed[place])
        return part

    def _add_prompt(self, part: Part, asked: AskedPrompt, scored: list[Scored]) -> None:
        ids, starts = asked.prompt.ids, self._served.starts_of(asked)
        scores: list[Scored | None] = [*scored]
        if asked.starts:  # then the first token of the text has something to follow
            self._add_score(part, self._served.tokenizer.stop_id, None, 0)
        elif scores:
            scores[0] = None
        for token_id, score, start in zip(ids, scores, starts, strict=True):
            self._add_score(part, token_id, score, start)

    def _add_score(self, part: Part, token_id: int, scored: Scored | None, start: int) -> None:
        spellings, logprobs = self._served.spellings, part["logprobs"]
        logprobs["tokens"].append(spellings[token_id])
        logprobs["text_offset"].append(start)
        if scored is None:
            logprobs["token_logprobs"].append(None)
            logprobs["top_logprobs"].append(None)
            return
        likeliest = {**scored.likeliest, token_id: scored.logprob}
        logprobs["token_logprobs"].append(_finite(scored.logprob))
        logprobs["top_logprobs"].append({spellings[i]: _finite(p) for i, p in likeliest.items()})


_LOGPROBS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


def _finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)


def _says_something(part: Part) -> bool:
    scores = part["logprobs"] and part["logprobs"]["tokens"]
    return bool(part["text"] or part["finish_reason"] or scores or part.get("token_ids"))


def _merge(parts: Sequence[Part]) -> Part:
    """The parts of one choice as one."""
    merged = {**parts[-1], "text": "".join(part["text"] for part in parts)}
    if merged["logprobs"] is not None:
        merged["logprobs"] = {
            key: [value for part in parts for value in part["logprobs"][key]] for key in _LOGPROBS
        }
    if "token_ids" in merged:
        merged["token_ids"] = [token_id for part in parts for token_id in part["token_ids"]]
        merged["prompt_token_ids"] = parts[0]["prompt_token_ids"]
    return merged
