"""Ratings are counted for the right side, with an interval that keeps its promise."""

from itertools import product
from math import comb

import numpy as np
import pytest
from web_engine import call, expose

pytestmark = pytest.mark.browser

CAREFUL, BOLD = ({"run": "my", "options": {"temperature": t, "top_p": 0.9}} for t in (0.5, 1.2))
TURNED = {"run": "my", "options": {"top_p": 0.9, "temperature": 0.5}}  # CAREFUL, written otherwise


@pytest.fixture(scope="module")
def page(browser):
    """An empty page that can count."""
    page = browser.new_page()
    expose(page, "rating.js", "countRatings", "exactInterval", "drawFirst")
    return page


def intervals(page, trials):
    """Those of 0 … trials successes."""
    count = "n => Array.from({ length: n + 1 }, (_, k) => exactInterval(k, n))"
    return np.array(call(page, count, trials))


def chances(trials, share):
    """The probability of 0 … trials successes, each outcome counted."""
    return np.array(
        [comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(trials + 1)]
    )


@pytest.mark.parametrize("trials", [1, 2, 7, 40])
def test_each_end_of_the_interval_leaves_out_a_fortieth(page, trials):
    for successes, (low, high) in enumerate(intervals(page, trials)):
        if successes:
            assert chances(trials, low)[successes:].sum() == pytest.approx(0.025)
        else:
            assert low == 0
        if successes < trials:
            assert chances(trials, high)[: successes + 1].sum() == pytest.approx(0.025)
        else:
            assert high == 1


@pytest.mark.parametrize("trials", [3, 10, 25])
def test_the_interval_misses_no_share_more_often_than_it_says(page, trials):
    low, high = intervals(page, trials).T
    for share in np.linspace(0.01, 0.99, 99):
        covered = (low <= share) & (share <= high)
        assert chances(trials, share)[covered].sum() >= 0.95


def test_who_stops_at_the_first_clear_result_is_misled_more_often(page):
    # Two equal sides, up to 50 pairs: the probabilities that docs/html.md states.
    clear = [
        [low > 0.5 or high < 0.5 for low, high in intervals(page, trials)] for trials in range(51)
    ]
    at_the_end = chances(50, 0.5)[clear[50]].sum()
    going, stopped = np.ones(1), 0.0  # of numbers of successes, as long as nothing is clear
    for trials in range(1, 51):
        going = (np.append(going, 0) + np.append(0, going)) / 2
        stopped += going[clear[trials]].sum()
        going[clear[trials]] = 0
    assert at_the_end == pytest.approx(0.033, abs=5e-4)
    assert stopped == pytest.approx(0.171, abs=5e-4)


def test_few_answers_show_nothing_yet(page):
    assert call(page, "() => exactInterval(5, 5)")[0] < 0.5  # 5 of 5 come by chance 1 time in 16
    assert call(page, "() => exactInterval(6, 6)")[0] > 0.5
    assert call(page, "() => exactInterval(0, 0)") == [0, 1]


def test_a_long_rating_is_counted_too(page):
    low, high = call(page, "() => exactInterval(1500, 3000)")
    assert 0.5 - low == pytest.approx(high - 0.5)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 3000**0.5, rel=0.02)


def test_answers_count_for_their_side_in_whatever_order_the_pair_stands(page):
    answers = [*[((CAREFUL, BOLD), 0)] * 3, ((CAREFUL, BOLD), 1), ((CAREFUL, BOLD), None)]
    answers += [((BOLD, TURNED), 1)] * 2
    ratings = [{"sides": list(sides), "better": better} for sides, better in answers]
    [result] = call(page, "ratings => countRatings(ratings)", ratings)
    assert result["sides"] == [CAREFUL, BOLD]
    assert (result["better"], result["ties"]) == ([5, 1], 1)
    assert result["share"] == pytest.approx(5 / 6)


def test_every_pair_has_a_result_of_its_own(page):
    other = {"run": "other", "options": CAREFUL["options"]}
    ratings = [
        {"sides": [a, b], "better": None} for a, b in product([CAREFUL, BOLD], [other, BOLD])
    ]
    found = call(page, "ratings => countRatings(ratings)", ratings)
    assert [result["ties"] for result in found] == [1, 1, 1, 1]
    assert all(result["share"] is None for result in found)


def test_either_side_may_be_shown_first(page):
    first = call(page, "() => Array.from({ length: 400 }, drawFirst)")
    assert 140 < sum(first) < 260  # six standard deviations on either side
