"""Writing that never copies: against every sequence of a small training text."""

import math
from collections import Counter

import numpy as np
import pytest
from seeds import probabilities
from test_generator import RuleBackend, assert_follows, table
from test_sequences import encoded, sequences

from textwright.errors import GenerationError
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import explain, sampling_options
from textwright.writing.sampling_steps import bits_without, log_probabilities
from textwright.writing.sequences import KnownSequences

CHARACTERS = Tokenizer.train(TokenizerOptions(kind="char", vocab_size=8), ["abcde"])
VOCABULARY = CHARACTERS.vocab_size
TRAINING = [np.random.default_rng(seed).integers(2, VOCABULARY, 12).tolist() for seed in range(6)]


def generator(seed: int = 0) -> Generator:
    ids, starts = encoded(TRAINING)
    return Generator(
        RuleBackend(table(VOCABULARY, seed)),
        CHARACTERS,
        known_sequences=lambda length: KnownSequences.of(ids, starts, length),
    )


@pytest.mark.parametrize("setting", [{}, {"temperature": 0.0}, {"beams": 3}, {"top_k": 2}])
@pytest.mark.parametrize("length", [3, 4])
def test_a_long_text_holds_no_sequence_of_the_training_text(setting, length):
    options = {**setting, "forbid": [CHARACTERS.stop_id], "max_new_tokens": 1200}
    known = sequences(TRAINING, length)
    (free,) = generator().generate(["ab"], sampling_options(**options), seed=3)
    (bound,) = generator().generate(["ab"], sampling_options(**options, no_copy=length), seed=3)
    prompt = CHARACTERS.encode("ab").tolist()
    assert len(bound.ids) == 1200
    assert not sequences([prompt + bound.ids], length) & known
    assert sequences([prompt + free.ids], length) & known or setting


def test_what_is_left_keeps_its_proportions():
    """Texts of two characters after a prompt, against their probabilities, renormalized."""
    rule, known = table(VOCABULARY), sequences(TRAINING, 3)
    expected: dict[str, float] = {}
    prompt = CHARACTERS.encode("ab").tolist()
    for first in range(2, VOCABULARY):
        for second in range(2, VOCABULARY):
            p, ids = 1.0, list(prompt)
            for new in (first, second):
                logits = rule((CHARACTERS.stop_id, *ids)).astype(float)
                logits[CHARACTERS.stop_id] = -np.inf
                banned = [t for t in range(VOCABULARY) if (*ids[-2:], t) in known]
                logits[banned] = -np.inf
                p *= float(probabilities(logits)[new])
                ids.append(new)
            expected[CHARACTERS.decode([first, second])] = p
    assert 0.0 in expected.values()
    options = sampling_options(no_copy=3, max_new_tokens=2, forbid=[CHARACTERS.stop_id])
    texts = Counter(s.text for s in generator().generate(["ab"], options, num=4000, seed=1))
    assert_follows(texts, expected)


def test_the_cost_is_the_probability_that_was_forbidden():
    options = sampling_options(no_copy=3, max_new_tokens=50)
    stream = generator().stream(["ab"], options, seed=5)
    (sample,) = stream.samples()
    rule, known = table(VOCABULARY), sequences(TRAINING, 3)
    bits, places, ids = 0.0, 0, CHARACTERS.encode("ab").tolist()
    ended = [CHARACTERS.stop_id] if sample.finish_reason == "stop" else []
    for new in [*sample.ids, *ended]:
        p = probabilities(rule((CHARACTERS.stop_id, *ids)))
        banned = [t for t in range(VOCABULARY) if (*ids[-2:], t) in known]
        bits -= math.log2(1 - p[banned].sum())
        places += bool(banned)
        ids.append(new)
    assert stream.cost.places == places > 0
    assert stream.cost.bits == pytest.approx(bits, rel=1e-5)


def test_bits_without_are_exact_where_little_is_left():
    logits = np.array([40.0, 0.0, 0.0], np.float32)
    left = log_probabilities(logits)[1:]
    assert bits_without(logits, np.array([0])) == pytest.approx(
        -np.logaddexp.reduce(left) / math.log(2)
    )
    assert bits_without(logits, np.array([0, 1, 2])) == math.inf


def test_a_text_that_can_only_copy_ends_and_says_so():
    every = [[a, b] for a in range(2, VOCABULARY) for b in range(VOCABULARY)]
    ids, starts = encoded(every)
    known = KnownSequences.of(ids, starts, 2)
    bound = Generator(RuleBackend(table(VOCABULARY)), CHARACTERS, known_sequences=lambda n: known)
    options = sampling_options(no_copy=2, forbid=[CHARACTERS.stop_id])
    (sample,) = bound.generate(["a"], options)
    assert (sample.text, sample.finish_reason) == ("", "no_token_left")


@pytest.mark.parametrize("length", [1, -3])
def test_single_tokens_and_fewer_are_refused(length):
    with pytest.raises(GenerationError, match="no_copy cannot be"):
        sampling_options(no_copy=length)


def test_without_the_training_text_a_sentence_says_so():
    bare = Generator(RuleBackend(table(VOCABULARY)), CHARACTERS)
    with pytest.raises(GenerationError, match="no_copy needs the training text"):
        bare.stream(["a"], sampling_options(no_copy=3))


def test_the_order_names_the_length():
    line = explain(sampling_options(no_copy=8))[5]
    assert line == " 6 no copies (prompt and text): no 8 tokens in a row as in the training text"
