"""The contract, tested for every family in FAMILIES, and the recurrent family.

Tests of the attention family are in test_gpt.py.
"""

import itertools

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from small_models import SMALL
from torch import nn

from textwright.compute.device import autocast
from textwright.families import FAMILIES, LSTMOptions
from textwright.models import TorchBackend, build, lstm
from textwright.models.loss import BLOCK_ELEMENTS, next_token_loss
from textwright.models.lstm import LSTM

VOCABULARY = 11
CONTEXT = 12


@pytest.fixture(params=SMALL)
def model(request):
    torch.manual_seed(1)
    made = build(SMALL[request.param], VOCABULARY, CONTEXT)
    for parameter in made.parameters():  # biases too, or their place in the equations is untested
        nn.init.normal_(parameter, std=0.4)
    return made.eval()


def ids_of(*shape, seed=0):
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def test_every_family_is_covered():
    assert {options.family for options in SMALL.values()} == {
        name for name, family in FAMILIES.items() if not family.counted
    }


def test_shapes(model):
    ids = ids_of(3, 5)
    hidden, state = model.encode(ids)
    assert hidden.shape[:2] == (3, 5)
    assert model.project(hidden).shape == (3, 5, VOCABULARY)
    assert state.lengths.tolist() == [5, 5, 5]


def test_a_token_changes_nothing_before_it(model):
    ids = ids_of(2, 7)
    other = ids.clone()
    other[:, 4] = (other[:, 4] + 1) % VOCABULARY
    before, after = model.encode(ids)[0], model.encode(other)[0]
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_reading_on_from_a_state_equals_reading_at_once(model):
    ids = ids_of(3, 9)
    whole, end = model.encode(ids)
    first, state = model.encode(ids[:, :4])
    second, state = model.encode(ids[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    for name, tensor in end.tensors().items():
        torch.testing.assert_close(state.tensors()[name], tensor)


def test_ragged_rows_equal_single_rows(model):
    lengths = [2, 5, 1, 4]
    ids = ids_of(4, 5)
    hidden, state = model.encode(ids, lengths=torch.tensor(lengths))
    following = ids_of(4, 3, seed=1)
    after, _ = model.encode(following, state)
    for row, length in enumerate(lengths):
        alone, own = model.encode(ids[row : row + 1, :length])
        torch.testing.assert_close(hidden[row : row + 1, :length], alone)
        torch.testing.assert_close(
            after[row : row + 1], model.encode(following[row : row + 1], own)[0]
        )


def test_states_can_be_selected_and_joined(model):
    _, state = model.encode(ids_of(3, 4))
    joined = type(state).concat([state.select([2, 0]), state.select([1, 1])])
    following = ids_of(4, 2, seed=1)
    got, _ = model.encode(following, joined)
    want, _ = model.encode(following, state.select([2, 0, 1, 1]))
    torch.testing.assert_close(got, want)
    assert joined.lengths.tolist() == [4] * 4


def test_trace_equals_encode(model):
    ids = ids_of(2, 6)
    torch.testing.assert_close(model.trace(ids).hidden, model.encode(ids)[0])


def test_encode_has_the_gradients_of_the_written_out_equations(model):
    ids = ids_of(2, 6)
    weights = [p for name, p in model.named_parameters() if not name.startswith("output.")]
    fused = torch.autograd.grad(model.encode(ids)[0].square().sum(), weights)
    explicit = torch.autograd.grad(model.trace(ids).hidden.square().sum(), weights)
    for mine, reference in zip(fused, explicit, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5)


def test_saved_weights_give_the_same_logits(model, tmp_path):
    save_file({n: t.numpy() for n, t in model.state_dict().items()}, tmp_path / "m.safetensors")
    again = build(model.options, VOCABULARY, CONTEXT).eval()
    again.load_state_dict(
        {n: torch.from_numpy(a) for n, a in load_file(tmp_path / "m.safetensors").items()}
    )
    ids = ids_of(2, 5)
    assert torch.equal(model.project(model.encode(ids)[0]), again.project(again.encode(ids)[0]))


def test_the_torch_backend_gives_the_models_logits(model):
    backend = TorchBackend(model)
    ids, lengths = ids_of(3, 4).numpy(), np.array([4, 2, 3])
    logits, state = backend.prefill(ids, lengths)
    assert logits.dtype == np.float32
    more, _ = backend.step(np.array([5, 6, 7]), state)
    for row, length in enumerate(lengths):
        sequence = torch.tensor([[*ids[row, :length], 5 + row]])
        want = model.project(model.encode(sequence)[0])[0].detach().numpy()
        np.testing.assert_allclose(logits[row], want[-2], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(more[row], want[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # bf16 rows are filled up
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("vocabulary", [7, BLOCK_ELEMENTS // 20])  # one block, and several
def test_the_blocked_loss_equals_cross_entropy_with_all_its_gradients(bias, vocabulary, dtype):
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(5, 9, 4, generator=random, requires_grad=True)
    weight = torch.randn(vocabulary, 4, generator=random, requires_grad=True)
    offset = torch.randn(vocabulary, generator=random, requires_grad=True) if bias else None
    targets = torch.randint(vocabulary, (5, 9), generator=random)
    targets[:2, 3:] = -100
    leaves = [leaf for leaf in (hidden, weight, offset) if leaf is not None]

    with autocast(torch.device("cpu"), dtype):
        nats, count = next_token_loss(hidden, targets, weight, offset)
    got = torch.autograd.grad(nats / count, leaves)
    logits = nn.functional.linear(hidden, weight, offset)
    mean = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    want = torch.autograd.grad(mean, leaves)

    assert count == 5 * 9 - 2 * 6
    exact = dtype == torch.float32
    torch.testing.assert_close(nats / count, mean, rtol=1e-6 if exact else 1e-2, atol=1e-6)
    for mine, reference in zip(got, want, strict=True):
        near = {"rtol": 1e-4, "atol": 1e-6} if exact else {"rtol": 3e-2, "atol": 3e-3}
        torch.testing.assert_close(mine, reference, **near)


def test_s1_has_the_published_parameters():
    model = build(LSTMOptions(embedding_size=100, hidden_size=128), 10_000, 200)
    counts = {}
    for name, parameter in model.named_parameters():
        part = name.partition(".")[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    assert counts == {"embedding": 1_000_000, "layers": 117_248, "output": 1_290_000}


def test_a_fresh_lstm_remembers_by_default():
    layer = LSTM(LSTMOptions(hidden_size=8), VOCABULARY).layers[0]
    assert layer.bias.chunk(4)[1].eq(1).all()
    assert sum(layer.bias.tolist()) == 8


def test_the_zero_recurrent_bias_is_neither_saved_nor_counted():
    names = {
        kind: set(build(SMALL[kind], VOCABULARY, CONTEXT).state_dict()) for kind in ("lstm", "gru")
    }
    assert "layers.0.recurrent_bias" not in names["lstm"]
    assert "layers.0.recurrent_bias" in names["gru"]


def test_without_a_bf16_lstm_its_layers_are_float32(monkeypatch):
    """As on a processor without AVX-512, where PyTorch's kernel raises."""
    monkeypatch.setattr(lstm, "_has_bf16_lstm", lambda: False)
    made = build(LSTMOptions(embedding_size=6, hidden_size=10), 9, 8)
    ids = torch.randint(9, (2, 7))
    with autocast(torch.device("cpu"), torch.bfloat16):
        hidden, state = made.encode(ids[:, :4])
        rest, _ = made.encode(ids[:, 4:], state, torch.tensor([3, 2]))
    whole, _ = made.encode(ids)
    torch.testing.assert_close(torch.cat([hidden, rest], 1)[0], whole[0], rtol=1e-5, atol=1e-6)


def test_gates_are_named_and_bounded():
    model = build(SMALL["lstm"], VOCABULARY, CONTEXT).eval()
    gates = model.trace(ids_of(2, 5)).gates
    assert [set(layer) for layer in gates] == [{"f", "i", "candidate", "C", "o", "h"}] * 2
    for layer, name in itertools.product(gates, "fio"):
        assert ((layer[name] > 0) & (layer[name] < 1)).all()


@pytest.mark.parametrize("name", ["tied", "gpt-book"])
def test_dropout_acts_in_training_only(name):
    model = build(SMALL[name], VOCABULARY, CONTEXT)
    ids = ids_of(2, 5)
    assert not torch.equal(model.train().encode(ids)[0], model.encode(ids)[0])
    assert torch.equal(model.eval().encode(ids)[0], model.encode(ids)[0])


def test_weights_are_drawn_as_the_library_named_draws_them():
    torch.manual_seed(0)
    widths = {"embedding_size": 60, "hidden_size": 64, "layers": 2}
    like_torch = build(LSTMOptions(initialization="torch", **widths), 500, 10)
    torchs = nn.LSTM(60, 64, 2)
    for layer, number in zip(like_torch.layers, range(2), strict=True):
        for mine, theirs in (("input_weight", "weight_ih"), ("recurrent_weight", "weight_hh")):
            want = getattr(torchs, f"{theirs}_l{number}")
            assert getattr(layer, mine).std().item() == pytest.approx(want.std().item(), rel=0.05)
    assert like_torch.embedding.std().item() == pytest.approx(1, rel=0.05)
    like_keras = build(LSTMOptions(**widths), 500, 10)
    assert like_keras.embedding.abs().max() <= 0.05
    square = like_keras.layers[0].recurrent_weight
    torch.testing.assert_close(square.T @ square, torch.eye(64), atol=1e-5, rtol=0)
