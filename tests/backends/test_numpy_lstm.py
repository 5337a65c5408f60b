"""The torch-free backend against the cell equations written out in float64, and against torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from textwright.backends import numpy_lstm
from textwright.backends.numpy_lstm import NumpyLSTM, NumpyRecurrentState
from textwright.errors import RunError

VOCABULARY, EMBEDDING, WIDTH = 11, 5, 7
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
MODELS = [(cell, layers, tied) for cell in GATES for layers in (1, 3) for tied in (False, True)]
Weights = dict[str, np.ndarray]


def random_weights(cell: str, layers: int, tied: bool, seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> np.ndarray:
        return (0.7 * rng.standard_normal(shape)).astype(np.float32)

    inputs = WIDTH if tied else EMBEDDING
    weights = {"embedding": array(VOCABULARY, inputs), "output.bias": array(VOCABULARY)}
    if not tied:
        weights["output.weight"] = array(VOCABULARY, WIDTH)
    for layer in range(layers):
        rows = GATES[cell] * WIDTH
        weights[f"layers.{layer}.input_weight"] = array(rows, inputs)
        weights[f"layers.{layer}.recurrent_weight"] = array(rows, WIDTH)
        weights[f"layers.{layer}.bias"] = array(rows)
        if cell == "gru":
            weights[f"layers.{layer}.recurrent_bias"] = array(rows)
        inputs = WIDTH
    return weights


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def written_out(weights: Weights, cell: str, layers: int, ids: np.ndarray) -> np.ndarray:
    """Logits (T, V) after every id, one at a time in float64, gate by gate."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    h = [np.zeros(WIDTH) for _ in range(layers)]
    c = [np.zeros(WIDTH) for _ in range(layers)]
    logits = []
    for token in ids:
        x = w["embedding"][token]
        for layer in range(layers):
            name = f"layers.{layer}."
            from_x = np.split(w[name + "input_weight"] @ x, GATES[cell])
            from_h = np.split(w[name + "recurrent_weight"] @ h[layer], GATES[cell])
            bias = np.split(w[name + "bias"], GATES[cell])
            if cell == "lstm":
                i, f, candidate, o = (
                    a + b + d for a, b, d in zip(from_x, from_h, bias, strict=True)
                )
                c[layer] = sigmoid(f) * c[layer] + sigmoid(i) * np.tanh(candidate)
                h[layer] = sigmoid(o) * np.tanh(c[layer])
            elif cell == "gru":
                inner = np.split(w[name + "recurrent_bias"], 3)
                r = sigmoid(from_x[0] + bias[0] + from_h[0] + inner[0])
                z = sigmoid(from_x[1] + bias[1] + from_h[1] + inner[1])
                n = np.tanh(from_x[2] + bias[2] + r * (from_h[2] + inner[2]))
                h[layer] = (1 - z) * n + z * h[layer]
            else:
                h[layer] = np.tanh(from_x[0] + from_h[0] + bias[0])
            x = h[layer]
        logits.append(w.get("output.weight", w["embedding"]) @ x + w["output.bias"])
    return np.array(logits)


def random_ids(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCABULARY, shape)


@pytest.fixture(params=[True, False], ids=["table", "no table"])
def table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to get the first layer's input product: looked up, and computed."""
    if not request.param:
        monkeypatch.setattr(numpy_lstm, "_TABLE_SIZE", 0)


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(("cell", "layers", "tied"), MODELS)
def test_steps_follow_the_equations(cell: str, layers: int, tied: bool) -> None:
    weights = random_weights(cell, layers, tied)
    before = {name: array.copy() for name, array in weights.items()}
    backend, ids = NumpyLSTM(weights), random_ids(40)
    expected = written_out(weights, cell, layers, ids)
    logits, state = backend.prefill(ids[None, :1], np.array([1]))
    for t in range(1, 40):
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits[0], expected[t - 1], atol=2e-5)
        logits, state = backend.step(ids[t : t + 1], state)
    assert state.lengths.tolist() == [40]
    for name, array in before.items():  # the caller's weights are not written into
        np.testing.assert_array_equal(weights[name], array)


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(("cell", "layers", "tied"), MODELS)
def test_a_ragged_batch_equals_single_rows(cell: str, layers: int, tied: bool) -> None:
    weights = random_weights(cell, layers, tied)
    backend, ids = NumpyLSTM(weights), random_ids(6, 9)
    lengths = np.array([3, 9, 1, 9, 5, 2])
    logits, state = backend.prefill(ids, lengths)
    after, state = backend.step(random_ids(6, seed=2), state)
    assert state.lengths.tolist() == (lengths + 1).tolist()
    for row, length in enumerate(lengths):
        whole = np.append(ids[row, :length], random_ids(6, seed=2)[row])
        expected = written_out(weights, cell, layers, whole)
        np.testing.assert_allclose(logits[row], expected[-2], atol=2e-5)
        np.testing.assert_allclose(after[row], expected[-1], atol=2e-5)
        alone, _ = backend.prefill(ids[row : row + 1, :length], lengths[row : row + 1])
        np.testing.assert_allclose(logits[row], alone[0], atol=2e-6)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 9])
def test_every_batch_size_gives_the_same_logits(rows: int) -> None:
    # Small batches are multiplied by the output layer row by row, large ones at once.
    backend = NumpyLSTM(random_weights("lstm", 2, False))
    ids = random_ids(9, 4)
    whole, _ = backend.prefill(ids, np.full(9, 4))
    part, _ = backend.prefill(ids[:rows], np.full(rows, 4))
    np.testing.assert_allclose(part, whole[:rows], atol=2e-6)


@pytest.mark.parametrize("cell", GATES)
def test_selected_and_joined_states_give_the_same_logits(cell: str) -> None:
    backend = NumpyLSTM(random_weights(cell, 2, False))
    ids, lengths = random_ids(4, 6), np.array([6, 2, 4, 3])
    _, state = backend.prefill(ids, lengths)
    _, other = backend.prefill(ids[:1], np.array([5]))
    picked = NumpyRecurrentState.concat(
        [state.select([2, 0, 2]), other, state.select(np.array([1]))]
    )
    assert picked.lengths.tolist() == [4, 6, 4, 5, 2]
    next_ids = random_ids(5, seed=3)
    logits, _ = backend.step(next_ids, picked)
    for place, row in enumerate([2, 0, 2, None, 1]):
        one = other if row is None else state.select([row])
        alone, _ = backend.step(next_ids[place : place + 1], one)
        np.testing.assert_allclose(logits[place], alone[0], atol=2e-6)


def test_a_step_does_not_change_the_state_before_it() -> None:
    backend = NumpyLSTM(random_weights("lstm", 2, False))
    _, state = backend.prefill(random_ids(2, 3), np.array([3, 2]))
    first, _ = backend.step(np.array([1, 2]), state)
    again, _ = backend.step(np.array([1, 2]), state)
    np.testing.assert_array_equal(first, again)


def test_saturated_gates_neither_overflow_nor_warn() -> None:
    weights = {name: 1000 * array for name, array in random_weights("lstm", 1, False).items()}
    logits, _ = NumpyLSTM(weights).prefill(random_ids(1, 9), np.array([9]))
    assert np.isfinite(logits).all()


def test_s1_has_the_published_number_of_parameters() -> None:
    v, e, h = 10_000, 100, 128
    shapes = {
        "embedding": (v, e),
        "layers.0.input_weight": (4 * h, e),
        "layers.0.recurrent_weight": (4 * h, h),
        "layers.0.bias": (4 * h,),
        "output.weight": (v, h),
        "output.bias": (v,),
    }
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    assert sum(array.size for array in weights.values()) == 2_407_248
    logits, _ = NumpyLSTM(weights).prefill(np.array([[0, 1]]), np.array([2]))
    assert logits.shape == (1, v)


def drop(name: str) -> Callable[[Weights], Any]:
    return lambda weights: weights.pop(name)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (drop("embedding"), "lack embedding"),
        (drop("output.bias"), r"lack output\.bias"),
        (drop("layers.0.recurrent_weight"), r"lack layers\.0\.recurrent_weight"),
        (drop("layers.1.bias"), r"lack layers\.1\.bias"),
        (drop("output.weight"), r"output\.weight is missing, and the embedding, 5 wide"),
        (lambda w: w.update({"layers.0.bias": np.zeros(3)}), r"layers\.0\.bias has shape \(3,\)"),
        (
            lambda w: w.update({"layers.0.recurrent_weight": np.zeros((14, 7))}),
            r"has shape \(14, 7\); an LSTM has 4 times",
        ),
        (lambda w: w.update({"positions": np.zeros((2, 2))}), "hold positions"),
        (drop("layers.1.recurrent_weight"), r"hold layers\.1\.bias, layers\.1\.input_weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    damage: Callable[[Weights], Any], sentence: str
) -> None:
    weights = random_weights("lstm", 2, False)
    damage(weights)
    with pytest.raises(RunError, match=sentence + r".* restore them, or train"):
        NumpyLSTM(weights)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", GATES)
def test_torch_layers_agree(cell: str, layers: int) -> None:
    torch = pytest.importorskip("torch")
    make = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell]
    module = make(EMBEDDING, WIDTH, layers, batch_first=True)
    weights = random_weights(cell, layers, False)
    with torch.no_grad():
        for layer in range(layers):
            for theirs, ours in [
                ("weight_ih", "input_weight"),
                ("weight_hh", "recurrent_weight"),
                ("bias_ih", "bias"),
                ("bias_hh", "recurrent_bias"),
            ]:
                parameter = getattr(module, f"{theirs}_l{layer}")
                array = weights.get(f"layers.{layer}.{ours}")
                parameter.copy_(torch.zeros(()) if array is None else torch.tensor(array))
        ids = random_ids(3, 20)
        hidden = module(torch.tensor(weights["embedding"][ids]))[0].numpy()
    logits, _ = NumpyLSTM(weights).prefill(ids, np.full(3, 20))
    expected = hidden[:, -1] @ weights["output.weight"].T + weights["output.bias"]
    np.testing.assert_allclose(logits, expected, atol=2e-5)


@pytest.mark.parametrize(("cell", "layers", "tied"), MODELS)
def test_both_backends_agree(cell: str, layers: int, tied: bool) -> None:
    torch = pytest.importorskip("torch")
    from textwright.families import LSTMOptions
    from textwright.models import TorchBackend, build

    torch.manual_seed(0)
    options = LSTMOptions(
        cell=cell,
        layers=layers,
        tie_output=tied,
        embedding_size=WIDTH if tied else EMBEDDING,
        hidden_size=WIDTH,
    )
    model = build(options, VOCABULARY, 32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.7)
    theirs = TorchBackend(model)
    ours = NumpyLSTM({name: tensor.numpy() for name, tensor in model.state_dict().items()})
    ids, lengths = random_ids(4, 8), np.array([8, 3, 1, 5])
    (expected, their_state), (logits, our_state) = (b.prefill(ids, lengths) for b in (theirs, ours))
    for t in range(10):
        np.testing.assert_allclose(logits, expected, atol=2e-5)
        next_ids = random_ids(4, seed=t)
        expected, their_state = theirs.step(next_ids, their_state)
        logits, our_state = ours.step(next_ids, our_state)
