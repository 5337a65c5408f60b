"""Beams: against every text enumerated, against transformers token for token, and in distribution.

A search as wide as there are texts is exhaustive: nothing is left to chance or to pruning, so the
texts and their order can be listed by plain Python, for every option and for pairs of options.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
from test_generator import (
    BYTES,
    CHARACTERS,
    A,
    B,
    C,
    Rule,
    RuleBackend,
    assert_follows,
    characters,
    lstm,
    script,
    table,
    whole_context,
)
from test_sampling import SETTINGS, processed, shares

from textwright.errors import GenerationError
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.writing.backend import Backend, visible
from textwright.writing.generator import Generator
from textwright.writing.sampling import uniforms
from textwright.writing.sampling_options import SamplingOptions, sampling_options
from textwright.writing.sampling_steps import draw_several, log_probabilities

PROMPT = CHARACTERS.encode("ab").tolist()
STOP = 0


# --- exhaustive ------------------------------------------------------------------------------


def next_scores(
    logits: np.ndarray, options: SamplingOptions, prompt: list[int], text: list[int]
) -> dict[int, float]:
    """What each token that may come next adds to a beam's score."""
    if options.temperature == 0:
        plain = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}
        options = options.model_copy(update=plain)
    logprobs = logits - math.log(sum(map(math.exp, logits)))
    return processed(logprobs, options, prompt, text, least=2)


def all_texts(rule: Rule, options: SamplingOptions) -> list[str]:
    """Every text that may follow the prompt, the best first."""
    found: list[tuple[float, list[int]]] = []

    def spread(new: list[int], score: float) -> None:
        for token, more in next_scores(rule((0, *PROMPT, *new)), options, PROMPT, new).items():
            length, total = len(new) + 1, score + more
            ids = new if token == STOP else [*new, token]
            if token != STOP and length < options.max_new_tokens:
                spread(ids, total)
            else:
                found.append((total / length**options.length_penalty, ids))

    spread([], 0.0)
    return [CHARACTERS.decode(ids) for _, ids in sorted(found, key=lambda pair: -pair[0])]


def assert_exhaustive(seed: int, **setting: Any) -> None:
    options = sampling_options(max_new_tokens=3, beams=40, **setting)
    expected = all_texts(table(5, seed), options)
    if not expected:
        (sample,) = characters(40, seed).generate("ab", options)
        assert sample.finish_reason == "no_token_left"
        return
    samples = characters(40, seed).generate("ab", options, num=len(expected), seed=seed)
    if options.temperature == math.inf:  # all are equally good
        assert sorted(sample.text for sample in samples) == sorted(expected)
    else:
        assert [sample.text for sample in samples] == expected


# The settings of test_sampling.py, for a vocabulary of stop, unknown, a, b and c.
NARROW: list[dict[str, Any]] = [
    *(
        setting
        for setting in SETTINGS
        if not {"logit_bias", "forbid", "min_new_tokens"} & {*setting}
    ),
    {"top_k": 1},
    {"logit_bias": {2: 1.5, 4: -2.0}},
    {"forbid": [3]},
    {"min_new_tokens": 2},
    {"length_penalty": 0.0},
    {"length_penalty": 2.5},
    {"length_penalty": -1.0},
    {"early_stopping": "never"},
]


@pytest.mark.parametrize("setting", [{}, *NARROW], ids=str)
def test_a_search_wide_enough_finds_all_texts_in_order(setting: dict[str, Any]) -> None:
    for seed in range(3):
        assert_exhaustive(seed, **setting)


@pytest.mark.parametrize("first", range(len(NARROW)))
def test_so_it_does_with_each_pair_of_options(first: int) -> None:
    for second in NARROW[first + 1 :]:
        if not NARROW[first].keys() & second.keys():
            assert_exhaustive(first, **NARROW[first], **second)


@pytest.mark.parametrize("stops", [["ba"], ["b", "cc"], ["aab", "c"]])
@pytest.mark.parametrize("least", [0, 2])
def test_a_stop_text_that_straddles_tokens_ends_a_beam(stops: list[str], least: int) -> None:
    options = sampling_options(
        max_new_tokens=4, min_new_tokens=least, beams=130, temperature=0, stop=stops
    )
    rule, found = table(5, 1), []

    def spread(new: list[int], score: float) -> None:
        whole, late = CHARACTERS.decode(new), CHARACTERS.decode(new[least:])
        ends = [late.find(stop) for stop in stops if stop in late]
        if ends or len(new) == 4:
            text = whole[: len(whole) - len(late) + min(ends)] if ends else whole
            found.append((score / len(new), text, "stop" if ends else "length"))
            return
        for token, more in next_scores(rule((0, *PROMPT, *new)), options, PROMPT, new).items():
            if token == STOP:
                found.append(((score + more) / (len(new) + 1), whole, "stop"))
            else:
                spread([*new, token], score + more)

    spread([], 0.0)
    samples = characters(130, 1).generate("ab", options, num=len(found))
    expected = [(text, reason) for _, text, reason in sorted(found, key=lambda one: -one[0])]
    assert [(sample.text, sample.finish_reason) for sample in samples] == expected


# --- sampled beams, enumerated ---------------------------------------------------------------


Found = tuple[float, tuple[int, ...]]  # a score, and new ids with the stop id where it ends them


class Spot:
    """Where a search stands: a plain reading of what `transformers` does, for one prompt."""

    def __init__(self, rule: Rule, prompt: list[int], options: SamplingOptions) -> None:
        self.rule, self.prompt, self.options = rule, prompt, options
        self.running: list[Found] = [(0.0, ())]
        self.finished: list[Found] = []

    def continuations(self) -> list[Found]:
        return [
            (score + more, (*new, token))
            for score, new in self.running
            for token, more in sorted(
                next_scores(
                    self.rule((0, *self.prompt, *new)), self.options, self.prompt, list(new)
                ).items()
            )
        ]

    def after(self, drawn: tuple[Found, ...]) -> "Spot":
        """Where it stands when these continuations were drawn, in this order."""
        o, spot = self.options, Spot(self.rule, self.prompt, self.options)
        ended = [one for one in drawn if self.ends(one[1])]
        new = [one for one in drawn[: o.beams] if one in ended]
        ranked = [(score / len(ids) ** o.length_penalty, ids) for score, ids in new]
        spot.finished = sorted([*self.finished, *ranked], reverse=True)[: o.beams]
        spot.running = sorted([one for one in drawn if one not in ended], reverse=True)[: o.beams]
        if spot.running and len(spot.finished) == o.beams:
            score, ids = spot.running[0]
            length = o.max_new_tokens if o.early_stopping == "never" else len(ids)
            best = score / length**o.length_penalty
            if o.early_stopping is True or best <= spot.finished[-1][0]:
                spot.running = []
        return spot

    def ends(self, ids: tuple[int, ...]) -> bool:
        o, text = self.options, CHARACTERS.decode(ids)
        at_length = len(ids) == o.max_new_tokens
        return ids[-1] == STOP or at_length or any(stop in text for stop in o.stop)


def found_texts(rule: Rule, options: SamplingOptions) -> dict[str, float]:
    """The probability of all that two sampled beams may find, the better one first."""
    chances: dict[str, float] = defaultdict(float)
    ways: dict[Any, tuple[Spot, float]] = {None: (Spot(rule, PROMPT, options), 1.0)}
    while ways:
        further: dict[Any, tuple[Spot, float]] = {}
        for spot, chance in ways.values():
            if not spot.running:
                chances[spelled(ids for _, ids in spot.finished)] += chance
                continue
            possible = spot.continuations()
            p = shares({number: score for number, (score, _) in enumerate(possible)})
            for order in permutations(p, min(2 * options.beams, len(p))):
                share, left = chance, 1.0
                for number in order:
                    share *= p[number] / left
                    left -= p[number]
                after = spot.after(tuple(possible[number] for number in order))
                key = (tuple(after.running), tuple(after.finished))
                further[key] = (after, further.get(key, (after, 0.0))[1] + share)
        ways = further
    assert sum(chances.values()) == pytest.approx(1)
    return chances


def spelled(texts: Iterable[Sequence[int]]) -> str:
    """The ids of several texts, without the stop id."""
    return " | ".join(" ".join(str(token) for token in ids if token != STOP) for ids in texts)


SAMPLED: list[dict[str, Any]] = [
    {"max_new_tokens": 2},
    {"max_new_tokens": 3, "temperature": 0.7, "top_p": 0.6, "no_repeat_ngram": 2},
    {"max_new_tokens": 4, "temperature": 1.8, "top_k": 2, "early_stopping": True},
    {"max_new_tokens": 4, "top_k": 2, "length_penalty": 0.0, "stop": ["ba"]},
    {"max_new_tokens": 3, "min_p": 0.3, "early_stopping": "never", "min_new_tokens": 1},
]


@pytest.mark.parametrize("setting", SAMPLED, ids=str)
def test_sampled_beams_follow_the_enumerated_distribution(setting: dict[str, Any]) -> None:
    options = sampling_options(beams=2, **setting)
    samples = characters(400).generate(["ab"] * 800, options, num=2, seed=1)
    pairs = zip(samples[::2], samples[1::2], strict=True)
    counts = Counter(spelled([best.ids, second.ids]) for best, second in pairs)
    assert_follows(counts, found_texts(table(5), options))


@pytest.mark.parametrize("setting", SAMPLED, ids=str)
def test_draws_are_those_of_seed_sample_and_position(setting: dict[str, Any]) -> None:
    """The p-th step takes the p-th 2B uniforms, one for each of the continuations drawn."""
    options = sampling_options(beams=2, **setting)
    for number, sample in enumerate(characters().generate(["ab"] * 8, options, seed=3)):
        draws, spot = uniforms(3, number), Spot(table(5), PROMPT, options)
        while spot.running:
            possible, drawn = spot.continuations(), []
            for uniform in draws.random(4)[: len(possible)]:
                left = [one for one in possible if one not in drawn]
                p = np.exp([score for score, _ in left]).cumsum()
                drawn.append(left[int(np.searchsorted(p, uniform * p[-1], "right"))])
            spot = spot.after(tuple(drawn))
        assert spelled([sample.ids]) == spelled([spot.finished[0][1]])


def test_several_draws_take_none_twice_and_no_more_than_there_are() -> None:
    scores = np.log([0.5, 0.0, 0.2, 0.3, 1e-300], where=[1, 0, 1, 1, 1], out=np.full(5, -np.inf))
    assert draw_several(scores, np.array([0.1, 0.1, 0.1])) == [0, 2, 3]
    assert draw_several(scores, np.array([0.99, 0.5, 0.0, 0.7, 0.7])) == [3, 0, 2, 4]
    assert scores[1] == -np.inf < scores[0]


# --- transformers ----------------------------------------------------------------------------

LETTERS = Tokenizer.train(
    TokenizerOptions(kind="char", vocab_size=12),
    ["aaaaaaaaaabbbbbbbbbccccccccdddddddeeeeeeffffgghij"],
)


@pytest.fixture(scope="module")
def gpt2() -> Any:
    """Makes transformers' own GPT-2, tiny and with random weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

    def make(vocab_size: int, spread: float) -> Any:
        torch.manual_seed(2)
        config = transformers.GPT2Config(
            vocab_size=vocab_size,
            n_positions=40,
            n_embd=16,
            n_layer=1,
            n_head=2,
            initializer_range=spread,
            bos_token_id=STOP,
            eos_token_id=STOP,
            pad_token_id=STOP,
        )
        return transformers.GPT2LMHeadModel(config).eval()

    return make


def reading(model: Any) -> Rule:
    """The model's logits, each context read anew; the stop id that begins a row is not shown."""
    import torch

    known: dict[tuple[int, ...], np.ndarray] = {}

    def rule(seen: tuple[int, ...]) -> np.ndarray:
        if seen not in known:
            with torch.inference_mode():
                known[seen] = model(torch.tensor([seen[1:]])).logits[0, -1].numpy()
        return known[seen]

    return rule


def generate(model: Any, prompts: list[list[int]], **how: Any) -> list[list[int]]:
    """What transformers writes after prompts of one length: ids up to the stop id."""
    import torch

    with torch.inference_mode():
        rows = torch.tensor(prompts)
        found = model.generate(rows, attention_mask=torch.ones_like(rows), **how).tolist()
    texts = [row[len(prompts[0]) :] for row in found]
    return [text[: text.index(STOP)] if STOP in text else text for text in texts]


SEARCHES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"length_penalty": 0.0}, {"length_penalty": 0.0}),
    ({"length_penalty": 2.0}, {"length_penalty": 2.0}),
    ({"length_penalty": -1.0}, {"length_penalty": -1.0}),
    ({"early_stopping": True}, {"early_stopping": True}),
    ({"early_stopping": "never"}, {"early_stopping": "never"}),
    ({"no_repeat_ngram": 2}, {"no_repeat_ngram_size": 2}),
    ({"min_new_tokens": 6}, {"min_new_tokens": 6}),
    ({"repetition_penalty": 1.5}, {"repetition_penalty": 1.5}),
    ({"forbid": ["c"]}, {"suppress_tokens": [4]}),
    ({"logit_bias": {"c": 0.7}}, {"sequence_bias": [[[4], 0.7]]}),
]


@pytest.mark.parametrize("beams", [1, 2, 5])
def test_greedy_and_beam_search_agree_with_transformers(gpt2: Any, beams: int) -> None:
    """Token for token, with each option alone and with pairs of them; prompts run together."""
    model, prompts = gpt2(12, 0.5), ["ab", "jihgf", "c"]
    writer = Generator(RuleBackend(reading(model)), LETTERS)
    pairs = [({**a[0], **b[0]}, {**a[1], **b[1]}) for a, b in combinations(SEARCHES[1:], 2)]
    lengths = set()
    for ours, theirs in [*SEARCHES, *pairs[:: 2 if beams == 2 else 11]]:
        if beams == 1:
            # Without beams a penalty works on logits in both, and nothing ranks texts.
            theirs = {
                k: v for k, v in theirs.items() if k not in ("length_penalty", "early_stopping")
            }
        options = sampling_options(temperature=0, beams=beams, max_new_tokens=9, **ours)
        num = min(beams, 3)
        samples = writer.generate(prompts, options, num=num)
        for number, prompt in enumerate(prompts):
            expected = generate(
                model,
                [LETTERS.encode(prompt).tolist()],
                do_sample=False,
                num_beams=beams,
                num_return_sequences=num,
                max_new_tokens=9,
                **theirs,
            )
            found = [sample.ids for sample in samples[number * num : (number + 1) * num]]
            assert found == expected, (prompt, ours)
            lengths |= set(map(len, found))
    assert len(lengths) > 4


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"max_new_tokens": 2}, {"top_k": 0}),
        (
            {"max_new_tokens": 3, "temperature": 1.5, "top_k": 3, "top_p": 0.7},
            {"temperature": 1.5, "top_k": 3, "top_p": 0.7},
        ),
        (
            {"max_new_tokens": 3, "top_k": 2, "no_repeat_ngram": 2, "early_stopping": True},
            {"top_k": 2, "no_repeat_ngram_size": 2, "early_stopping": True},
        ),
    ],
    ids=str,
)
def test_the_sampled_beams_of_transformers_follow_the_same_distribution(
    gpt2: Any, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    """So what ours are held to is what they do, not only what was read into their code."""
    import torch

    model, options = gpt2(5, 0.2), sampling_options(beams=2, **ours)
    torch.manual_seed(0)
    texts = generate(
        model,
        [PROMPT] * 1500,
        do_sample=True,
        num_beams=2,
        num_return_sequences=2,
        max_new_tokens=options.max_new_tokens,
        **theirs,
    )
    counts = Counter(map(spelled, zip(texts[::2], texts[1::2], strict=True)))
    assert_follows(counts, found_texts(reading(model), options))


# --- batches and contexts --------------------------------------------------------------------


@pytest.mark.parametrize("setting", [{"temperature": 0}, {"top_p": 0.95}], ids=str)
@pytest.mark.parametrize("limit", [None, 5])
def test_a_search_depends_on_neither_batch_nor_other_prompts(
    setting: dict[str, Any], limit: int | None
) -> None:
    options = sampling_options(max_new_tokens=14, beams=3, **setting)
    prompts = ["ab", "", "ccacb", "b", "cabcabca"]

    def texts(batch_size: int, prompts: list[str]) -> dict[str, list[str]]:
        backend = RuleBackend(whole_context(5), context_length=limit)
        writer = Generator(backend, CHARACTERS, batch_size=batch_size)
        samples = writer.generate(prompts, options, num=2, seed=2)
        assert max(backend.rows) <= max(3, batch_size)
        return {p: [s.text for s in samples if s.prompt == p] for p in prompts}

    whole = texts(32, prompts)
    for batch_size in (1, 6, 10):
        assert texts(batch_size, prompts) == whole
    assert texts(7, prompts[::-1]) == whole
    for prompt in prompts:
        assert texts(32, [prompt]) == {prompt: whole[prompt]}


@pytest.mark.parametrize("limit", [1, 2, 5, 8, None])
@pytest.mark.parametrize("temperature", [0, 1])
def test_beams_beyond_the_context_read_what_a_text_alone_would(
    limit: int | None, temperature: float
) -> None:
    """Each token's log-probability is that of its own beam's window, read from its start."""
    rule = whole_context(5)
    options = sampling_options(
        max_new_tokens=12, min_new_tokens=12, beams=4, temperature=temperature
    )
    writer = Generator(RuleBackend(rule, context_length=limit), CHARACTERS)
    samples = writer.generate(["", "abcabcabcabc", "ab"], options, num=4, logprobs=True)
    for sample in samples:
        ids = CHARACTERS.encode(sample.prompt).tolist()
        assert sample.logprobs is not None and len(sample.logprobs) == 12
        for token, logprob in zip(sample.ids, sample.logprobs, strict=True):
            seen = tuple(visible(ids, STOP, limit).tolist())
            assert logprob == pytest.approx(log_probabilities(rule(seen))[token])
            ids.append(token)


def real_backend(name: str) -> Backend:
    if name == "NumPy LSTM":
        return lstm(CHARACTERS).backend
    import torch

    from textwright.backends.numpy_gpt import NumpyGPT
    from textwright.families import GPTOptions
    from textwright.models import TorchBackend, build

    torch.manual_seed(1)
    options = GPTOptions(layers=2, heads=2, width=8)
    model = build(options, CHARACTERS.vocab_size, 8)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    if name == "torch GPT":
        return TorchBackend(model)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return NumpyGPT(weights, options.with_context(8))


@pytest.mark.parametrize("name", ["NumPy LSTM", "NumPy GPT", "torch GPT"])
def test_real_states_follow_their_beams(name: str) -> None:
    """States forked, rearranged and read anew, against reading every beam from its start."""
    backend = real_backend(name)
    options = sampling_options(max_new_tokens=15, min_new_tokens=15, beams=5, temperature=2)
    writer = Generator(backend, CHARACTERS)
    for sample in writer.generate(["ab", "cabca"], options, num=5, logprobs=True):
        ids = CHARACTERS.encode(sample.prompt).tolist()
        assert sample.logprobs
        for token, logprob in zip(sample.ids, sample.logprobs, strict=True):
            seen = visible(ids, STOP, backend.context_length)
            logits, _ = backend.prefill(seen[None], np.array([len(seen)]))
            assert logprob == pytest.approx(log_probabilities(logits[0])[token], abs=1e-5)
            ids.append(token)


# --- what is written -------------------------------------------------------------------------


def test_a_prompt_given_again_is_searched_anew() -> None:
    options = sampling_options(beams=2, temperature=2, max_new_tokens=8)
    texts = [sample.text for sample in characters().generate(["ab"] * 12, options, seed=1)]
    assert len(set(texts)) > 3
    assert texts == [s.text for s in characters(2).generate(["ab"] * 12, options, seed=1)]
    assert texts != [s.text for s in characters().generate(["ab"] * 12, options, seed=2)]


def test_the_pieces_of_a_beam_make_up_its_text() -> None:
    options = sampling_options(beams=3, max_new_tokens=25, temperature=1.5)
    for sample in lstm(BYTES).generate(["é", "a"], options, num=3, seed=4):
        ids = BYTES.encode(sample.prompt).tolist()
        assert BYTES.decode(ids) + sample.text == BYTES.decode(ids + sample.ids)


def test_texts_end_as_they_do_without_beams() -> None:
    def written(generator: Generator, **setting: Any) -> tuple[str, int, str]:
        options = sampling_options(temperature=0, beams=2, **setting)
        sample = generator.generate("", options)[0]
        return sample.text, len(sample.ids), sample.finish_reason

    assert written(script(A, B)) == ("ab", 2, "stop")
    assert written(script(A, B, C), max_new_tokens=2) == ("ab", 2, "length")
    assert written(script(A, B, C, A), stop=["bc"]) == ("a", 3, "stop")
    assert written(script(A, B), stop=["bc"]) == ("ab", 2, "stop")
    assert written(script(A, B, A, B), stop=["b"], min_new_tokens=2) == ("aba", 4, "stop")


# --- log-probabilities -----------------------------------------------------------------------


@pytest.mark.parametrize("beams", [1, 3])
def test_log_probabilities_are_the_models_own(beams: int) -> None:
    rule = table(5)
    setting = {"temperature": 0.5, "top_k": 2, "no_repeat_ngram": 3, "logit_bias": {2: 1.0}}
    options = sampling_options(beams=beams, max_new_tokens=12, **setting)
    for sample in characters().generate(["ab", "c"], options, num=beams, logprobs=True):
        seen = [0, *CHARACTERS.encode(sample.prompt).tolist()]
        expected = []
        for token in sample.ids:
            p = shares(dict(enumerate(rule(tuple(seen)).tolist())))
            expected.append(math.log(p[token]))
            seen.append(token)
        assert sample.logprobs == pytest.approx(expected, abs=1e-5)
    assert characters().generate("ab", options)[0].logprobs is None


# --- refusals --------------------------------------------------------------------------------


def test_more_texts_than_beams_are_refused() -> None:
    with pytest.raises(GenerationError, match="--num 4 needs at least 4 beams; --beams is 3"):
        characters().stream("a", sampling_options(beams=3), num=4)


def test_texts_that_the_beams_do_not_come_to_are_empty_and_give_the_reason() -> None:
    options = sampling_options(beams=3, max_new_tokens=2, forbid=["b", "c"], min_new_tokens=2)
    found = characters().generate(["a", "b"], options, num=2)
    assert [(sample.prompt, sample.text, sample.finish_reason) for sample in found] == [
        ("a", "aa", "length"),
        ("a", "", "no_token_left"),
        ("b", "aa", "length"),
        ("b", "", "no_token_left"),
    ]


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_search_that_cannot_go_on_ends_with_a_reason_and_the_others_go_on(
    temperature: float,
) -> None:
    def rule(seen: tuple[int, ...]) -> np.ndarray:
        logits = np.full(5, -np.inf, np.float32)
        if len(seen) < 4 or seen[1] != B:
            logits[[A, C]] = 0, -1
        return logits

    options = sampling_options(beams=2, temperature=temperature, max_new_tokens=4)
    found = Generator(RuleBackend(rule), CHARACTERS).generate(["b", "a"], options, num=2)
    assert [sample.finish_reason for sample in found] == [*["no_token_left"] * 2, *["length"] * 2]
    assert [len(sample.ids) for sample in found] == [2, 2, 4, 4]
    assert len({sample.text for sample in found}) == 4
    if temperature == 0:
        assert found[0].text == "aa"


def test_a_finished_beam_ranks_before_those_that_cannot_go_on() -> None:
    # Of "a" and "b", only "a" may end; of "aa" and "ba", none may go on.
    def rule(seen: tuple[int, ...]) -> np.ndarray:
        logits = np.full(5, -np.inf, np.float32)
        if len(seen) == 1:
            logits[[A, B]] = 3, 1
        elif len(seen) == 2:
            logits[[0, A]] = 1 if seen[1] == A else -np.inf, 0
        return logits

    options = sampling_options(beams=2, temperature=0)
    found = Generator(RuleBackend(rule), CHARACTERS).generate("", options, num=2)
    assert [(sample.text, sample.finish_reason) for sample in found] == [
        ("a", "stop"),
        ("aa", "no_token_left"),
    ]


def test_a_beam_that_may_not_go_on_leaves_the_others_to() -> None:
    # b is likelier at once and leads nowhere: all may follow it but nothing that is allowed.
    def rule(seen: tuple[int, ...]) -> np.ndarray:
        logits = np.full(5, -np.inf, np.float32)
        if seen[-1] == B:
            logits[C] = 0
        elif seen[-1] == 0:
            logits[[A, B]] = 1, 2
        else:
            logits[[A, 0]] = 0
        return logits

    options = sampling_options(
        beams=2, forbid=["c"], temperature=0, max_new_tokens=3, length_penalty=0.0
    )
    found = Generator(RuleBackend(rule), CHARACTERS).generate("", options, num=2)
    assert [sample.text for sample in found] == ["a", "aa"]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_are_no_numbers_are_refused(broken: float, temperature: float) -> None:
    def rule(seen: tuple[int, ...]) -> np.ndarray:
        return np.array([0, 1, broken if len(seen) > 3 else 0, 1, 1], np.float32)

    with pytest.raises(GenerationError, match="logits are not finite numbers"):
        options = sampling_options(beams=2, temperature=temperature, min_new_tokens=5)
        Generator(RuleBackend(rule), CHARACTERS).generate("", options)
