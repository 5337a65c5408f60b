"""Prompts that are scored by blocks have the scores of the plain definition, in any company."""

from typing import Any

import numpy as np
import pytest
from test_beams import real_backend
from test_engine import BACKENDS, STOP, V, counts, finished, prompt
from test_generator import CHARACTERS, RuleBackend, SeenState, whole_context

from textwright.backends.counts import MixedBackend
from textwright.counts.mixture import EVIDENCE, Mixture, Shares
from textwright.counts.powered import PoweredCounts
from textwright.writing import echo, engine
from textwright.writing.backend import visible
from textwright.writing.engine import Engine
from textwright.writing.request import EchoEvent, ErrorEvent, Request
from textwright.writing.sampling_options import sampling_options
from textwright.writing.sampling_steps import log_probabilities

TEXTS = ["abcabcabcacbbacab", "", "c", "cab" * 13, "a" * 8, "ab" * 4 + "c", "bca" * 30]


def gated() -> MixedBackend:
    """A mixture whose shares depend on the place."""
    weights = np.random.default_rng(5).normal(0, 0.7, (1 + len(EVIDENCE), 3))
    mixture = Mixture(weights, Shares(0.4, 0.3, 0.3))
    return MixedBackend(real_backend("NumPy GPT"), PoweredCounts(counts(), 0.75), mixture)


ALL = {**BACKENDS, "gated mixture": gated}


def plainly(backend: Any, text: str) -> np.ndarray:
    """The log-probabilities (T, V) at the place of each token, all read from the beginning."""
    ids, found = CHARACTERS.encode(text).tolist(), []
    for count in range(len(ids)):
        seen = visible(ids[:count], STOP, backend.context_length)
        found.append(backend.prefill(seen[None], np.array([len(seen)]))[0][0])
    return log_probabilities(np.array(found)) if found else np.empty((0, V))


def agree(backend: Any, text: str, event: Any) -> None:
    ids = CHARACTERS.encode(text).tolist()
    wanted = plainly(backend, text)
    assert len(event) == len(ids)
    found = [scored.logprob for scored in event]
    assert found == pytest.approx(wanted[np.arange(len(ids)), ids], abs=1e-5)
    for scored, row in zip(event, wanted, strict=True):
        assert list(scored.likeliest.values()) == pytest.approx(np.sort(row)[:-3:-1], abs=1e-5)


@pytest.mark.parametrize("block", [1, 7, 512])
@pytest.mark.parametrize("name", ALL)
def test_scores_are_those_of_reading_every_place_from_the_beginning(
    name: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BLOCK", block)
    monkeypatch.setattr(echo, "_WINDOWS", 5)
    backend = ALL[name]()
    writer = Engine(backend, CHARACTERS)
    asked = {}
    for text in TEXTS:  # half of them come later
        asked[writer.submit(Request(prompt(text), num=0, echo=True, logprobs=2))] = text
        if len(asked) == 4:
            came = {event.request: event.scored for event in writer.step()}
    came |= {number: events[0][0] for number, events in finished(writer).items()}
    for number, text in asked.items():
        agree(backend, text, came[number])


def test_a_long_prompt_holds_no_short_one_up() -> None:
    writer = Engine(RuleBackend(whole_context(V), context_length=6), CHARACTERS)
    long = writer.submit(Request(prompt("abc" * 900), num=0, echo=True))
    writer.step()
    short = writer.submit(Request(prompt("ab"), num=0, echo=True))
    came = [event.request for _ in range(4) for event in writer.step()]
    assert came == [short]
    writer.cancel(long)
    assert not writer.busy and writer.step() == []


def test_texts_are_written_while_a_long_prompt_is_scored() -> None:
    writer = Engine(real_backend("NumPy LSTM"), CHARACTERS)
    scored = writer.submit(Request(prompt("abc" * 300), num=0, echo=True))
    options = sampling_options(max_new_tokens=4, min_new_tokens=4)
    written = writer.submit(Request(prompt("ab"), options))
    came = [event.request for _ in range(4) for event in writer.step()]
    assert came == [written] * 4
    assert list(finished(writer)) == [scored]


def test_an_echo_that_is_canceled_leaves_those_that_are_read_with_it() -> None:
    backend = real_backend("NumPy GPT")
    writer = Engine(backend, CHARACTERS)
    texts = ["cab" * 9, "abc" * 9, "b" * 20]
    numbers = [writer.submit(Request(prompt(t), num=0, echo=True, logprobs=2)) for t in texts]
    writer.step()
    writer.cancel(numbers[1])
    came = finished(writer)
    assert came.keys() == {numbers[0], numbers[2]}
    for number, text in zip(numbers, texts, strict=True):
        if number in came:
            agree(backend, text, came[number][0][0])


class Breaking(RuleBackend):
    """Fails where a row reads the letter c twice in a row."""

    def follow(self, ids: np.ndarray, state: SeenState) -> tuple[np.ndarray, SeenState]:
        for seen, new in zip(state.seen, ids.tolist(), strict=True):
            if (4, 4) in zip(seen + tuple(new), [*seen[1:], *new], strict=False):
                raise MemoryError
        return super().follow(ids, state)


def test_an_error_ends_the_echo_that_it_is_of() -> None:
    writer = Engine(Breaking(whole_context(V), context_length=6), CHARACTERS)
    texts = ["abab", "abccab", "cbcb", "ca" * 20]
    numbers = [writer.submit(Request(prompt(t), num=0, echo=True, logprobs=2)) for t in texts]
    came: dict[int, Any] = {}
    while writer.busy:
        came |= {event.request: event for event in writer.step()}
    assert isinstance(came[numbers[1]], ErrorEvent)
    for number, text in zip(numbers, texts, strict=True):
        if number != numbers[1]:
            assert isinstance(came[number], EchoEvent)
            agree(RuleBackend(whole_context(V), context_length=6), text, came[number].scored)
