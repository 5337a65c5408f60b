"""The loss curve of a run, read from its record."""

import json

import pytest
from small_models import SMALL
from small_runs import make_run

from textwright.run.curve import read_curve


@pytest.fixture
def recorded(tmp_path):
    """A run that recorded steps and evaluations → the run."""

    def make(losses, scores, family="lstm"):
        run = make_run(tmp_path / "run", SMALL[family])
        lines = [{"event": "step", "step": s, "epoch": 0.1, "loss": x} for s, x in losses]
        lines += [
            {
                "event": "evaluation",
                "step": step,
                "epoch": 0.1,
                "best": best,
                "scores": {"loss": loss, "bits_per_character": loss / 3, "interval": [0, 1]},
            }
            for step, loss, best in scores
        ]
        run.write_text("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        return run

    return make


def test_each_point_is_the_mean_of_the_steps_since_the_one_before(recorded):
    run = recorded([(step, float(step)) for step in range(1, 8)], [])
    assert read_curve(run, points=3).training == [(3, 2.0), (6, 5.0), (7, 7.0)]
    assert len(read_curve(run).training) == 7


def test_the_best_is_the_last_that_was_kept(recorded):
    run = recorded([(1, 4.0)], [(0, 6.0, True), (1, 3.0, True), (2, 3.3, False)])
    curve = read_curve(run)
    assert curve.best == 1
    assert curve.held_out == [(0, 6.0, 2.0), (1, 3.0, 1.0), (2, 3.3, pytest.approx(1.1))]
    assert json.loads(json.dumps(curve.to_json())) == {
        "by": "step",
        "mixed": False,
        "training": [[1, 4.0]],
        "held_out": [[0, 6.0, 2.0], [1, 3.0, 1.0], [2, 3.3, 1.1]],
        "best": 1,
    }


def test_a_run_without_a_record_has_an_empty_curve(recorded):
    assert read_curve(recorded([], [])).to_json() == {
        "by": "step",
        "mixed": False,
        "training": [],
        "held_out": [],
        "best": None,
    }
