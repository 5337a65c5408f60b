"""A batch that memory does not hold is split into micro-batches, for the same step."""

import itertools
import re

import numpy as np
import pytest
import torch

from textwright.config import DataOptions, TrainOptions
from textwright.errors import TrainingError
from textwright.families import GPTOptions, LSTMOptions
from textwright.models import build
from textwright.models.lora import adapt
from textwright.training import micro_batches as memory
from textwright.training.dataset import cut
from textwright.training.encoded import Documents
from textwright.training.events import Step
from textwright.training.micro_batches import micro_batches_that_fit
from textwright.training.trainer import Trainer


def model(**options):
    torch.manual_seed(0)
    return build(GPTOptions(**{"layers": 2, "heads": 2, "width": 16, **options}), 50, 20)


def trainer(made=None, layout="rows", **options):
    documents = Documents(np.arange(400, dtype=np.uint8) % 49 + 1, np.arange(0, 401, 10), 0)
    data = cut(documents, DataOptions(layout=layout, context_length=20), 8, seed=0)
    return Trainer(made or model(), data, TrainOptions(clip_norm=0.0, **options), None)


def steps(made, count=3):
    return [made.train_step() for _ in range(count)]


CUDA = torch.OutOfMemoryError("CUDA out of memory")
MPS = RuntimeError("MPS backend out of memory (MPS allocated: 17.96 GB)")


def with_room_for(rows, monkeypatch, full=CUDA):
    """An accelerator that holds so many rows → the list of sizes that were tried on it."""
    backward, sizes = Trainer._backward, []

    def limited(self, step, micro_batches):
        batches = [self.layout.batch(step, n, micro_batches) for n in range(micro_batches)]
        size = max(len(batch.inputs) for batch in batches)
        sizes.append(size)
        if size > rows:
            raise full
        return backward(self, step, micro_batches)

    monkeypatch.setattr(Trainer, "_backward", limited)
    return sizes


@pytest.mark.parametrize("full", [CUDA, MPS])
def test_a_full_accelerator_takes_the_batch_in_micro_batches(monkeypatch, full):
    whole = steps(trainer())
    sizes = with_room_for(3, monkeypatch, full)
    made = trainer()
    parted = steps(made)
    assert [step.micro_batches for step in parted] == [4, 4, 4]
    assert sizes == [8, 4, 2, 2, 2]  # what was found once is kept
    assert [s.loss for s in parted] == pytest.approx([s.loss for s in whole], rel=1e-5)
    resumed = trainer()
    resumed.restore(made.snapshot())
    assert resumed.micro_batches == 4


def test_memory_that_does_not_hold_one_row_is_said(monkeypatch):
    sizes = with_room_for(0, monkeypatch)
    with pytest.raises(TrainingError, match="Memory ran out"):
        trainer().train_step()
    assert sizes == [8, 4, 2, 1]


@pytest.mark.parametrize(
    ("family", "how", "advised"),
    [
        (GPTOptions, {}, ["train.recompute_blocks=true"]),
        (GPTOptions, {"recompute_blocks": True}, []),
        (LSTMOptions, {}, []),
        (LSTMOptions, {"layout": "stream"}, ["train.accumulate=2"]),
        (LSTMOptions, {"layout": "stream", "accumulate": 8}, []),
    ],
)
def test_where_memory_runs_out_only_what_can_work_is_advised(monkeypatch, family, how, advised):
    with_room_for(0, monkeypatch)
    made = trainer(build(family(), 50, 20), **how)
    with pytest.raises(TrainingError, match=r"or a smaller model\.$") as raised:
        made.train_step()
    assert re.findall(r"--set (train\.\w+=\w+)", str(raised.value)) == advised


def test_a_processor_takes_the_micro_batches_that_its_memory_holds(monkeypatch):
    rows, width = 16, 20
    made = model()
    monkeypatch.setattr(memory, "SHARE", 1.0)
    one, two = (memory._kept_for_gradients(made, count, width) for count in (1, 2))
    steady = 3 * sum(p.nbytes for p in made.parameters()) + max(0, 2 * one - two)
    for count, held in ((1, 16), (2, 8), (4, 4), (4, 7), (16, 1)):
        monkeypatch.setattr(memory, "free_memory", lambda held=held: steady + held * (two - one))
        assert micro_batches_that_fit(made, rows, width) == count
    monkeypatch.setattr(memory, "free_memory", lambda: 0)  # then it is tried row by row
    assert micro_batches_that_fit(made, rows, width) == rows
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    assert micro_batches_that_fit(made, rows, width, count=2) == 2


def test_what_a_row_takes_is_measured():
    kept = [memory._kept_for_gradients(model(), rows, 20) for rows in (1, 2, 3)]
    assert kept[2] - kept[1] == kept[1] - kept[0] > 2 * 20 * 16 * 4 * 10  # ten vectors a block
    deeper = memory._kept_for_gradients(model(layers=4), 2, 20)
    assert deeper > 1.7 * kept[1]
    lean = model()
    lean.recompute_blocks = True
    assert memory._kept_for_gradients(lean, 2, 20) < kept[1] / 3


def test_adapters_need_no_room_for_the_moments_of_the_base(monkeypatch):
    plain, adapted = model(width=64), model(width=64)
    adapt(adapted, rank=1, alpha=1.0)
    monkeypatch.setattr(memory, "SHARE", 1.0)
    monkeypatch.setattr(
        memory, "free_memory", lambda: 3 * sum(p.nbytes for p in plain.parameters())
    )
    assert micro_batches_that_fit(plain, 8, 20) == 8
    assert micro_batches_that_fit(adapted, 8, 20) < 8


def test_measuring_changes_nothing():
    made = trainer()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    made.fit_memory()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in made.model.parameters())
    first, second = (itertools.islice(t.run(), 2) for t in (made, trainer()))
    assert [e.loss for e in first if isinstance(e, Step)] == [e.loss for e in second]


def test_processes_on_one_machine_share_its_memory(monkeypatch):
    made = model()
    need = memory._kept_for_gradients(made, 8, 20) + 3 * sum(p.nbytes for p in made.parameters())
    monkeypatch.setattr(memory, "free_memory", lambda: 2 * need)
    assert micro_batches_that_fit(made, 8, 20) == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert micro_batches_that_fit(made, 8, 20) > 1
