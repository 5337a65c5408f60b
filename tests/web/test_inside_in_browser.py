"""What the page shows of a model's inside is what Python finds there."""

import numpy as np
import pytest
from small_models import SMALL
from small_runs import CONTEXT, make_run
from web_engine import call, expose, load_run

from textwright.api import load
from textwright.inspection import inner
from textwright.inspection.next_tokens import seen
from textwright.run import Run

pytestmark = pytest.mark.browser

PROMPT = "The soup needs salt"


@pytest.fixture(scope="module")
def page(browser):
    """An empty page that has the engine."""
    page = browser.new_page()
    expose(page, "worker.js", "Engine", "readArrays", "unpack")
    return page


def look(page, run, written, target=5):
    load_run(page, run)
    request = {"prompt": PROMPT, "begin": written, "target": target}
    return call(page, "request => engine.inside(request)", request)


@pytest.mark.parametrize("count", [3, 2 * CONTEXT])
@pytest.mark.parametrize("name", SMALL)
def test_attention_and_gates_are_those_that_python_traces(page, tmp_path, name, count):
    run = make_run(tmp_path / "run", SMALL[name])
    written = [7, 9] * (count // 2)
    found = look(page, run, written)
    row = seen(load(run.path).generator, [*run.tokenizer.encode(PROMPT).tolist(), *written])
    traced = inner.trace(inner.open_model(run), row)
    assert [token["id"] for token in found["seen"]] == row.tolist()
    assert found["saliency"] is None and found["parts"] is None
    attention = inner.newest_attention(inner.attention_of(traced)) or None
    gates = inner.summarize_gates(inner.gates_of(traced)) or None
    assert (found["attention"] is None, found["gates"] is None) == (
        attention is None,
        gates is None,
    )
    if attention:
        np.testing.assert_allclose(found["attention"], attention, atol=2e-5)
    for theirs, ours in zip(found["gates"] or [], gates or [], strict=True):
        assert list(theirs) == list(ours)
        for quantity, statistics in ours.items():
            for kind, values in statistics.items():
                np.testing.assert_allclose(theirs[quantity][kind], values, atol=2e-5)


def test_the_parts_of_a_mixture_are_those_that_python_mixes(page, mixed):
    run = Run.load(mixed)
    written, target = [41, 9, 41, 9, 41], 9
    found = look(page, run, written, target)
    backend = load(mixed).generator.backend
    ids = [run.tokenizer.stop_id, *run.tokenizer.encode(PROMPT).tolist(), *written]
    parts, _ = backend.read(np.array([ids]), np.array([len(ids)]))
    shares = backend.mixture.shares(parts.evidence)[0]
    chances = parts.chances[0, :, target]
    for found_of, ours in (("shares", shares), ("parts", chances)):
        assert list(found[found_of]) == ["neural", "counts", "memory"]
        assert list(found[found_of].values()) == pytest.approx(list(ours), rel=1e-4)
    assert found["gates"] is not None


def test_counts_have_nothing_inside(page, counted):
    found = look(page, Run.load(counted), [3, 4])
    assert len(found["seen"]) > 3
    assert {found.pop("seen") is None, *found.values()} == {False, None}
