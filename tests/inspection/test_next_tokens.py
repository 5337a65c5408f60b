"""Next-token tables, gates and attention."""

import numpy as np
import pytest
import torch

import textwright as tw
from textwright.families import GPTOptions, LSTMOptions
from textwright.inspection.next_tokens import Token, next_tokens, tracer
from textwright.models import TorchBackend, build
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions


@pytest.fixture(scope="module")
def letters():
    return Tokenizer.train(TokenizerOptions(kind="char"), ["to be or not to be"])


def test_the_last_gates_equal_the_state_of_the_backend(trained):
    """The backend does without torch, so its state is an independent check of the trace."""
    writer = tw.load(trained)
    (step,) = next_tokens(writer.generator, ["Slow soup"], [1.0], trace=tracer(writer.run))
    assert [token.text for token in step.tokens[1:]] == ["Slow", "[UNK]"]
    (layer,) = step.gates
    assert list(layer) == ["f", "i", "candidate", "C", "o", "h"]
    ids = np.array([[token.id for token in step.tokens]])
    _, state = writer.generator.backend.prefill(ids, np.array([ids.shape[1]]))
    for name, units in (("h", state.hidden[0, 0]), ("C", state.cell[0, 0])):
        statistics = {key: values[-1] for key, values in layer[name].items()}
        assert statistics == pytest.approx(
            {
                "mean": units.mean(),
                "magnitude": abs(units).mean(),
                "min": units.min(),
                "max": units.max(),
            },
            abs=2e-6,
        )
    lengths = {len(values) for quantity in layer.values() for values in quantity.values()}
    assert lengths == {len(step.tokens)}


@pytest.mark.parametrize(
    ("options", "quantities"),
    [
        (LSTMOptions(cell="gru", embedding_size=4, hidden_size=4, layers=2), ["r", "z", "n", "h"]),
        (LSTMOptions(cell="rnn", embedding_size=4, hidden_size=4, layers=2), ["h"]),
        (GPTOptions(layers=2, heads=2, width=4), None),
    ],
)
def test_each_family_gives_gates_or_attention(letters, options, quantities):
    model = build(options, letters.vocab_size, context_length=8)
    generator = Generator(TorchBackend(model), letters)

    @torch.inference_mode()
    def trace(ids):
        return model.trace(torch.from_numpy(ids)[None])

    (step,) = next_tokens(generator, ["to be"], [1.0], trace=trace)
    assert quantities == (step.gates and list(step.gates[1]))
    if quantities is None:
        assert np.shape(step.attention) == (2, 2, len(step.tokens))
        assert np.sum(step.attention, axis=-1) == pytest.approx(np.ones((2, 2)), abs=1e-4)
    else:
        assert step.attention is None


def test_the_only_token_that_matches_the_query_gets_all_of_the_attention(letters):
    """All queries are equal, and the key of the letter b differs from the others."""
    model = build(GPTOptions(layers=1, heads=1, width=4), letters.vocab_size, context_length=8)
    with torch.no_grad():
        model.embedding.copy_(torch.tensor([[-1.0, 1.0, -1.0, 1.0]]))
        model.embedding[letters.id_of("b")] *= -1
        model.positions.zero_()
        attention = model.blocks[0].attention
        attention.input.weight.zero_()
        attention.input.weight[4, 0] = 50.0  # the first key
        attention.input.bias.zero_()
        attention.input.bias[0] = 50.0  # the first query

    def trace(ids):
        return model.trace(torch.from_numpy(ids)[None])

    generator = Generator(TorchBackend(model), letters)
    with torch.inference_mode():
        (step,) = next_tokens(generator, ["to be"], [1.0], trace=trace)
    assert step.attention == [[[0, 0, 0, 0, 1, 0]]]


def test_a_prompt_longer_than_the_context_is_cut_as_the_generator_cuts_it(letters):
    model = build(GPTOptions(layers=1, heads=1, width=4), letters.vocab_size, context_length=8)
    generator = Generator(TorchBackend(model), letters)
    (step,) = next_tokens(generator, ["to be or not to be"], [1.0], top=1)
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
    (step,) = next_tokens(tw.load(trained).generator, ["Slow soup"], [1e-310])
    assert step.entropy[1e-310] == 0
    assert [c.probability for c in step.next[1e-310]] == [1, 0, 0, 0, 0]
