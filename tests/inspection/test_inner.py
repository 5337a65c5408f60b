"""Attention and gates at every token of a text."""

import numpy as np
import pytest
import torch
from small_models import SMALL

import textwright as tw
from textwright.errors import GenerationError
from textwright.families import GPTOptions
from textwright.inspection.inner import (
    attention_of,
    gates_of,
    newest_attention,
    open_model,
    summarize_gates,
    trace,
    views_of,
)
from textwright.inspection.text import read_text
from textwright.models import build

VOCABULARY = 11


@pytest.fixture(params=SMALL)
def model(request):
    torch.manual_seed(1)
    return build(SMALL[request.param], VOCABULARY, 12).eval()


def test_the_last_gates_equal_the_state_of_the_backend(trained):
    """The backend does without torch, so its state is an independent check of the trace."""
    writer = tw.load(trained)
    reading = read_text(
        writer.generator, open_model(writer.run), "Slow soup", views=["gates"]
    ).to_json()
    assert [token["text"] for token in reading["tokens"][1:]] == ["Slow", "[UNK]"]
    (layer,) = reading["gates"]
    assert list(layer) == ["f", "i", "candidate", "C", "o", "h"]
    ids = np.array([[token["id"] for token in reading["tokens"]]])
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
    assert lengths == {ids.shape[1]}


def test_a_model_has_attention_or_gates(model):
    ids = np.arange(6)
    attention, gates = attention_of(trace(model, ids)), gates_of(trace(model, ids))
    if isinstance(model.options, GPTOptions):
        assert views_of(model) == ["attention", "saliency"]
        assert not gates
        shape = (model.options.layers, model.options.heads, 6, 6)
        assert np.shape(attention) == shape
        assert np.shape(newest_attention(attention)) == shape[:3]
    else:
        assert views_of(model) == ["gates", "units", "saliency"]
        assert not attention
        quantities = {"lstm": "f i candidate C o h", "gru": "r z n h", "rnn": "h"}
        assert " ".join(gates[-1]) == quantities[model.options.cell]
        assert gates[-1]["h"].shape == (6, model.options.hidden_size)
        summary = summarize_gates(gates)[-1]["h"]
        assert {len(values) for values in summary.values()} == {6}


def test_every_head_shares_all_of_its_attention_among_the_tokens_so_far(model):
    for layer in attention_of(trace(model, np.arange(8))):
        np.testing.assert_allclose(layer.sum(-1), 1, atol=1e-5)
        assert not np.triu(layer, 1).any()


def test_the_end_of_a_text_alone_is_the_last_row_of_the_whole(trained):
    writer = tw.load(trained)
    model, views = open_model(writer.run), ["attention", "saliency"]
    whole, end = (
        read_text(writer.generator, model, "Slow soup for two.", views=views, whole=whole)
        for whole in (True, False)
    )
    assert len(end.saliency) == 1 < len(whole.saliency)
    np.testing.assert_allclose(end.saliency[0], whole.saliency[-1], atol=1e-6)
    assert end.to_json()["saliency"] == pytest.approx(whole.to_json()["saliency"], abs=1e-5)


def test_attention_of_the_end_alone_is_its_last_row():
    torch.manual_seed(1)
    options = GPTOptions(layers=2, heads=2, width=8)
    traced = trace(build(options, VOCABULARY, 12).eval(), np.arange(6))
    for end, whole in zip(attention_of(traced, whole=False), attention_of(traced), strict=True):
        np.testing.assert_array_equal(end, whole[:, -1:])


def test_a_text_too_long_to_be_looked_into_at_each_token_is_refused(trained, monkeypatch):
    monkeypatch.setattr("textwright.inspection.text.MOST_WHOLE", 3)
    writer = tw.load(trained)
    model = open_model(writer.run)
    done = []
    with pytest.raises(GenerationError, match="at each of 6 tokens, and 3 are the most"):
        read_text(
            writer.generator,
            model,
            "Slow soup for two.",
            views=["surprisal", "gates"],
            on_progress=lambda *stage: done.append(stage),
        )
    assert not done  # before the long work
    assert read_text(writer.generator, model, "Slow soup for two.", views=["surprisal"]).surprisal


def test_counts_have_nothing_inside():
    assert views_of(None) == []


def test_the_only_token_that_matches_the_query_gets_all_of_the_attention():
    """All queries are equal, and the key of id 2 differs from the others."""
    model = build(GPTOptions(layers=1, heads=1, width=4), VOCABULARY, context_length=8)
    with torch.no_grad():
        model.embedding.copy_(torch.tensor([[-1.0, 1.0, -1.0, 1.0]]))
        model.embedding[2] *= -1
        model.positions.zero_()
        attention = model.blocks[0].attention
        attention.input.weight.zero_()
        attention.input.weight[4, 0] = 50.0  # the first key
        attention.input.bias.zero_()
        attention.input.bias[0] = 50.0  # the first query
    traced = trace(model, np.array([0, 4, 5, 6, 2, 3]))
    assert newest_attention(attention_of(traced)) == [[[0, 0, 0, 0, 1, 0]]]
