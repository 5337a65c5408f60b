"""Gradient × input, against finite differences."""

import numpy as np
import pytest
import torch
from small_models import SMALL
from torch import nn

from textwright.inspection import saliency as module
from textwright.inspection.saliency import saliency
from textwright.models import build

VOCABULARY = 11
IDS = np.array([0, 3, 7, 3, 1, 9])  # id 3 twice: each has a saliency of its own


@pytest.fixture(params=SMALL)
def model(request):
    torch.manual_seed(1)
    made = build(SMALL[request.param], VOCABULARY, 12)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.4)
    return made.eval()


def log_probability(model, place, target, token, scale):
    """Of a prediction, where the vector of one token is stretched. The vector is made the
    embedding of an id that the text does not have, so that only this token changes."""
    other = 10
    ids = torch.from_numpy(IDS[: place + 1])[None].clone()
    kept = model.embedding.data.clone()
    projection = model.output_weight.data.clone()  # may be the embedding itself
    model.embedding.data[other] = kept[ids[0, token]] * scale
    ids[0, token] = other
    with torch.no_grad():
        hidden, _ = model.encode(ids)
        model.embedding.data.copy_(kept)
        logits = nn.functional.linear(hidden[0, -1], projection, model.output_bias)
    return float(logits.log_softmax(-1)[target])


def test_saliency_agrees_with_finite_differences(model):
    places, targets = np.array([5, 2]), np.array([4, 6])
    found = saliency(model, IDS, places, targets)
    step, most = 5e-3, np.abs(found).max()
    for row, (place, target) in enumerate(zip(places, targets, strict=True)):
        for token in range(place + 1):
            ends = [log_probability(model, place, target, token, 1 + s) for s in (step, -step)]
            slope = (ends[0] - ends[1]) / (2 * step)
            assert found[row, token] == pytest.approx(slope, rel=2e-2, abs=most / 100)
        assert not found[row, place + 1 :].any() and most > 0.01


def test_predictions_computed_in_parts_are_the_same(model, monkeypatch):
    given = IDS, np.arange(6), np.append(IDS[1:], 2)
    whole = saliency(model, *given)
    monkeypatch.setattr(module, "ELEMENTS", 1)
    np.testing.assert_allclose(saliency(model, *given), whole, atol=1e-5)


def test_saliency_leaves_no_gradient_behind(model):
    saliency(model, IDS, np.array([5]), np.array([4]))
    assert all(parameter.grad is None for parameter in model.parameters())
