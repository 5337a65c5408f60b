"""Every option against probabilities enumerated in plain Python, alone and in pairs."""

import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from math import inf, nan
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from seeds import probabilities

from textwright.errors import GenerationError
from textwright.writing import sampling
from textwright.writing.sampling import penalize, process, uniforms
from textwright.writing.sampling_options import SamplingOptions, explain, sampling_options
from textwright.writing.sampling_steps import draw, draw_rows, keep_top_p

STOP = 0


def choose(logits: np.ndarray, options: SamplingOptions, uniform: float) -> int:
    """The next id of one row."""
    none = IDS[:0]
    past = SimpleNamespace(history=none, prompt_length=0, count=0, copied=none, waits=False)
    row = logits[None].copy()
    (new_id,), troubles = sampling.choose(row, options, np.array([uniform]), [past], STOP)
    for trouble in troubles.values():
        raise trouble
    return new_id


PROMPT, TEXT = [4, 2, 5, 4], [3, 2, 3, 1, 3, 2]
IDS = np.array(PROMPT + TEXT, np.int64)


def processed(
    logits: np.ndarray,
    options: SamplingOptions,
    prompt: list[int] = PROMPT,
    text: list[int] = TEXT,
    least: int = 1,
) -> dict[int, float]:
    """The logits of the tokens that the sampling order leaves, by plain sums over the tokens.

    A filter leaves `least` tokens, whatever it is set to.
    """
    o = options
    x = {token: float(value) for token, value in enumerate(logits) if value > -inf}
    for token, bias in o.logit_bias.items():
        if int(token) in x:
            x[int(token)] += bias
    for token in o.forbid:
        x.pop(int(token), None)
    for token in set(prompt + text) & set(x):
        worse = x[token] * o.repetition_penalty, x[token] / o.repetition_penalty
        x[token] = worse[0] if x[token] < 0 else worse[1]
    for token, count in Counter(text).items():
        if token in x:
            x[token] -= o.presence_penalty + count * o.frequency_penalty
    n, ids = o.no_repeat_ngram, prompt + text
    if n:
        grams = {tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)}
        x = {t: v for t, v in x.items() if (*ids[len(ids) - n + 1 :], t) not in grams}
    if len(text) < o.min_new_tokens:
        x.pop(STOP, None)

    def until(share: float, ranked: list[int], p: dict[int, float]) -> set[int]:
        kept: set[int] = set()
        for token in ranked:
            if sum(p[t] for t in kept) < share - 1e-9 or len(kept) < least:
                kept.add(token)
        return kept

    if o.temperature == 0:
        best = min(x, key=lambda token: (-x[token], token))
        return {best: x[best]}
    if o.temperature != inf:
        x = {token: value / o.temperature for token, value in x.items()}
    if o.top_k:
        floor = sorted(x.values(), reverse=True)[: max(o.top_k, least)][-1]
        x = {token: value for token, value in x.items() if value >= floor}
    if o.top_p < 1:
        p = shares(x)
        kept = until(o.top_p, sorted(p, key=lambda token: (-p[token], token)), p)
        x = {token: x[token] for token in kept}
    if o.min_p:
        p = shares(x)
        likeliest = sorted(p, key=lambda token: -p[token])[:least]
        x = {t: x[t] for t in x if p[t] >= o.min_p * max(p.values()) or t in likeliest}
    if o.typical_p < 1:
        p = shares(x)
        entropy = -sum(value * math.log(value) for value in p.values())
        away = {token: abs(-math.log(p[token]) - entropy) for token in p}
        kept = until(o.typical_p, sorted(p, key=lambda token: (round(away[token], 7), token)), p)
        x = {token: x[token] for token in kept}
    if o.temperature == inf:
        x = dict.fromkeys(x, 0.0)
    return x


def shares(values: dict[int, float]) -> dict[int, float]:
    total = sum(math.exp(value) for value in values.values())
    return {token: math.exp(value) / total for token, value in values.items()}


def enumerated(logits: np.ndarray, options: SamplingOptions) -> list[float]:
    """The probabilities that the sampling order defines, by plain sums over the tokens."""
    p = shares(processed(logits, options))
    return [p.get(token, 0.0) for token in range(len(logits))]


SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0.4},
    {"temperature": 1.7},
    {"temperature": 0},
    {"temperature": inf},
    {"top_k": 3},
    {"top_p": 0.7},
    {"min_p": 0.2},
    {"typical_p": 0.6},
    {"repetition_penalty": 1.4},
    {"repetition_penalty": 0.8},
    {"presence_penalty": 0.7},
    {"frequency_penalty": 0.5},
    {"frequency_penalty": -0.3},
    {"no_repeat_ngram": 1},
    {"no_repeat_ngram": 2},
    {"logit_bias": {6: 1.5, 2: -2.0}},
    {"forbid": [7, 3]},
    {"min_new_tokens": 7},
    {"min_new_tokens": 6},
]


def assert_as_enumerated(logits: np.ndarray, options: SamplingOptions) -> None:
    before = logits.copy()
    got = probabilities(process(logits, options, IDS, len(PROMPT), STOP))
    np.testing.assert_allclose(got, enumerated(logits, options), atol=3e-6)
    np.testing.assert_array_equal(logits, before)  # the given logits are not changed


@pytest.mark.parametrize("setting", [{}, *SETTINGS], ids=str)
def test_each_option_gives_the_enumerated_probabilities(setting: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        logits = (2 * rng.standard_normal(9)).astype(np.float32)
        assert_as_enumerated(logits, sampling_options(**setting))


@pytest.mark.parametrize("first", range(len(SETTINGS)))
def test_each_pair_of_options_gives_the_enumerated_probabilities(first: int) -> None:
    rng = np.random.default_rng(first)
    for second in range(first + 1, len(SETTINGS)):
        if SETTINGS[first].keys() & SETTINGS[second].keys():
            continue
        options = sampling_options(**SETTINGS[first], **SETTINGS[second])
        for _ in range(8):
            assert_as_enumerated((2 * rng.standard_normal(9)).astype(np.float32), options)


def test_all_options_at_once_give_the_enumerated_probabilities() -> None:
    rng = np.random.default_rng(3)
    options = sampling_options(
        temperature=0.8,
        top_k=6,
        top_p=0.95,
        min_p=0.05,
        typical_p=0.9,
        repetition_penalty=1.2,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        no_repeat_ngram=2,
        logit_bias={6: 1.0},
        forbid=[8],
        min_new_tokens=9,
    )
    for _ in range(100):
        assert_as_enumerated((2 * rng.standard_normal(9)).astype(np.float32), options)


def kept(shares: list[float], **setting: Any) -> list[int]:
    logits = np.log(np.array(shares), dtype=np.float64).astype(np.float32)
    return np.flatnonzero(process(logits, sampling_options(**setting)) > -inf).tolist()


def test_top_k_keeps_ties() -> None:
    assert kept([0.1, 0.3, 0.2, 0.2, 0.2], top_k=2) == [1, 2, 3, 4]
    assert kept([0.25, 0.25, 0.25, 0.25], top_k=1) == [0, 1, 2, 3]
    assert kept([0.6, 0.4], top_k=5) == [0, 1]


def test_top_p_keeps_the_smallest_sufficient_set() -> None:
    assert kept([0.2, 0.5, 0.3], top_p=0.81) == [0, 1, 2]
    assert kept([0.2, 0.5, 0.3], top_p=0.8) == [1, 2]  # exactly enough is enough
    assert kept([0.2, 0.5, 0.3], top_p=0.5) == [1]
    assert kept([0.2, 0.5, 0.3], top_p=1e-9) == [1]


def test_top_p_breaks_ties_by_lower_id() -> None:
    assert kept([0.25, 0.25, 0.25, 0.25], top_p=0.5) == [0, 1]
    assert kept([0.1, 0.3, 0.3, 0.3], top_p=0.55) == [1, 2]


def test_typical_breaks_ties_by_lower_id() -> None:
    # Entropy is 1.5 bits; surprises are 1, 2 and 2 bits: all equally far from it.
    assert kept([0.25, 0.25, 0.5], typical_p=0.4) == [0, 1]
    assert kept([0.5, 0.25, 0.25], typical_p=0.4) == [0]
    assert kept([0.25] * 4, typical_p=0.7) == [0, 1, 2]


def test_min_p_keeps_what_reaches_its_share_of_the_likeliest() -> None:
    assert kept([0.1, 0.5, 0.25, 0.15], min_p=0.3) == [1, 2, 3]
    assert kept([0.1, 0.5, 0.25, 0.15], min_p=0.5) == [1, 2]
    assert kept([0.1, 0.5, 0.25, 0.15], min_p=1) == [1]


def test_infinite_temperature_is_uniform_among_the_top_k() -> None:
    logits = np.log([0.1, 0.4, 0.2, 0.3]).astype(np.float32)
    p = probabilities(process(logits, sampling_options(temperature=inf, top_k=2)))
    assert p.tolist() == [0, 0.5, 0, 0.5]


def test_zero_temperature_takes_the_lowest_of_equal_ids_and_no_random_number() -> None:
    logits = np.array([0, 2, 1, 2], np.float32)
    assert choose(logits, sampling_options(temperature=0), nan) == 1


def test_one_temperature_follows_from_another_by_the_power_law() -> None:
    # Shares published for "recipe for roast" (SYSTEMS.md); what they leave is one further token.
    p = np.array([0.2281, 0.1941, 0.1024, 0.0996, 0.0406, 0.3352])
    cold = probabilities(process(np.log(p).astype(np.float32), sampling_options(temperature=0.2)))
    np.testing.assert_allclose(cold, p**5 / (p**5).sum(), rtol=1e-5)


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e300, 1e40])
def test_extreme_temperatures_are_the_limits(temperature: float) -> None:
    logits = np.array([3, 5, -2, 5, -inf], np.float32)
    p = probabilities(process(logits, sampling_options(temperature=temperature)))
    limit = [0, 0.5, 0, 0.5, 0] if temperature < 1 else [0.25] * 4 + [0]
    np.testing.assert_allclose(p, limit, atol=1e-6)


def test_counts_look_at_the_text_only_and_repetition_at_the_prompt_too() -> None:
    ids = np.array([1, 2, 2], np.int64)  # prompt 1, text 2 2
    counted = np.ones(6, np.float32)
    penalize(counted, sampling_options(presence_penalty=1, frequency_penalty=2), ids, 1)
    assert counted.tolist() == [1, 1, -4, 1, 1, 1]
    repeated = np.ones(6, np.float32)
    penalize(repeated, sampling_options(repetition_penalty=2), ids, 1)
    assert repeated.tolist() == [1, 0.5, 0.5, 1, 1, 1]


# --- drawing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 127, 128, 129, 1000])
def test_draw_inverts_the_cumulative_distribution_in_id_order(size: int) -> None:
    rng = np.random.default_rng(size)
    logits = (3 * rng.standard_normal(size)).astype(np.float32)
    logits[rng.random(size) < 0.3] = -inf
    logits[size // 2] = 1
    cumulative = probabilities(logits).cumsum()
    for uniform in rng.random(300):
        if np.abs(cumulative - uniform).min() > 1e-6:  # float32 weights may differ nearer by
            assert draw(logits, uniform) == np.searchsorted(cumulative, uniform, "right")


@pytest.mark.parametrize("size", [1, 127, 129, 1000, 10_001])
@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_rows_are_drawn_together_as_each_alone(count: int, size: int) -> None:
    rng = np.random.default_rng(size)
    logits = (3 * rng.standard_normal((count, size))).astype(np.float32)
    logits[0] += 40  # beyond what exp takes as it is
    for _ in range(20):
        uniforms = rng.random(count).tolist()
        each = [draw(row, uniform) for row, uniform in zip(logits, uniforms, strict=True)]
        assert draw_rows(logits, uniforms) == each


def test_draw_is_exact_at_boundaries() -> None:
    logits = np.log([1, 0.5, 0.5]).astype(np.float32)
    weights = np.exp(logits).astype(np.float64)
    edges = weights.cumsum() / weights.sum()
    assert draw(logits, edges[0] + 1e-12) == 1
    assert draw(logits, edges[0] - 1e-12) == 0
    assert draw(logits, edges[1] + 1e-12) == 2


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_a_banned_token_is_never_drawn(uniform: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        logits = rng.standard_normal(400).astype(np.float32)
        logits[rng.random(400) < 0.9] = -inf
        logits[[0, 399]] = -inf
        logits[200] = 0
        assert logits[draw(logits, uniform)] > -inf


def chi_square_tail(x: float, freedom: int) -> float:
    """P(chi-square ≥ x) for an even number of degrees of freedom: a Poisson sum."""
    terms = (math.exp(-x / 2) * (x / 2) ** k / math.factorial(k) for k in range(freedom // 2))
    return sum(terms)


@pytest.mark.parametrize(
    "setting",
    [{}, {"temperature": 0.5}, {"temperature": inf, "forbid": [1]}, {"top_p": 0.9, "top_k": 8}],
    ids=str,
)
def test_draws_follow_the_probabilities(setting: dict[str, Any]) -> None:
    """False alarm in 1 of 10^6 choices of the seed."""
    logits = np.random.default_rng(4).standard_normal(10).astype(np.float32)
    options = sampling_options(**setting)
    expected = np.array(enumerated(logits, options))
    draws = uniforms(5, 0)
    times = 20_000
    counts = np.bincount(
        [choose(logits, options, draws.random()) for _ in range(times)], minlength=10
    )
    assert not counts[expected == 0].any()
    seen, wanted = counts[expected > 0], times * expected[expected > 0]
    if len(seen) % 2 == 0:
        order = np.argsort(wanted)
        seen, wanted = seen[order], wanted[order]
        seen = np.append(seen[2:], seen[:2].sum())
        wanted = np.append(wanted[2:], wanted[:2].sum())
    statistic = ((seen - wanted) ** 2 / wanted).sum()
    assert chi_square_tail(float(statistic), len(seen) - 1) > 1e-6


def test_uniforms_depend_on_seed_and_index_only() -> None:
    first = uniforms(7, 3).random(5)
    again = uniforms(7, 3)
    assert [again.random() for _ in range(5)] == first.tolist()  # the p-th is position p's
    others = [uniforms(8, 3), uniforms(7, 4)]
    for a, b in combinations([first, *(other.random(5) for other in others)], 2):
        assert not set(a) & set(b)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(GenerationError, match=r"seed .* is not in 0"):
        uniforms(seed, 0)
    assert uniforms(2**64 - 1, 0).random() < 1


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"temperature": -1}, r"temperature cannot be -1: .* 0 always takes the likeliest"),
        ({"temperature": nan}, "temperature cannot be nan"),
        ({"top_k": -1}, "top_k cannot be -1"),
        ({"top_k": 2.5}, r"top_k cannot be 2\.5"),
        ({"top_p": 0}, "top_p cannot be 0"),
        ({"top_p": 1.1}, "top_p cannot be 1.1"),
        ({"min_p": 2}, "min_p cannot be 2"),
        ({"typical_p": nan}, "typical_p cannot be nan"),
        ({"repetition_penalty": 0}, "repetition_penalty cannot be 0"),
        ({"presence_penalty": inf}, "presence_penalty cannot be inf"),
        ({"logit_bias": {"salt": inf}}, "logit_bias cannot be inf"),
        ({"forbid": [1.5]}, r"forbid cannot be 1\.5"),
        ({"max_new_tokens": 0}, "max_new_tokens cannot be 0"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, r"min_new_tokens \(9\) should not exceed"),
        ({"stop": [""]}, "stop cannot be ''"),
        ({"beams": 0}, "beams cannot be 0"),
        ({"length_penalty": nan}, "length_penalty cannot be nan"),
        (
            {"early_stopping": "soon"},
            "'soon': input should be True, False or 'never'",
        ),
        ({"topk": 3}, "there is no option topk"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_in_a_sentence(
    setting: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(GenerationError, match=sentence) as refusal:
        sampling_options(**setting)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).endswith(".")


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(GenerationError, match=r"top_k cannot be -1.*; top_p cannot be 3"):
        sampling_options(top_k=-1, top_p=3)


@pytest.mark.parametrize("setting", [{}, {"temperature": 0}, *SETTINGS[:8]], ids=str)
def test_a_row_without_a_token_left_is_refused(setting: dict[str, Any]) -> None:
    logits = np.zeros(3, np.float32)
    options = sampling_options(**setting, forbid=[0, 1, 2])
    with pytest.raises(GenerationError, match="No token is left"):
        choose(logits, options, 0.5)


@pytest.mark.parametrize("setting", [{}, *SETTINGS[:8]], ids=str)
@pytest.mark.parametrize("broken", [nan, inf])
def test_logits_that_are_no_numbers_are_refused(setting: dict[str, Any], broken: float) -> None:
    logits = np.array([0, broken, 1], np.float32)
    with pytest.raises(GenerationError, match="logits are not finite numbers"):
        choose(logits, sampling_options(**setting), 0.5)


def test_explain_gives_the_order_with_the_values_in_force() -> None:
    options = sampling_options(
        temperature=0.5,
        top_p=0.9,
        no_repeat_ngram=3,
        logit_bias={"salt": 2},
        stop=["\n"],
        max_new_tokens=40,
    )
    lines = explain(options)
    names = ["bias", "forbidden", "repetition", "presence", "no-repeat", "no copies"]
    names += ["minimum length"]
    names += ["temperature", "top-k", "top-p", "min-p", "typical", "draw"]
    for number, (name, line) in enumerate(zip(names, lines, strict=False), 1):
        assert line.split()[0] == str(number)
        assert name in line
    assert lines[0].endswith("'salt' +2")
    assert lines[2].endswith("off")
    assert "0.5" in lines[7]
    assert "0.9" in lines[9]
    assert lines[-1].strip() == "ends at the stop token, '\\n' or 40 new tokens"


# --- witnesses -------------------------------------------------------------------------------


def witnesses(hf: Any) -> dict[str, tuple[Callable[[], Any], dict[str, Any]]]:
    """transformers' step of the same name, where there are no ties."""
    return {
        "temperature": (lambda: hf.TemperatureLogitsWarper(0.6), {"temperature": 0.6}),
        "top-k": (lambda: hf.TopKLogitsWarper(7), {"top_k": 7}),
        "top-p": (lambda: hf.TopPLogitsWarper(0.8), {"top_p": 0.8}),
        "min-p": (lambda: hf.MinPLogitsWarper(0.1), {"min_p": 0.1}),
        "typical": (lambda: hf.TypicalLogitsWarper(0.7), {"typical_p": 0.7}),
        "repetition": (
            lambda: hf.RepetitionPenaltyLogitsProcessor(1.3),
            {"repetition_penalty": 1.3},
        ),
        "n-gram 1": (lambda: hf.NoRepeatNGramLogitsProcessor(1), {"no_repeat_ngram": 1}),
        "n-gram 2": (lambda: hf.NoRepeatNGramLogitsProcessor(2), {"no_repeat_ngram": 2}),
        "n-gram 3": (lambda: hf.NoRepeatNGramLogitsProcessor(3), {"no_repeat_ngram": 3}),
        "bias": (lambda: hf.SequenceBiasLogitsProcessor([[[6], 1.5]]), {"logit_bias": {6: 1.5}}),
        "forbid": (lambda: hf.SuppressTokensLogitsProcessor([2, 9], "cpu"), {"forbid": [2, 9]}),
        "minimum length": (
            lambda: hf.MinNewTokensLengthLogitsProcessor(4, 8, STOP, "cpu"),
            {"min_new_tokens": 8},
        ),
        # For beams, transformers has a filter leave one token more than there are stop tokens.
        "top-k of beams": (lambda: hf.TopKLogitsWarper(1, -inf, 2), {"top_k": 1, "beams": 3}),
        "top-p of beams": (lambda: hf.TopPLogitsWarper(0.1, -inf, 2), {"top_p": 0.1, "beams": 3}),
        "min-p of beams": (lambda: hf.MinPLogitsWarper(1.0, -inf, 2), {"min_p": 1.0, "beams": 3}),
        "typical of beams": (
            lambda: hf.TypicalLogitsWarper(0.01, -inf, 2),
            {"typical_p": 0.01, "beams": 3},
        ),
    }


@pytest.mark.parametrize("name", witnesses(SimpleNamespace()))
def test_steps_agree_with_transformers(name: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    make, setting = witnesses(transformers.generation.logits_process)[name]
    options, theirs = sampling_options(**setting), make()
    rng = np.random.default_rng(6)
    for _ in range(20):
        logits = (3 * rng.standard_normal(60)).astype(np.float32)
        ids = np.concatenate([IDS[:4], rng.integers(1, 4, 7)])
        expected = theirs(torch.tensor(ids)[None], torch.tensor(logits)[None])[0].numpy()
        got = process(logits, options, ids, 4, STOP)
        np.testing.assert_allclose(probabilities(got), probabilities(expected), atol=1e-6)


def test_top_p_prunes_before_sorting_without_changing_the_result() -> None:
    rng = np.random.default_rng(8)
    for p in (0.01, 0.5, 0.9, 0.999):
        logits = (2 * rng.standard_normal(5000)).astype(np.float32)
        share = probabilities(logits)
        ranked = np.argsort(-share, kind="stable")
        enough = np.searchsorted(share[ranked].cumsum(), p) + 1
        kept_ids = np.flatnonzero(keep_top_p(logits, p) > -inf)
        assert len(kept_ids) == enough
        assert set(kept_ids) == set(ranked[:enough])
