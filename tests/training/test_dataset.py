"""Every layout covers an epoch exactly, and a batch depends on nothing but its arguments."""

import numpy as np
import pytest

from textwright.config import Config, DataOptions
from textwright.families import GPTOptions, LSTMOptions
from textwright.models.loss import PADDING_TARGET
from textwright.training.dataset import Lanes, Rows, Windows, choose_layout, cut
from textwright.training.encoded import Documents

STOP = 0


@pytest.fixture
def documents():
    """37 documents of 0 to 12 ids; every id is its own, so that coverage can be counted."""
    lengths = np.random.default_rng(0).integers(0, 13, 37)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return Documents(np.arange(1, starts[-1] + 1, dtype=np.uint16), starts, STOP)


def real(batch):
    return batch.targets[batch.targets != PADDING_TARGET]


def test_a_row_begins_and_ends_with_the_stop(documents):
    ids = documents[5]
    assert documents.row(5, limit=100).tolist() == [STOP, *ids, STOP]


def test_a_row_cut_short_has_no_false_ending():
    documents = Documents(np.arange(1, 6, dtype=np.uint8), np.array([0, 5]), STOP)
    assert documents.row(0, limit=4).tolist() == [0, 1, 2, 3, 4]
    assert documents.row(0, limit=5).tolist() == [0, 1, 2, 3, 4, 5]
    assert documents.row(0, limit=6).tolist() == [0, 1, 2, 3, 4, 5, 0]


def test_rows_cover_every_document_once_an_epoch(documents):
    layout = Rows(documents, context_length=100, batch_size=4, seed=1)
    for epoch in (0, 1):
        steps = range(epoch * layout.steps_per_epoch, (epoch + 1) * layout.steps_per_epoch)
        targets = np.concatenate([real(layout.batch(step)) for step in steps])
        assert sorted(targets[targets != STOP]) == documents.ids.tolist()
        assert (targets == STOP).sum() == len(documents)


def test_inputs_and_targets_are_one_apart(documents):
    for layout in (
        Rows(documents, 100, 4, 0),
        Windows(documents, 6, 4, 0),
        Lanes(documents, 6, 4, 0),
    ):
        batch = layout.batch(2)
        same = batch.targets[:, :-1] == batch.inputs[:, 1:]
        assert (same | (batch.targets[:, 1:] == PADDING_TARGET)).all()


def test_rows_are_shuffled_anew_each_epoch(documents):
    layout = Rows(documents, 100, 4, seed=1)
    first, second = (np.concatenate(layout.order(epoch)) for epoch in (0, 1))
    assert sorted(first) == sorted(second)
    assert (first != second).any()


def test_little_of_a_batch_of_rows_is_padding():
    lengths = np.random.default_rng(0).integers(1, 200, 2000)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    documents = Documents(np.ones(starts[-1], np.uint8), starts, STOP)
    layout = Rows(documents, 200, 32, seed=0)
    cells = [layout.batch(step).targets for step in range(layout.steps_per_epoch)]
    padding = sum((c == PADDING_TARGET).sum() for c in cells) / sum(c.size for c in cells)
    assert padding < 0.03  # rows of random order would lose about a half


def test_windows_cover_every_target_of_an_epoch(documents):
    layout = Windows(documents, context_length=7, batch_size=3, seed=2)
    for epoch in (0, 1):
        steps = range(epoch * layout.steps_per_epoch, (epoch + 1) * layout.steps_per_epoch)
        seen = np.concatenate([layout.batch(step).targets.ravel() for step in steps])
        assert set(documents.ids.tolist()) <= set(seen.tolist())
        assert len(seen) < documents.targets + 7


def test_lanes_read_every_target_once_and_in_one_piece(documents):
    layout = Lanes(documents, context_length=5, batch_size=3, seed=3)
    batches = [layout.batch(step) for step in range(layout.steps_per_epoch)]
    assert batches[0].starts.all()
    later = [layout.batch(step).starts for step in range(layout.steps_per_epoch * 200)]
    assert 1 / layout.steps_per_epoch < np.mean(later) < 1.3 / layout.steps_per_epoch
    inputs = np.concatenate([batch.inputs for batch in batches], axis=1)
    targets = np.concatenate([batch.targets for batch in batches], axis=1)
    assert (inputs[:, 1:] == targets[:, :-1]).all()  # a lane has no seam
    surplus = targets.size - documents.targets  # the lanes' common length, rounded up
    assert 0 <= surplus < 3
    counted = np.bincount(targets.ravel(), minlength=len(documents.ids) + 1)
    assert counted[1:].min() >= 1
    assert counted.sum() == documents.targets + surplus


@pytest.mark.parametrize("kind", ["rows", "windows", "stream"])
def test_shares_put_together_are_the_whole_batch(documents, kind):
    layout = cut(documents, DataOptions(layout=kind, context_length=6), batch_size=5, seed=4)
    for step in (0, 3):
        whole = layout.batch(step)
        shares = [layout.batch(step, share, shares=3) for share in range(3)]
        assert sum(len(share.inputs) for share in shares) == len(whole.inputs)
        assert sorted(np.concatenate([real(s) for s in shares])) == sorted(real(whole))


@pytest.mark.parametrize("kind", ["rows", "windows", "stream"])
def test_a_batch_depends_on_its_step_and_seed_only(documents, kind):
    options = DataOptions(layout=kind, context_length=6)
    one, other = cut(documents, options, 4, seed=5), cut(documents, options, 4, seed=5)
    other.batch(9)  # what was asked for before does not matter
    assert (one.batch(7).inputs == other.batch(7).inputs).all()
    assert one.batch(7).targets.tolist() != cut(documents, options, 4, 6).batch(7).targets.tolist()


def test_more_processes_than_rows_leaves_some_with_nothing(documents):
    layout = Rows(documents, 100, batch_size=4, seed=1)
    last = layout.steps_per_epoch - 1  # 37 documents: one is left
    assert [len(layout.batch(last, share, 4).inputs) for share in range(4)] == [1, 0, 0, 0]


def test_auto_takes_rows_where_documents_fit_and_otherwise_what_the_model_can_carry(documents):
    def chosen(model=LSTMOptions(), **data):  # noqa: B008
        return choose_layout(Config(data=DataOptions(**data), model=model), documents).data.layout

    assert chosen(context_length=12) == "rows"
    assert chosen(context_length=2) == "stream"
    assert chosen(context_length=2, model=GPTOptions()) == "windows"
    assert chosen(layout="windows") == "windows"
