"""Requests that come and go while others are written: each text is the one it would be alone."""

import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from test_beams import real_backend
from test_generator import CHARACTERS, RuleBackend, SeenState, table, whole_context
from test_sampling import SETTINGS

from textwright.backends.counts import CountsBackend, MixedBackend
from textwright.backends.key_values import NumpyKeyValueState
from textwright.counts.kneser_ney import count_model
from textwright.counts.mixture import Mixture
from textwright.counts.powered import PoweredCounts
from textwright.errors import GenerationError
from textwright.writing.backend import Backend
from textwright.writing.engine import Engine
from textwright.writing.prompt import Prompt, read_prompts
from textwright.writing.request import EchoEvent, ErrorEvent, Request, TokenEvent
from textwright.writing.sampling import choose, process, uniforms
from textwright.writing.sampling_options import SamplingOptions, sampling_options
from textwright.writing.sampling_steps import NoTokenLeftError, draw, log_probabilities

STOP = CHARACTERS.stop_id
V = CHARACTERS.vocab_size


def prompt(text: str) -> Prompt:
    return read_prompts([text], CHARACTERS)[0]


def counts() -> Any:
    ids = np.random.default_rng(3).integers(2, V, 60)
    return count_model(ids, np.array([0, 20, 60]), STOP, V, 3)


BACKENDS = {
    "rule": lambda: RuleBackend(whole_context(V), context_length=6),
    "NumPy LSTM": lambda: real_backend("NumPy LSTM"),
    "NumPy GPT": lambda: real_backend("NumPy GPT"),
    "torch GPT": lambda: real_backend("torch GPT"),
    "counts": lambda: CountsBackend(counts()),
    "mixture": lambda: MixedBackend(
        real_backend("NumPy GPT"), PoweredCounts(counts(), 0.75), Mixture.constant()
    ),
}

OPTIONS = [
    {},
    {"temperature": 0.8, "top_k": 3},
    {"temperature": 0.0},
    {"top_p": 0.9, "repetition_penalty": 1.2},
    {"beams": 2, "temperature": 0.0},
    {"no_repeat_ngram": 3, "min_new_tokens": 4},
]


def requests(seed: int) -> Iterator[Request]:
    rng = np.random.default_rng(seed)
    while True:
        setting = OPTIONS[rng.integers(len(OPTIONS))]
        text = "".join(rng.choice(list("abc"), rng.integers(0, 9)))
        options = sampling_options(max_new_tokens=int(rng.integers(4, 15)), **setting)
        num = int(rng.integers(1, 1 + max(2, options.beams)))
        echo = bool(rng.random() < 0.2)
        yield Request(prompt(text), options, num=num, seed=int(rng.integers(99)), echo=echo)


def finished(engine: Engine) -> dict[int, Any]:
    """Run an engine to its end → what came, by request."""
    came: dict[int, Any] = defaultdict(list)
    while engine.busy:
        for event in engine.step():
            came[event.request].append(event[1:])
    return came


def alone(backend: Backend, request: Request) -> list[Any]:
    engine = Engine(backend, CHARACTERS)
    number = engine.submit(request)
    return finished(engine)[number]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_text_is_the_same_in_any_company(name: str, seed: int) -> None:
    """Requests are submitted and canceled at random steps; those that stay are as if alone."""
    rng, backend = np.random.default_rng(seed), BACKENDS[name]()
    engine = Engine(backend, CHARACTERS, batch_size=int(rng.integers(2, 9)))
    wanted: dict[int, Request] = {}
    came: dict[int, list[Any]] = defaultdict(list)
    canceled: set[int] = set()
    source = requests(seed)
    for step in range(10_000):
        if step < 25:
            for _ in range(rng.integers(0, 3)):
                request = next(source)
                wanted[engine.submit(request)] = request
            if wanted and rng.random() < 0.25:
                number = int(rng.choice(list(wanted)))
                engine.cancel(number)
                canceled.add(number)
        elif not engine.busy:
            break
        for event in engine.step():
            assert not isinstance(event, ErrorEvent), event
            assert event.request not in canceled
            came[event.request].append(event[1:])
    kept = wanted.keys() - canceled
    assert len(kept) > 8 and canceled
    different = sum(plain(came[n]) != plain(alone(backend, wanted[n])) for n in kept)
    # Products round each row as its place has it, which may move a draw over a boundary.
    assert different <= (name not in ("rule", "counts"))


def plain(events: list[Any]) -> Any:
    """The ids and reasons of each sample, without numbers that products may round."""
    found = defaultdict(list)
    for event in events:
        if len(event) > 1:
            found[event[0]].append((event[1], event[2], event[3]))
    return dict(found)


def test_canceled_rows_are_free_at_once() -> None:
    backend = RuleBackend(table(V))
    engine = Engine(backend, CHARACTERS, batch_size=4)
    options = sampling_options(max_new_tokens=50, min_new_tokens=50)
    first = engine.submit(Request(prompt("ab"), options, num=4))
    second = engine.submit(Request(prompt("c"), options, num=3))
    assert {event.request for event in engine.step()} == {first}
    engine.cancel(first)
    assert {event.request for event in engine.step()} == {second}
    engine.cancel(second)
    engine.cancel(second)
    assert not engine.busy and engine.step() == []
    assert backend.rows == []  # a canceled row is not read on


def test_more_requests_than_places_wait_and_join_where_one_has_left() -> None:
    engine = Engine(RuleBackend(table(V)), CHARACTERS, batch_size=2)
    short = sampling_options(max_new_tokens=1, min_new_tokens=1)
    numbers = [engine.submit(Request(prompt("a"), short, seed=seed)) for seed in range(5)]
    came = [[event.request for event in engine.step()] for _ in range(3)]
    assert came == [numbers[:2], numbers[2:4], numbers[4:]]
    assert not engine.busy


class Breaking(RuleBackend):
    """Fails where a row begins with the letter c."""

    def prefill(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, SeenState]:
        if (ids[:, 1:2] == 4).any():
            raise MemoryError
        return super().prefill(ids, lengths)


def broken_rule(seen: tuple[int, ...]) -> np.ndarray:
    logits = table(V)(seen)
    return np.full_like(logits, math.nan) if seen[1:2] == (4,) and len(seen) > 3 else logits


class Filling(RuleBackend):
    """Has memory for three rows."""

    def step(self, ids: np.ndarray, state: SeenState) -> tuple[np.ndarray, SeenState]:
        if len(ids) > 3:
            raise MemoryError
        return super().step(ids, state)


@pytest.mark.parametrize(
    ("backend", "error"),
    [
        (Breaking(table(V)), MemoryError),
        (RuleBackend(broken_rule), GenerationError),
        (Filling(table(V)), MemoryError),
    ],
    ids=["joining", "sampling", "stepping"],
)
def test_an_error_ends_one_request_and_leaves_the_others(backend: Backend, error: type) -> None:
    options = sampling_options(max_new_tokens=9, min_new_tokens=9)
    engine = Engine(backend, CHARACTERS)
    good = [Request(prompt(text), options, seed=5) for text in ("ab", "b", "a")]
    numbers = [engine.submit(request) for request in good]
    bad = engine.submit(Request(prompt("c"), options, num=2))
    came = finished(engine)
    assert isinstance(came[bad][-1][0], error)
    for number, request in zip(numbers, good, strict=True):
        assert plain(came[number]) == plain(alone(RuleBackend(table(V)), request))
        assert came[number][-1][3] == "length"


def test_a_guide_that_fails_ends_its_request() -> None:
    class Broken:
        waits = False

        def forced_id(self) -> None:
            return None

        def push(self, text: str) -> str:
            raise ValueError("broken")

        def flush(self, text: str) -> str:
            return text

    engine = Engine(RuleBackend(table(V)), CHARACTERS)
    options = sampling_options(min_new_tokens=3, max_new_tokens=3)
    bad = engine.submit(Request(Prompt("a", [2], make_guide=Broken), options))
    good = engine.submit(Request(prompt("a"), options))
    came = finished(engine)
    assert [str(event[0]) for event in came[bad]] == ["broken"]
    assert len(came[good]) == 3


def test_a_request_that_fails_while_some_of_its_texts_run_leaves_the_others() -> None:
    class Passing:
        waits = False

        def forced_id(self) -> None:
            return None

        def push(self, text: str) -> str:
            return text

        flush = push

    made: list[Passing] = []

    def make_guide() -> Passing:
        if len(made) == 2:
            raise ValueError("broken")
        made.append(Passing())
        return made[-1]

    def options(count: int, top_k: int = 0) -> SamplingOptions:
        return sampling_options(max_new_tokens=count, min_new_tokens=count, top_k=top_k)

    def backend() -> RuleBackend:
        return RuleBackend(table(V), context_length=6)

    engine = Engine(backend(), CHARACTERS, batch_size=5)
    good = [
        Request(prompt("a"), options(3)),  # its place is taken by the text that fails
        Request(prompt("b"), options(9), seed=5),
        Request(prompt("c"), options(9, top_k=3), seed=6),
    ]
    # Its context is full first, so that its rows come to stand before those of the others.
    bad = Request(Prompt("aaaaa", [2] * 5, make_guide=make_guide), options(9), num=3)
    numbers = [engine.submit(request) for request in (*good, bad)]
    came = finished(engine)
    assert str(came[numbers[-1]][-1][0]) == "broken" and len(came[numbers[-1]]) > 1
    for number, request in zip(numbers[:-1], good, strict=True):
        assert plain(came[number]) == plain(alone(backend(), request))


# --- scores ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rule", "NumPy GPT"])
def test_an_echo_scores_each_token_of_the_prompt_from_its_beginning_on(name: str) -> None:
    backend = BACKENDS[name]()
    engine = Engine(backend, CHARACTERS)
    numbers = [
        engine.submit(Request(prompt(text), num=0, echo=True, logprobs=2))
        for text in ("abcabcab", "", "c")
    ]
    came: dict[int, EchoEvent] = {}
    while engine.busy:
        for event in engine.step():
            assert isinstance(event, EchoEvent)
            came[event.request] = event
    assert came[numbers[1]].scored == [] and len(came[numbers[2]].scored) == 1
    scored = came[numbers[0]].scored
    assert len(scored) == 8
    ids = [STOP, *CHARACTERS.encode("abcabcab").tolist()]
    limit = backend.context_length or 99
    for place, one in enumerate(scored, 1):
        if place <= limit:
            seen = np.array([ids[:place]])
            logprobs = log_probabilities(backend.prefill(seen, np.array([place]))[0][0])
            assert one and one.logprob == pytest.approx(logprobs[ids[place]], abs=1e-5)
            assert list(one.likeliest) == np.argsort(-logprobs)[:2].tolist()


def test_tokens_are_scored_with_the_likeliest_and_so_is_the_stop() -> None:
    rule = table(V)
    engine = Engine(RuleBackend(rule), CHARACTERS)
    engine.submit(Request(prompt("ab"), sampling_options(top_k=1), seed=1, logprobs=3))
    seen, ended = [STOP, *CHARACTERS.encode("ab").tolist()], None
    while engine.busy:
        for event in engine.step():
            assert isinstance(event, TokenEvent) and event.scored
            logprobs = log_probabilities(rule(tuple(seen)))
            new_id = STOP if event.id is None else event.id
            assert event.scored.logprob == pytest.approx(logprobs[new_id], abs=1e-6)
            assert list(event.scored.likeliest) == np.argsort(-logprobs)[:3].tolist()
            seen.append(new_id)
            ended = event.finish_reason
    assert ended in ("stop", "length")


@pytest.mark.parametrize("count", [-1, 51])
def test_more_than_fifty_likeliest_tokens_are_refused(count: int) -> None:
    with pytest.raises(GenerationError, match=f"logprobs is {count}: give a number from 0 to 50"):
        Request(prompt("a"), logprobs=count)


# --- many rows at once -----------------------------------------------------------------------


class Past:
    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.history = rng.integers(size, size=rng.integers(1, 12))
        self.prompt_length = int(rng.integers(0, len(self.history)))
        self.count = len(self.history) - self.prompt_length
        self.copied = rng.integers(size, size=rng.integers(0, 2))
        self.waits = bool(rng.integers(2))


@pytest.mark.parametrize("size", [10, 600])
def test_many_rows_are_sampled_as_each_alone_to_the_bit(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(size)
    pairs = [{**a, **b} for a, b in product(SETTINGS, [{}, *SETTINGS]) if a != b]
    for number, setting in enumerate(pairs):
        monkeypatch.setattr("textwright.writing.sampling.TOGETHER", size * (1 + number % 9))
        options = sampling_options(**setting)
        rows = int(rng.integers(1, 12))
        logits = (2 * rng.standard_normal((rows, size))).astype(np.float32)
        logits[rng.random(logits.shape) < 0.1] = -np.inf
        if number % 5 == 0:
            logits[0] = -np.inf
        if number % 7 == 0:
            logits[-1, 3] = np.nan
        draws, pasts = rng.random(rows), [Past(rng, size) for _ in range(rows)]
        ids, troubles = choose(logits.copy(), options, draws, pasts, STOP)
        for row, (own, past) in enumerate(zip(logits, pasts, strict=True)):
            copied = past.copied if options.sees_history else np.empty(0, np.int64)
            arguments = (past.history, past.prompt_length, STOP, copied, past.waits)
            try:
                left = process(own, options, *arguments)
                expected = left.argmax() if options.temperature == 0 else draw(left, draws[row])
            except GenerationError as error:
                assert type(troubles[row]) is type(error)
                assert isinstance(error, NoTokenLeftError) or "finite" in str(error)
            else:
                assert row not in troubles and ids[row] == expected, setting


def test_draws_of_a_text_are_the_generators_own_one_by_one() -> None:
    one = uniforms(3, 1)
    assert uniforms(3, 1).random(70).tolist() == [one.random() for _ in range(70)]


# --- keys and values -------------------------------------------------------------------------


def test_rows_leave_and_join_without_a_copy_of_the_others() -> None:
    backend = real_backend("NumPy GPT")
    ids = np.random.default_rng(0).integers(2, V, (6, 4))
    _, state = backend.prefill(ids, np.full(6, 4))
    _, state = backend.step(ids[:, 0], state)
    keys = state.store.layers[0][0]
    fewer = state.select([0, 2, 5])
    assert fewer.store.layers[0][0] is keys
    _, fewer = backend.step(ids[:3, 1], fewer)
    assert fewer.store.layers[0][0] is keys
    del state  # the slots of rows 1, 3 and 4 are free
    _, other = backend.prefill(ids[:2, :3], np.full(2, 3))
    joined = NumpyKeyValueState.concat([fewer, other])
    assert joined.store.layers[0][0] is keys
    assert sorted(joined.rows.slots.tolist()) == [0, 1, 2, 3, 5]
    before = keys[[0, 2, 5], :, :6].copy()
    backend.step(ids[:5, 2], joined)
    np.testing.assert_array_equal(keys[[0, 2, 5], :, :6], before)


def test_rows_leave_torchs_tensors_when_half_of_them_have_left() -> None:
    backend = real_backend("torch GPT")
    ids = np.random.default_rng(0).integers(2, V, (6, 6))
    lengths = np.array([4, 4, 2, 4, 3, 4])

    def check(logits: np.ndarray, rows: list[int], steps: int) -> None:
        for place, row in enumerate(rows):
            seen = np.r_[ids[row, : lengths[row]], [ids[row, 4]] * steps][None]
            alone, _ = backend.prefill(seen, np.array([seen.size]))
            np.testing.assert_allclose(logits[place], alone[0], atol=1e-5)

    _, state = backend.prefill(ids[:, :4], lengths)
    _, state = backend.step(ids[:, 4], state)
    keys = state.layers[0][0]
    rows = [5, 0, 2, 4]
    logits, fewer = backend.step(ids[rows, 4], state.select(rows))
    check(logits, rows, 2)
    assert fewer.layers[0][0] is keys
    logits, _ = backend.step(ids[:, 4], state)  # all of them go on, from a copy
    check(logits, list(range(6)), 2)
    logits, few = backend.step(ids[[2, 5], 4], fewer.select([2, 0]))
    check(logits, [2, 5], 3)
    assert len(few.layers[0][0]) == 2


def test_a_store_shrinks_when_most_of_it_is_free() -> None:
    backend = real_backend("NumPy GPT")
    ids = np.random.default_rng(0).integers(2, V, (16, 3))
    _, state = backend.prefill(ids[:, :2], np.full(16, 2))
    _, state = backend.step(ids[:, 2], state)
    logits, few = backend.step(ids[:2, 0], state.select([7, 3]))
    assert len(few.store.layers[0][0]) < len(state.store.layers[0][0])
    again, _ = backend.prefill(np.c_[ids[[7, 3]], ids[:2, 0]], np.full(2, 4))
    np.testing.assert_allclose(logits, again, atol=1e-5)


def test_a_row_named_twice_goes_on_in_two_ways() -> None:
    backend = real_backend("NumPy GPT")
    ids = np.array([[2, 3, 4]])
    _, state = backend.prefill(ids, np.array([3]))
    _, kept = backend.step(np.array([2]), state)
    _, twins = backend.step(np.array([3, 4]), state.select([0, 0]))
    logits, _ = backend.step(np.array([4, 4]), twins)
    first, _ = backend.step(np.array([4]), kept)
    for found, row in [
        (logits[0], [2, 3, 4, 3, 4]),
        (logits[1], [2, 3, 4, 4, 4]),
        (first[0], [2, 3, 4, 2, 4]),
    ]:
        again, _ = backend.prefill(np.array([row]), np.array([5]))
        np.testing.assert_allclose(found, again[0], atol=1e-5)


def test_a_mixture_keeps_texts_apart_that_began_as_one() -> None:
    backend = BACKENDS["mixture"]()
    _, state = backend.prefill(np.array([[0, 2, 3]]), np.array([3]))
    _, one = backend.step(np.array([4]), state)
    _, other = backend.step(np.array([2]), state)
    assert one.texts[0].ids.tolist() == [0, 2, 3, 4]
    assert other.texts[0].ids.tolist() == [0, 2, 3, 2]
    _, longer = backend.step(np.array([3]), one)
    assert np.shares_memory(longer.texts[0].ids, one.texts[0].ids)
