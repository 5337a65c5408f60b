"""Training learns, stops when it should, and goes on bit by bit from any step."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from textwright.config import DataOptions, TrainOptions
from textwright.errors import TrainingError
from textwright.evaluation.scores import Scores
from textwright.families import GPTOptions, LSTMOptions
from textwright.models import build
from textwright.training.dataset import cut
from textwright.training.encoded import Documents
from textwright.training.events import Evaluation, Finished, Step
from textwright.training.opening import Opener
from textwright.training.splitting import Splitter
from textwright.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY = 9
# Tokens 5 to 8, as if merged from smaller ones.
HALVES = np.array([*[(-1, -1)] * 5, (1, 4), (2, 4), (3, 4), (5, 3)])
# Token 4, as if it ended a line.
ENDING = np.array([0, 0, 0, 0, 1, 0, 0, 0, 0])
OPENER = Opener(ENDING, np.zeros(VOCABULARY, bool), 1, 0, 0.5, seed=3)


def documents(count=40):
    """Documents that count upward from a random id, so there is something to learn."""
    random = np.random.default_rng(0)
    lengths = random.integers(3, 15, count)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = [(np.arange(n) + random.integers(8)) % 8 + 1 for n in lengths]
    return Documents(np.concatenate(ids).astype(np.uint8), starts, 0)


def scores(loss):
    return Scores(loss, math.exp(loss), loss, loss, 1, 1, (loss, loss), loss, loss)


RECURRENT = LSTMOptions(embedding_size=6, hidden_size=10, dropout=0.2)


def trainer(
    layout="rows",
    evaluate=lambda: scores(1.0),
    seed=0,
    batch=8,
    changes=(),
    model=RECURRENT,
    **options,
):
    options = {"schedule": "constant", "clip_norm": 0.0, **options}
    torch.manual_seed(seed)
    model = build(model, VOCABULARY, 8)
    data = cut(documents(), DataOptions(layout=layout, context_length=6), batch, seed=0)
    return Trainer(model, data, TrainOptions(**options), evaluate, changes=changes)


def weights(trained):
    return torch.cat([p.detach().reshape(-1) for p in trained.model.parameters()])


def losses(events):
    return [event.loss for event in events if isinstance(event, Step)]


def test_the_loss_falls():
    fell = losses(trainer(epochs=60, learning_rate=0.03, early_stopping=0).run())
    assert np.mean(fell[:5]) > 2.0
    assert np.mean(fell[-5:]) < 1.2


@pytest.mark.parametrize(
    ("layout", "optimizer"), [("rows", "adam"), ("windows", "muon"), ("stream", "muon")]
)
@pytest.mark.parametrize("interrupted", [1, 7, 12])
def test_training_goes_on_bit_by_bit(layout, optimizer, interrupted):
    def make():
        options = {"optimizer": optimizer, "clip_norm": 1.0, "stall_patience": 1, "seed": 3}
        changes = [Splitter(HALVES, 0.5, seed=3).split, OPENER.open] if layout == "windows" else ()
        return trainer(layout, epochs=4, max_steps=19, changes=changes, **options)

    whole = make()
    expected = losses(whole.run())
    first = make()
    started = losses(itertools.islice((e for e in first.run() if isinstance(e, Step)), interrupted))
    snapshot = first.snapshot()
    torch.manual_seed(99)  # nothing of the first process is left
    second = make()
    second.restore(snapshot)
    assert started + losses(second.run()) == expected
    assert torch.equal(weights(whole), weights(second))


def test_a_snapshot_takes_no_memory_beside_what_trains():
    made = trainer(max_steps=3)
    made.train_step()
    assert all(parameter.grad is None for parameter in made.model.parameters())
    places = {p.data_ptr() for p in made.model.parameters()}
    places |= {t.data_ptr() for state in made.optimizer.state.values() for t in state.values()}
    snapshot = made.snapshot()
    moments = {k: a for k, a in snapshot.tensors.items() if k.startswith("optimizer.")}
    assert moments
    assert {a.ctypes.data for a in [*snapshot.weights.values(), *moments.values()]} <= places


@pytest.mark.parametrize("layout", ["rows", "windows", "stream"])
def test_accumulated_parts_take_the_step_of_the_whole_batch(layout):
    changes = [Splitter(HALVES, 0.5, seed=0).split, OPENER.open] if layout == "windows" else ()

    def train(parts):
        options = {"accumulate": parts, "max_steps": 6, "learning_rate": 0.01}
        made = trainer(layout, changes=changes, **options)
        made.model.dropout.p = 0.0  # its masks are drawn a part
        return losses(made.run()), weights(made)

    (one_loss, one), (three_loss, three) = train(1), train(3)
    assert one_loss == pytest.approx(three_loss, rel=1e-5)
    torch.testing.assert_close(one, three, rtol=1e-3, atol=1e-5)


def test_in_windows_a_gpt_reads_each_document_as_if_alone():
    made = trainer("windows", model=GPTOptions(layers=2, heads=2, width=8))
    model, batch = made.model.eval(), made.layout.batch(0)
    nats = 0.0
    for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
        stops = np.flatnonzero(inputs == 0)
        for part in np.split(np.arange(len(inputs)), stops):
            if len(part):
                hidden, _ = model.encode(torch.from_numpy(inputs[part])[None])
                summed, _ = model.next_token_loss(hidden, torch.from_numpy(targets[part])[None])
                nats += summed.item()
    assert (batch.inputs[:, 1:] == 0).any()
    assert made.train_step().loss == pytest.approx(nats / batch.targets.size, rel=1e-5)


def test_rows_of_a_stream_that_start_anew_are_read_without_a_state():
    made = trainer("stream", batch=3)
    layout, model = made.layout, made.model.eval()
    given = layout.batch(0)
    carried = model.encode(torch.from_numpy(given.inputs))[1]
    made.states[0] = carried

    state = made._carried(0, np.array([False, True, False]))
    found = model.encode(torch.from_numpy(layout.batch(1).inputs), state)[0]

    inputs = torch.from_numpy(layout.batch(1).inputs)
    goes_on, anew = model.encode(inputs, carried)[0], model.encode(inputs)[0]
    torch.testing.assert_close(found[[0, 2]], goes_on[[0, 2]])
    torch.testing.assert_close(found[1], anew[1])
    assert not torch.allclose(found[1], goes_on[1])
    assert made._carried(0, np.array([True, True, True])) is None


def test_early_stopping_counts_evaluations_without_gain():
    told = iter([3.0, 2.0, 2.5, 2.4, 2.3, 1.0])
    made = trainer(evaluate=lambda: scores(next(told)), early_stopping=3, epochs=50)
    events = list(made.run())
    assert [e.best for e in events if isinstance(e, Evaluation)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert events[-1].reason == "early_stopping"
    assert made.progress.best_loss == 2.0


def test_the_rate_is_cut_when_the_loss_stalls():
    told = itertools.chain([3.0, 2.0], itertools.repeat(2.5))
    options = {"stall_patience": 2, "stall_factor": 0.5, "early_stopping": 0, "epochs": 7}
    made = trainer(evaluate=lambda: scores(next(told)), learning_rate=0.1, **options)
    rates = [e.learning_rate for e in made.run() if isinstance(e, Step)]
    by_epoch = rates[:: made.layout.steps_per_epoch]
    assert by_epoch == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.025])


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.775, 0.55, 0.325]),
        ("cosine", [0.5, 1.0, 1.0, 0.8682, 0.55, 0.2318]),
    ],
)
def test_schedules_after_a_warm_up(schedule, rates):
    made = trainer(
        schedule=schedule, warmup_steps=2, final_rate=0.1, max_steps=6, learning_rate=1.0
    )
    got = []
    for step in range(6):
        made.progress = dataclasses.replace(made.progress, step=step)
        got.append(made.learning_rate())
    assert got == pytest.approx(rates, abs=1e-4)


def test_training_stops_at_the_step_asked_for_and_is_evaluated_there():
    events = list(trainer(max_steps=7, epochs=50).run())
    assert len(losses(events)) == 7
    assert isinstance(events[-2], Evaluation)
    assert events[-2].step == 7
    assert events[-1] == Finished(7, 7 / 5, "max_steps", events[-1].seconds)


def test_a_time_budget_ends_training():
    events = list(trainer(time_budget="0.2s", epochs=1e6, early_stopping=0).run())
    assert events[-1].reason == "time_budget"
    assert 0.2 <= events[-1].seconds < 5


def test_a_diverged_loss_is_said_in_a_sentence():
    made = trainer(epochs=50)
    made.train_step()
    with torch.no_grad():
        made.model.output["bias"][0] = math.nan
    with pytest.raises(TrainingError, match=r"nan at step 2.*learning_rate"):
        made.train_step()
    assert made.progress.step == 1


def test_evaluation_does_not_touch_the_training_stream():
    def evaluate():
        torch.manual_seed(5)  # whatever it draws …
        return scores(1.0)

    quiet = losses(trainer(epochs=3, early_stopping=0).run())
    drawn = losses(trainer(epochs=3, early_stopping=0, evaluate=evaluate).run())
    assert quiet == drawn


def test_decay_is_for_matrices_only():
    made = trainer(optimizer="adamw", weight_decay=0.1)
    decayed = {id(p) for g in made.optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    named = {name for name, p in made.model.named_parameters() if id(p) in decayed}
    assert "layers.0.bias" not in named
    assert "output.weight" in named


@pytest.mark.parametrize(
    ("options", "joined"),
    [
        (LSTMOptions(embedding_size=6, hidden_size=10), {}),
        (
            GPTOptions(layers=1, heads=4, key_value_heads=2, width=8, activation="swiglu"),
            {
                "attention.input.weight": [8, 4, 4],
                "feedforward.input.weight": [32, 32],
            },
        ),
    ],
)
def test_muon_moves_the_matrices_of_layers(options, joined):
    model = build(options, VOCABULARY, 8)
    data = cut(documents(), DataOptions(layout="rows", context_length=6), 8, seed=0)
    made = Trainer(model, data, TrainOptions(optimizer="muon"), None)
    made.train_step()
    moved = {name for name, p in model.named_parameters() if "momentum" in made.optimizer.state[p]}
    layers = ("layers.", "blocks.")
    assert moved == {n for n, p in model.named_parameters() if n.startswith(layers) and p.dim() > 1}
    assert model.joined_matrices() == {f"blocks.0.{name}": rows for name, rows in joined.items()}
