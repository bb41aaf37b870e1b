"""The simulated cluster: linear while cores are the limit, flat where the server or driver is."""

import pytest

from raydistill.bench.simulation import Costs, knee, rate

PLENTY = Costs(core=2.0, server_read=0.0, server_commit=0.0, driver=0.0, sentences=1000)


@pytest.mark.parametrize("cores", [1, 7, 100])
def test_without_contention_the_rate_is_that_of_the_cores(cores):
    assert rate(PLENTY, cores, 1, chunks=max(60, 600 // cores)) == pytest.approx(
        cores * 500, rel=0.1
    )


def test_no_resource_lets_more_through_than_it_can():
    costs = Costs(core=2.0, server_read=0.05, server_commit=0.05, driver=0.01, sentences=1000)
    limits = costs.limits(200, 4)
    assert limits == pytest.approx({"cores": 100_000, "postgres": 40_000, "driver": 100_000})
    assert rate(costs, 200, 4) == pytest.approx(40_000, rel=0.1)


def test_the_knee_is_where_the_scarce_resource_is_full():
    server = Costs(core=2.0, server_read=0.05, server_commit=0.05, driver=0.0, sentences=1000)
    assert 60 <= knee(server, 4) <= 110  # 4 / 0.1 chunks a second are 80 cores' work
    driver = Costs(core=2.0, server_read=0.0, server_commit=0.0, driver=0.01, sentences=1000)
    assert 150 <= knee(driver, 4) <= 260
    assert knee(PLENTY, 1, most=512) == 512
