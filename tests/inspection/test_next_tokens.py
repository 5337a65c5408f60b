"""Next-token tables."""

import pytest

import textwright as tw
from textwright.families import GPTOptions
from textwright.inspection.next_tokens import Token, next_tokens
from textwright.models import TorchBackend, build
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions


@pytest.fixture(scope="module")
def letters():
    return Tokenizer.train(TokenizerOptions(kind="char"), ["to be or not to be"])


def test_a_prompt_longer_than_the_context_is_cut_as_the_generator_cuts_it(letters):
    model = build(GPTOptions(layers=1, heads=1, width=4), letters.vocab_size, context_length=8)
    generator = Generator(TorchBackend(model), letters)
    step = next_tokens(generator, "to be or not to be", [1.0], top=1)
    assert len(step.tokens) <= 8
    greedy = SamplingOptions(temperature=0.0, max_new_tokens=1)
    (sample,) = generator.generate("to be or not to be", greedy)
    assert (sample.ids or [letters.stop_id]) == [step.next[1.0][0].id]


@pytest.mark.parametrize(
    ("text", "shown"),
    [(" the", "␣the"), ("\n", "⏎"), ("\t", "\\t"), ("\\xc3", "\\xc3"), ("brûlée", "brûlée")],
)
def test_white_space_is_shown(text, shown):
    assert Token("?", 5, text).shown == shown


def test_the_coldest_table_has_one_token(trained):
    step = next_tokens(tw.load(trained).generator, "Slow soup", [1e-310])
    assert step.entropy[1e-310] == 0
    assert [c.probability for c in step.next[1e-310]] == [1, 0, 0, 0, 0]


def test_a_cold_table_has_the_order_of_a_warm_one(trained):
    step = next_tokens(tw.load(trained).generator, "Slow soup", [1.0, 1e-6], top=9)
    assert step.next[1e-6][-1].probability == 0
    assert [c.id for c in step.next[1e-6]] == [c.id for c in step.next[1.0]]
