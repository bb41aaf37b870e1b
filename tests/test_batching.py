"""Batches: cut by what padding costs, and as many for one thread as for another."""

import numpy as np
import pytest

from raydistill.batching import LEAST, evened, runs


def test_runs_hold_every_row_once_and_none_is_dearer_than_the_budget():
    costs = np.array([3, 9, 1, 4, 20, 4])
    order = np.argsort(costs, kind="stable")
    found = runs(order, costs, 10)
    assert np.concatenate(found).tolist() == order.tolist()
    assert [len(rows) * costs[rows].max() for rows in found] == [6, 8, 9, 20]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [40, 100, 300, 5000])
def test_threads_get_as_many_batches_each(threads, count):
    costs = np.random.default_rng(0).integers(10, 60, count)
    order = np.argsort(costs, kind="stable")
    budget = evened(int(costs.sum()), threads, 2048)
    assert budget <= 2048
    batches = runs(order, costs, budget)
    wanted = threads * -(-int(costs.sum()) // (threads * 2048))
    assert wanted <= len(batches) <= wanted * 1.15 + 1


def test_few_tokens_stay_together():
    assert evened(90, 2, 2048) == LEAST
    assert evened(0, 2, 2048) == LEAST
