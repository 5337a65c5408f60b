"""Dropout of our own, against what dropout is."""

import pytest
import torch

from textwright.models.dropout import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_of_dropped_places_is_the_rate_and_the_mean_stays(rate):
    torch.manual_seed(0)
    x = torch.ones(500, 401)
    found = Dropout(rate)(x)
    # Five standard deviations of a binomial count: a false alarm once in 1.7 million.
    margin = 5 * (rate * (1 - rate) / x.numel()) ** 0.5
    assert float((found == 0).float().mean()) == pytest.approx(rate, abs=margin)
    assert found[found != 0].unique().tolist() == pytest.approx([1 / (1 - rate)], rel=1e-3)
    assert float(found.mean()) == pytest.approx(1, abs=margin / (1 - rate) + 1e-3)


def test_places_are_dropped_independently():
    torch.manual_seed(0)
    kept = Dropout(0.5)(torch.ones(400, 400)) != 0
    for shift in (1, 2, 3, 4, 400):
        same = (kept.flatten()[shift:] == kept.flatten()[:-shift]).float().mean()
        assert float(same) == pytest.approx(0.5, abs=5 * 0.5 / 400)


def test_the_gradient_passes_where_the_value_did():
    torch.manual_seed(0)
    x = torch.rand(30, 7, requires_grad=True)
    found = Dropout(0.4)(x)
    found.sum().backward()
    torch.testing.assert_close(x.grad, found.detach() / x.detach())


def test_nothing_is_dropped_outside_of_training():
    x = torch.rand(4, 4)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_the_same_seed_drops_the_same_places():
    def draw():
        torch.manual_seed(7)
        return Dropout(0.3)(torch.ones(9, 9))

    assert torch.equal(draw(), draw())
