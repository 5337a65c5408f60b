"""The decode loop over a small backend whose probabilities are known exactly."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from types import SimpleNamespace
from typing import Self

import numpy as np
import pytest
from seeds import count_differences, probabilities

from textwright.backends.numpy_lstm import NumpyLSTM
from textwright.errors import GenerationError
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.writing.backend import looks_back, window_start
from textwright.writing.generator import Generator
from textwright.writing.prompt import Prompt
from textwright.writing.sampling import process, uniforms
from textwright.writing.sampling_options import sampling_options
from textwright.writing.sampling_steps import draw
from textwright.writing.stream import Sample
from textwright.writing.text import StopWatch

CHARACTERS = Tokenizer.train(
    TokenizerOptions(kind="char", vocab_size=8), ["aaabbc"]
)  # a b c: 2 3 4
WORDS = Tokenizer.train(TokenizerOptions(kind="word", vocab_size=9), ["one two three , four"])
BYTES = Tokenizer.train(TokenizerOptions(kind="bpe", vocab_size=257), ["é"])

Rule = Callable[[tuple[int, ...]], np.ndarray]


def table(vocab_size: int, seed: int = 0) -> Rule:
    """Next-token logits that depend on the last two ids; id 1 never comes."""
    logits = np.random.default_rng(seed).standard_normal((vocab_size, vocab_size, vocab_size))
    logits[..., 1] = -np.inf
    return lambda seen: logits[seen[-2] if len(seen) > 1 else 1, seen[-1]].astype(np.float32)


def whole_context(vocab_size: int) -> Rule:
    """Next-token logits that depend on every id seen and on its place."""
    return lambda seen: np.random.default_rng(seen).standard_normal(vocab_size, dtype=np.float32)


@dataclass
class SeenState:
    seen: list[tuple[int, ...]]

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(ids) for ids in self.seen])

    def select(self, rows: Sequence[int]) -> Self:
        return type(self)([self.seen[row] for row in rows])

    @classmethod
    def concat(cls, states: Sequence[Self]) -> Self:
        return cls([ids for state in states for ids in state.seen])


@dataclass
class RuleBackend:
    """Remembers what each row has read, applies the rule, and keeps count of its work."""

    rule: Rule
    context_length: int | None = None
    read: list[tuple[int, ...]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def prefill(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, SeenState]:
        seen = [tuple(row[:length].tolist()) for row, length in zip(ids, lengths, strict=True)]
        self.read += seen
        return self._logits(seen)

    def step(self, ids: np.ndarray, state: SeenState) -> tuple[np.ndarray, SeenState]:
        self.rows.append(len(ids))
        return self._logits([(*seen, int(new)) for seen, new in zip(state.seen, ids, strict=True)])

    def follow(self, ids: np.ndarray, state: SeenState) -> tuple[np.ndarray, SeenState]:
        found = []
        for new in ids.T:
            logits, state = self.step(new, state)
            found.append(logits)
        return np.stack(found, 1), state

    def _logits(self, seen: list[tuple[int, ...]]) -> tuple[np.ndarray, SeenState]:
        assert self.context_length is None or max(map(len, seen)) <= self.context_length
        return np.stack([self.rule(ids) for ids in seen]), SeenState(seen)


def characters(batch_size: int = 32, seed: int = 0) -> Generator:
    return Generator(RuleBackend(table(5, seed)), CHARACTERS, batch_size=batch_size)


def lstm(tokenizer: Tokenizer, batch_size: int = 32) -> Generator:
    rng, v, e, h = np.random.default_rng(5), tokenizer.vocab_size, 6, 12
    shapes = {
        "embedding": (v, e),
        "layers.0.input_weight": (4 * h, e),
        "layers.0.recurrent_weight": (4 * h, h),
        "layers.0.bias": (4 * h,),
        "output.weight": (v, h),
        "output.bias": (v,),
    }
    weights = {name: rng.standard_normal(s, dtype=np.float32) for name, s in shapes.items()}
    return Generator(NumpyLSTM(weights), tokenizer, batch_size=batch_size)


def assert_follows(counts: Counter[str], expected: dict[str, float]) -> None:
    """Chi-square of texts against their probabilities; false alarm about 1 in 10^6."""
    times = counts.total()
    assert counts.keys() <= {text for text, p in expected.items() if p > 0}
    common = {text: times * p for text, p in expected.items() if times * p >= 5}
    statistic = sum((counts[text] - n) ** 2 / n for text, n in common.items())
    # What is rare is counted together.
    if (rare := times - sum(common.values())) >= 5:
        statistic += (times - sum(counts[text] for text in common) - rare) ** 2 / rare
    freedom = len(common) - (rare < 5)
    assert freedom > 1, "too few texts are common enough for a test"
    # Wilson and Hilferty's normal form of chi-square; 4.8 standard deviations are 1 in 10^6.
    normal = ((statistic / freedom) ** (1 / 3) - 1 + 2 / (9 * freedom)) / math.sqrt(
        2 / (9 * freedom)
    )
    assert normal < 4.8


# --- what is written -------------------------------------------------------------------------


@pytest.mark.parametrize("setting", [{}, {"temperature": 0.6, "no_repeat_ngram": 2, "top_k": 3}])
def test_texts_follow_the_enumerated_distribution(setting: dict[str, float]) -> None:
    """Every text of at most 3 tokens, with its exact probability."""
    rule, prompt = table(5), CHARACTERS.encode("ab").tolist()
    options = sampling_options(max_new_tokens=3, **setting)
    expected: dict[str, float] = {}

    def spread(new: list[int], p: float) -> None:
        if len(new) == 3:
            expected[CHARACTERS.decode(new)] = p
            return
        ids = np.array(prompt + new, np.int64)
        shares = probabilities(process(rule((0, *ids)), options, ids, len(prompt), 0))
        expected[CHARACTERS.decode(new)] = p * shares[0]
        for token in np.flatnonzero(shares[1:]) + 1:
            spread([*new, int(token)], p * shares[token])

    spread([], 1.0)
    assert sum(expected.values()) == pytest.approx(1)
    samples = characters(batch_size=500).generate("ab", options, num=8000, seed=3)
    assert_follows(Counter(sample.text for sample in samples), expected)


def test_greedy_writes_the_likeliest_token_each_time() -> None:
    rule = table(5)
    sample = characters().generate("a", sampling_options(temperature=0, max_new_tokens=9))[0]
    seen = [0, 2]
    for token in sample.ids:
        assert token == rule(tuple(seen)).argmax()
        seen.append(token)


def test_a_draw_uses_the_uniform_of_its_seed_sample_and_position() -> None:
    rule = table(5)
    for k, sample in enumerate(characters().generate("ab", num=5, seed=11)):
        draws, seen = uniforms(11, k), [0, 2, 3]
        for token in sample.ids:
            assert token == draw(rule(tuple(seen)), draws.random())
            seen.append(token)


@pytest.mark.parametrize(
    "make", [lstm, lambda t, b: Generator(RuleBackend(table(5)), t, batch_size=b)]
)
def test_a_text_depends_on_neither_batch_nor_other_prompts(
    make: Callable[[Tokenizer, int], Generator],
) -> None:
    options = sampling_options(max_new_tokens=30, top_p=0.95)
    prompts = ["ab", "", "ccacb", "b"]

    def write(batch_size: int, prompts: list[str], num: int = 3) -> list[Sample]:
        return make(CHARACTERS, batch_size).generate(prompts, options, num=num, seed=2)

    whole = write(32, prompts)
    assert len({sample.text for sample in whole}) > 6
    ways: list[tuple[int, list[str], int]] = [(size, prompts, 3) for size in (1, 2, 5, 12)]
    ways.append((4, prompts[::-1], 3))
    ways += [(32, [prompt], num) for prompt in prompts for num in (1, 3)]
    differences = 0
    for batch_size, some, num in ways:
        own = [s for prompt in some for s in [s for s in whole if s.prompt == prompt][:num]]
        others = write(batch_size, some, num)
        differences += count_differences(make(CHARACTERS, 1), options, 2, own, others)
    assert differences <= (make is lstm)  # of 76 texts; the other backend computes no products


def test_a_prompt_given_again_counts_on() -> None:
    together = characters().generate("ab", num=4, seed=9)
    apart = characters().generate(["ab", "c", "ab"], num=2, seed=9)
    assert [s.text for s in apart if s.prompt == "ab"] == [s.text for s in together]


def test_prompts_that_only_read_alike_do_not_count_on() -> None:
    halves = [Prompt("\ufffd", [half]) for half in BYTES.encode("é").tolist()]
    options, generator = sampling_options(), lstm(BYTES)
    assert halves[0].ids != halves[1].ids
    together = generator.requests([*halves, halves[0]], options, num=2)
    assert [request.first for request in together] == [0, 0, 2]


def test_seeds_and_samples_differ() -> None:
    first = characters().generate("ab", num=20, seed=1)
    other = characters().generate("ab", num=20, seed=2)
    assert [s.text for s in first] != [s.text for s in other]
    assert len({s.text for s in first}) > 5


def test_an_empty_prompt_begins_after_the_stop_id() -> None:
    generator = characters()
    generator.generate("", num=2)
    assert generator.backend.read == [(0,)]


# --- streaming -------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [CHARACTERS, WORDS, BYTES], ids=lambda t: t.kind)
def test_streamed_pieces_make_up_the_text(tokenizer: Tokenizer) -> None:
    options = sampling_options(max_new_tokens=25)
    stream = lstm(tokenizer, batch_size=3).stream(["a", "one two", ""], options, num=2, seed=4)
    pieces: dict[int, list[str]] = {n: [] for n in range(6)}
    ids: dict[int, list[int]] = {n: [] for n in range(6)}
    ended: dict[int, str] = {}
    for event in stream:
        assert event.sample not in ended
        pieces[event.sample].append(event.text)
        if event.id is not None:
            ids[event.sample].append(event.id)
        if event.finish_reason:
            ended[event.sample] = event.finish_reason
    samples = lstm(tokenizer, 3).generate(["a", "one two", ""], options, num=2, seed=4)
    assert stream.tokens == sum(map(len, ids.values()))
    assert stream.tokens_per_second == stream.tokens / stream.seconds
    for number, sample in enumerate(samples):
        prompt_ids = tokenizer.encode(sample.prompt).tolist()
        assert sample.prompt == ["a", "one two", ""][number // 2]
        assert sample.ids == ids[number]
        assert sample.text == "".join(pieces[number])
        assert sample.finish_reason == ended[number]
        whole = tokenizer.decode(prompt_ids + sample.ids)
        assert tokenizer.decode(prompt_ids) + sample.text == whole


def test_samples_come_in_order_and_before_the_last_is_begun() -> None:
    generator = characters(batch_size=8)
    stream = generator.stream("a", sampling_options(max_new_tokens=5), num=10_000, seed=5)
    first = next(stream.samples())
    assert first == characters().generate("a", sampling_options(max_new_tokens=5), seed=5)[0]
    assert stream.tokens < 200
    assert max(generator.backend.rows) <= 8


def test_seconds_do_not_count_the_reader() -> None:
    stream = characters().stream("a", sampling_options(max_new_tokens=3))
    assert stream.tokens_per_second == 0
    next(stream)
    spent = stream.seconds
    characters().generate("a", num=50)  # a reader who takes their time
    assert stream.seconds == spent > 0


# --- batches ---------------------------------------------------------------------------------


def test_a_prompt_is_read_once_and_never_more_rows_run_than_allowed() -> None:
    generator = characters(batch_size=6)
    options = sampling_options(max_new_tokens=12)
    samples = generator.generate(["abc", "b"], options, num=20)
    assert len(samples) == 40
    assert generator.backend.read == [(0, 2, 3, 4), (0, 3)]
    assert max(generator.backend.rows) == 6


def test_rows_leave_when_they_are_finished() -> None:
    generator = characters()
    samples = generator.generate("a", sampling_options(max_new_tokens=20), num=30)
    # A row is stepped once for each of its tokens but a last one that reached the limit.
    steps = sum(len(s.ids) - (s.finish_reason == "length") for s in samples)
    assert sum(generator.backend.rows) == steps
    assert len({len(s.ids) for s in samples}) > 3


# --- where texts end -------------------------------------------------------------------------


def script(*ids: int) -> Generator:
    """Writes exactly these ids, then the stop id, over and over."""
    script = (*ids, 0)

    def rule(seen: tuple[int, ...]) -> np.ndarray:
        logits = np.full(CHARACTERS.vocab_size, -9, np.float32)
        logits[script[(len(seen) - 1) % len(script)]] = 9
        return logits

    return Generator(RuleBackend(rule), CHARACTERS)


A, B, C = 2, 3, 4


def written(generator: Generator, **setting: object) -> tuple[str, int, str]:
    sample = generator.generate("", sampling_options(temperature=0, **setting))[0]
    return sample.text, len(sample.ids), sample.finish_reason


def test_the_stop_id_ends_the_text_and_is_not_part_of_it() -> None:
    assert written(script(A, B)) == ("ab", 2, "stop")
    assert written(script()) == ("", 0, "stop")


def test_lengths_count_new_tokens() -> None:
    assert written(script(A, B, C), max_new_tokens=2) == ("ab", 2, "length")
    assert written(script(A, B, C), max_new_tokens=3) == ("abc", 3, "length")
    # The script wants to end after one token, and may not before the fourth.
    _, count, _ = written(script(A), min_new_tokens=4, max_new_tokens=9)
    assert count >= 4
    assert written(script(A), max_new_tokens=1, min_new_tokens=1) == ("a", 1, "length")


def test_the_prompt_does_not_count_as_length() -> None:
    options = sampling_options(temperature=0, max_new_tokens=2)
    assert script(A, A, A, B, C, B).generate("aaa", options)[0].text == "bc"


def test_a_stop_text_that_straddles_tokens_ends_the_text() -> None:
    assert written(script(A, B, C, A), stop=["bc"]) == ("a", 3, "stop")
    assert written(script(A, B, B, C, A), stop=["bc"]) == ("ab", 4, "stop")
    assert written(script(A, B, C), stop=["abc"]) == ("", 3, "stop")
    assert written(script(A, B, C, A), stop=["bca", "cb", "c"]) == ("ab", 3, "stop")


def test_text_held_back_for_a_stop_text_is_shown_at_the_end() -> None:
    assert written(script(A, B), stop=["bc"]) == ("ab", 2, "stop")
    assert written(script(A, B, C), stop=["bc"], max_new_tokens=2) == ("ab", 2, "length")
    events = list(script(A, B, A).stream("", sampling_options(temperature=0, stop=["bc"])))
    assert [event.text for event in events] == ["a", "", "ba", ""]


def test_a_stop_text_within_the_minimum_length_does_not_end_the_text() -> None:
    assert written(script(A, B, A, B), stop=["b"], min_new_tokens=2) == ("aba", 4, "stop")
    assert written(script(A, B, A, B), stop=["ba"], min_new_tokens=2) == ("abab", 4, "stop")


def test_a_character_cut_in_half_is_shown_when_no_more_comes() -> None:
    half = BYTES.encode("é").tolist()[0]

    def rule(seen: tuple[int, ...]) -> np.ndarray:
        return np.eye(BYTES.vocab_size, dtype=np.float32)[half]

    options = sampling_options(temperature=0, max_new_tokens=1)
    assert Generator(RuleBackend(rule), BYTES).generate("x", options)[0].text == "\ufffd"


def test_the_stop_watch_does_not_care_how_text_is_cut_into_pieces() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        text = "".join(rng.choice(list("ab"), rng.integers(0, 12)))
        stops = ["".join(rng.choice(list("ab"), rng.integers(1, 5))) for _ in range(2)]
        # The stop text whose end comes first; of those that end there, the longest.
        ends = [
            (end, -len(stop))
            for end, stop in product(range(len(text) + 1), stops)
            if text[:end].endswith(stop)
        ]
        expected = text[: sum(min(ends))] if ends else text
        watch, shown, place = StopWatch(stops), "", 0
        while place < len(text):
            size = int(rng.integers(1, 4))
            shown += watch.push(text[place : place + size])
            assert expected.startswith(shown)
            place += size
        assert shown + watch.flush() == expected
        assert watch.found == bool(ends)


# --- a limited context -----------------------------------------------------------------------


def test_the_window_keeps_the_newest_half_when_it_is_full() -> None:
    starts = [window_start(count, 6) for count in range(1, 17)]
    assert starts == [0] * 6 + [4] * 4 + [8] * 4 + [12] * 2
    assert [window_start(count, 1) for count in range(1, 5)] == [0, 1, 2, 3]
    assert window_start(1000, None) == 0
    for limit, count in product(range(1, 12), range(1, 60)):
        seen = count - window_start(count, limit)
        assert seen <= limit
        if window_start(count, limit) != window_start(count - 1, limit):
            assert seen == max(1, limit // 2)


@pytest.mark.parametrize("limit", [1, 2, 5, 8])
@pytest.mark.parametrize("setting", [{"temperature": 0}, {}], ids=str)
def test_texts_beyond_the_context_equal_the_uncached_ones(
    limit: int, setting: dict[str, float]
) -> None:
    rule = whole_context(CHARACTERS.vocab_size)
    options = sampling_options(max_new_tokens=25, min_new_tokens=25, forbid=[1], **setting)
    prompts = ["", "abcabcabcabcabc", "ab"]
    generator = Generator(RuleBackend(rule, context_length=limit), CHARACTERS, batch_size=4)
    for number, sample in enumerate(generator.generate(prompts, options, num=2, seed=6)):
        prompt = CHARACTERS.encode(sample.prompt).tolist()
        draws, ids = uniforms(6, number % 2), [0, *prompt]
        for token in sample.ids:
            seen = tuple(ids[window_start(len(ids), limit) :])
            written = np.array(ids[1:], np.int64)
            logits = process(rule(seen), options, written, len(prompt), 0)
            assert token == draw(logits, draws.random())
            ids.append(token)
        assert len(ids) == 26 + len(prompt)


# --- warnings and refusals -------------------------------------------------------------------


def test_words_that_are_not_in_the_vocabulary_are_listed() -> None:
    prompts = ["one quark two", "two", "zen , zen quark"]
    stream = lstm(WORDS).stream(prompts, sampling_options(max_new_tokens=2))
    assert [prompt.unknown for prompt in stream.prompts] == [["quark"], [], ["zen", "quark"]]
    assert len(list(stream.samples())) == 3
    assert lstm(BYTES).stream("never seen").prompts[0].unknown == []


def test_a_space_that_ends_a_prompt_is_not_written_twice_and_noticed_where_it_hinders() -> None:
    options = sampling_options(max_new_tokens=4)
    (spaced,), (plain,) = (lstm(WORDS).generate(p, options) for p in ("one two \n", "one two"))
    assert spaced == plain
    assert lstm(BYTES).stream(["one", "one "]).ends_in_space
    wide = Tokenizer.train(TokenizerOptions(kind="bpe", vocab_size=258), ["a    b"] * 3)
    assert len(wide.encode("one  ")) == 4 and lstm(wide).stream("one  ").ends_in_space
    assert not lstm(BYTES).stream("one").ends_in_space
    assert not lstm(CHARACTERS).stream("one ").ends_in_space


def test_tokens_are_named_by_text_or_id() -> None:
    generator = lstm(WORDS)
    options = sampling_options(forbid=["two", "[UNK]", 0], logit_bias={"three": -100})
    samples = generator.generate("one", options, num=20)
    used = {token for sample in samples for token in WORDS.tokens(sample.ids)}
    assert used == {"one", ",", "four"}


def test_a_letter_of_several_bytes_is_not_taken_for_the_byte_that_is_spelled_so() -> None:
    with pytest.raises(GenerationError, match="'ñ' is not one token of this model: it is"):
        lstm(BYTES).stream("one", sampling_options(forbid=["ñ"]))


def test_a_seed_may_be_a_number_of_numpy() -> None:
    assert lstm(WORDS).generate("one", seed=np.int64(3)) == lstm(WORDS).generate("one", seed=3)


def test_a_mixture_looks_back_as_far_as_its_neural_model() -> None:
    neural = SimpleNamespace(context_length=8)
    assert looks_back(neural) == 8
    assert looks_back(SimpleNamespace(context_length=None, neural=neural)) == 8


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"forbid": ["one two"]}, r"'one two' is not one token .*\['one', 'two'\]"),
        ({"forbid": ["quark"]}, r"'quark' is not one token .*\['\[UNK\]'\]"),
        ({"forbid": [7]}, "no token 7: ids go from 0 to 6"),
        ({"logit_bias": {-1: 2.0}}, "no token -1"),
    ],
)
def test_what_is_no_token_is_refused(setting: dict[str, object], sentence: str) -> None:
    with pytest.raises(GenerationError, match=sentence):
        lstm(WORDS).stream("one", sampling_options(**setting))


def test_wrong_use_is_refused_before_anything_is_written() -> None:
    with pytest.raises(GenerationError, match="--num is 0"):
        characters().stream("a", num=0)
    with pytest.raises(GenerationError, match="seed -1"):
        characters().stream("a", seed=-1)
    with pytest.raises(GenerationError, match="batch size is 0"):
        characters(batch_size=0)


def test_no_prompt_gives_no_text() -> None:
    assert characters().generate([]) == []
    assert list(characters().stream([])) == []


def test_one_prompt_may_be_given_as_it_is() -> None:
    assert characters().generate("ab") == characters().generate(["ab"])
    assert isinstance(characters().generate("ab")[0], Sample)


# --- a text that cannot go on ----------------------------------------------------------------


def test_a_text_without_a_token_left_ends_with_what_it_has() -> None:
    options = sampling_options(no_repeat_ngram=1, min_new_tokens=9, temperature=0)
    (sample,) = characters().generate("", options)
    assert sample.finish_reason == "no_token_left"
    assert sorted(sample.ids) == [A, B, C] and len(sample.text) == 3


def test_the_other_texts_go_on() -> None:
    options = sampling_options(no_repeat_ngram=2, min_new_tokens=9, max_new_tokens=9)
    prompts = ["aabacbbcc", "c", ""]
    found = characters(batch_size=2).generate(prompts, options, num=3, seed=1)
    assert [s.finish_reason for s in found[:3]] == ["no_token_left"] * 3
    assert "length" in [s.finish_reason for s in found[3:]]
    alone = [s for p in prompts for s in characters().generate(p, options, num=3, seed=1)]
    assert found == alone


def test_what_was_held_back_for_a_stop_text_is_shown_where_no_token_is_left() -> None:
    options = sampling_options(no_repeat_ngram=1, forbid=["c", 0], stop=["bc", "ac"])
    stream = characters().stream("", options)
    (sample,) = stream.samples()
    assert (sorted(sample.text), sample.finish_reason) == (["a", "b"], "no_token_left")
    assert stream.endings == {"no_token_left": 1}


def test_logits_that_are_no_numbers_stay_an_error() -> None:
    def rule(seen: tuple[int, ...]) -> np.ndarray:
        return np.full(5, np.nan if len(seen) > 3 else 0, np.float32)

    with pytest.raises(GenerationError, match="logits are not finite numbers"):
        Generator(RuleBackend(rule), CHARACTERS).generate(
            ["a", "b"], sampling_options(min_new_tokens=5)
        )


# --- an error while writing ------------------------------------------------------------------


@dataclass
class FailingBackend(RuleBackend):
    """Raises an error at its last step."""

    steps_left: int = 3
    error: BaseException = field(default_factory=MemoryError)

    def step(self, ids: np.ndarray, state: SeenState) -> tuple[np.ndarray, SeenState]:
        self.steps_left -= 1
        if not self.steps_left:
            raise self.error
        return super().step(ids, state)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), GenerationError("broken")])
def test_texts_that_were_finished_out_of_turn_come_before_the_error(error: BaseException) -> None:
    def rule(seen: tuple[int, ...]) -> np.ndarray:
        logits = np.full(5, -9, np.float32)
        logits[0 if seen[1] == B and len(seen) > 2 else A] = 9
        return logits

    backend = FailingBackend(rule, error=error, steps_left=4)
    options, came = sampling_options(temperature=0), []
    with pytest.raises((GenerationError, KeyboardInterrupt)):
        for sample in Generator(backend, CHARACTERS).stream(["b", "a", "b"], options).samples():
            came.append((sample.prompt, sample.text))
    assert came == [("b", "a"), ("b", "a")]


class FullArrays(RuleBackend):
    """NumPy itself runs out of memory at the first step."""

    def step(self, ids: np.ndarray, state: SeenState) -> tuple[np.ndarray, SeenState]:
        return np.empty((len(ids), 2**55), np.float32), state


@pytest.mark.parametrize(
    ("setting", "num", "batch_size", "sentence"),
    [
        ({}, 40, 32, "writing 32 texts at the same time: write fewer with --batch-size 16"),
        ({}, 5, 32, "writing 5 texts at the same time: write fewer with --batch-size 2"),
        ({}, 40, 1, "writing a text: shorten the prompt or --max-new-tokens"),
        ({"beams": 3}, 1, 32, "writing 3 texts at the same time: use fewer --beams"),
    ],
)
def test_memory_that_runs_out_is_a_sentence_with_a_remedy(
    setting: dict[str, int], num: int, batch_size: int, sentence: str
) -> None:
    generator = Generator(FullArrays(table(5)), CHARACTERS, batch_size=batch_size)
    with pytest.raises(GenerationError, match=sentence):
        generator.generate("a", sampling_options(**setting), num=num)


def test_memory_that_runs_out_in_beams_of_several_prompts_asks_for_a_smaller_batch() -> None:
    generator = Generator(FullArrays(table(5)), CHARACTERS)
    with pytest.raises(GenerationError, match=r"30 texts at the same time: .* --batch-size 15"):
        generator.generate(list("abc") * 9, sampling_options(beams=3))
