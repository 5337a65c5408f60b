"""The torch-free GPT against torch's, which is compared with `transformers` elsewhere."""

import numpy as np
import pytest
import torch
from seeds import assert_same_draws
from small_models import SMALL
from torch import nn

from textwright.backends import numpy_gpt
from textwright.backends.numpy_gpt import NumpyGPT
from textwright.errors import RunError
from textwright.families import GPTOptions
from textwright.models import TorchBackend, build
from textwright.writing.rows import Row, RunningBatch

VOCABULARY, CONTEXT = 11, 12
SHAPES = {
    "gpt-2": GPTOptions(layers=2, heads=2, width=8),
    "book": GPTOptions(
        layers=1,
        heads=3,
        width=7,
        key_width=5,
        value_width=2,
        feedforward_width=6,
        activation="relu",
        norm="post",
        norm_epsilon=1e-6,
        tie_output=False,
    ),
    "waves": GPTOptions(layers=2, heads=1, width=6, positions="sinusoidal"),
    **{name: SMALL[name] for name in ("llama", "llama-stretched", "qwen2", "qwen3", "gpt-mixed")},
}


@pytest.fixture(params=SHAPES)
def backends(request):
    torch.manual_seed(1)
    model = build(SHAPES[request.param], VOCABULARY, CONTEXT)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return TorchBackend(model), NumpyGPT(weights, SHAPES[request.param].with_context(CONTEXT))


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_prompts_of_different_lengths_and_what_follows_them(backends):
    ids = np.random.default_rng(0).integers(VOCABULARY, size=(5, 7))
    lengths = np.array([7, 1, 4, 7, 2])
    states = []
    for backend in backends:
        logits, state = backend.prefill(ids, lengths)
        states.append([logits, state])
    for _ in range(5):
        close(states[1][0], states[0][0])
        for backend, reading in zip(backends, states, strict=True):
            reading[:] = backend.step(np.array([5, 6, 7, 8, 9]), reading[1])
    assert states[1][1].lengths.tolist() == (lengths + 5).tolist()


def test_a_long_prompt_is_read_some_queries_at_a_time(backends, monkeypatch):
    monkeypatch.setattr(numpy_gpt, "QUERIES", 3)
    ids = np.random.default_rng(4).integers(VOCABULARY, size=(2, 8))
    reads = [backend.prefill(ids, np.array([8, 5])) for backend in backends]
    close(reads[1][0], reads[0][0])
    reads = [
        backend.follow(ids[:, :4], state)
        for backend, (_, state) in zip(backends, reads, strict=True)
    ]
    close(reads[1][0], reads[0][0])


def test_states_are_selected_and_joined(backends):
    ids = np.random.default_rng(1).integers(VOCABULARY, size=(3, 4))
    logits = []
    for backend in backends:
        _, state = backend.prefill(ids, np.array([4, 2, 3]))
        _, other = backend.prefill(ids[:1], np.array([1]))
        joined = type(state).concat([state.select([2, 1]), other, state.select([1, 1])])
        logits.append(backend.step(np.array([1, 2, 3, 4, 2]), joined)[0])
    close(logits[1], logits[0])
    for written in logits:  # a row twice, at places where their sums are rounded in another order
        assert_same_draws(written[1], written[4])


def test_a_state_can_be_read_on_twice(backends):
    backend = backends[1]
    _, state = backend.prefill(np.array([[1, 2]]), np.array([2]))
    _, state = backend.step(np.array([3]), state)
    first, _ = backend.step(np.array([4]), state)
    backend.step(np.array([5]), state)
    again, _ = backend.step(np.array([4]), state)
    np.testing.assert_array_equal(first, again)


def test_writing_past_the_context(backends):
    batches = [RunningBatch(backend, 0) for backend in backends]
    for batch in batches:
        batch.admit([Row(0, [3, 1, 4]), Row(1, [])])
    for new_ids in np.random.default_rng(2).integers(VOCABULARY, size=(40, 2)).tolist():
        close(batches[1].logits, batches[0].logits)
        for batch in batches:
            for row in batch.rows:
                row.ids.append(new_ids[row.prompt])
            batch.advance()


def test_weights_that_do_not_fit_are_refused():
    model = build(SHAPES["gpt-2"], VOCABULARY, CONTEXT)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    with pytest.raises(RunError, match=r"positions has shape \(12, 8\), not 9 × 8"):
        NumpyGPT(weights, SHAPES["gpt-2"].with_context(9))
    with pytest.raises(RunError, match="which this model does not have"):
        NumpyGPT({**weights, "output.bias": np.zeros(3)}, SHAPES["gpt-2"].with_context(CONTEXT))
    del weights["norm.bias"]
    with pytest.raises(RunError, match=r"The weights lack norm\.bias"):
        NumpyGPT(weights, SHAPES["gpt-2"].with_context(CONTEXT))
