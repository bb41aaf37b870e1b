import numpy as np
import pytest
from scipy import stats

from raydistill.intervals import bootstrap, clopper_pearson, mcnemar, paired_bootstrap


def _companies(random, count=80, rows=12):
    """Rows of companies whose own rates differ: group of each row, and 0 or 1 by its rate."""
    rates = random.beta(8, 4, count)
    hits = random.random((count, rows)) < rates[:, None]
    return np.repeat(np.arange(count), rows), hits.ravel().astype(float)


def test_95_percent_intervals_cover_the_true_rate_in_about_95_of_100_samples():
    random = np.random.default_rng(7)
    truth, covered = 8 / 12, 0
    for draw in range(500):
        groups, hits = _companies(random)
        low, high = bootstrap(groups.tolist(), hits, np.ones(len(hits)), draws=400, seed=draw)
        covered += low <= truth <= high
    assert 0.92 <= covered / 500 <= 0.98


def test_an_interval_over_sentences_instead_of_companies_is_too_narrow():
    random = np.random.default_rng(3)
    groups, hits = _companies(random, count=40, rows=100)
    ones = np.ones(len(hits))
    by_company = bootstrap(groups.tolist(), hits, ones)
    by_row = bootstrap(list(range(len(hits))), hits, ones)
    assert by_company[1] - by_company[0] > 2 * (by_row[1] - by_row[0])


def test_the_interval_holds_the_measured_ratio_and_repeats_with_its_seed():
    groups, hits = _companies(np.random.default_rng(4))
    names, ones = groups.tolist(), np.ones(len(hits))
    low, high = bootstrap(names, hits, ones, seed=1)
    assert low < hits.mean() < high
    assert (low, high) == bootstrap(names, hits, ones, seed=1)
    assert (low, high) != bootstrap(names, hits, ones, seed=2)


def test_rows_of_one_group_are_drawn_together_wherever_they_stand():
    together = bootstrap(["a", "a", "b", "b", "c"], [1, 1, 0, 0, 1], [1] * 5, seed=5)
    apart = bootstrap(["a", "b", "c", "a", "b"], [1, 0, 1, 1, 0], [1] * 5, seed=5)
    sums = bootstrap(["a", "b", "c"], [2, 0, 1], [2, 2, 1], seed=5)
    assert sums == together
    assert sums == apart


@pytest.mark.parametrize(
    ("groups", "part", "whole"),
    [([], [], []), (["a", "a"], [1, 0], [1, 1]), (["a", "b"], [0, 0], [0, 0])],
)
def test_without_two_groups_or_a_denominator_nothing_is_known(groups, part, whole):
    assert bootstrap(groups, part, whole) == (0.0, 1.0)
    assert paired_bootstrap(groups, (part, whole), (part, whole)) == (-1.0, 1.0)


def test_pairing_sees_a_difference_that_two_single_intervals_hide():
    random = np.random.default_rng(11)
    groups, hits = _companies(random, count=60, rows=20)
    worse = hits * (random.random(len(hits)) > 0.05)
    ones, names = np.ones(len(hits)), groups.tolist()
    low, high = paired_bootstrap(names, (hits, ones), (worse, ones))
    assert 0 < low < high
    assert bootstrap(names, hits, ones)[0] < bootstrap(names, worse, ones)[1]


def test_an_answerer_does_not_differ_from_itself():
    groups, hits = _companies(np.random.default_rng(2))
    ones = np.ones(len(hits))
    assert paired_bootstrap(groups.tolist(), (hits, ones), (hits, ones)) == (0.0, 0.0)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 10), (198, 200), (1, 1), (500, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_clopper_pearson_agrees_with_scipy(k, n, level):
    exact = stats.binomtest(k, n).proportion_ci(level, method="exact")
    assert clopper_pearson(k, n, level) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_no_trials_say_nothing_about_a_rate():
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 5), (10, 2), (0, 9), (60, 41)])
def test_mcnemar_agrees_with_an_exact_binomial_test(b, c):
    expected = stats.binomtest(min(b, c), b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected)
