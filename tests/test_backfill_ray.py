"""Backfill by its own command line on a real Ray, killed and killed again."""

import pytest

from raydistill.bench import chaos


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.postgres
def test_kills_of_actors_tasks_connections_and_drivers_lose_and_double_nothing(
    database, tiny, tmp_path
):
    kinds = {"driver": 1, "actor": 2, "task": 2, "connection": 2, "sigterm": 3}
    figures = chaos.disturbed(
        tmp_path, tiny.release.folder, database, kills=4, filings=40, kinds=kinds
    )
    assert figures["kills"] >= 4
    assert figures["events"] > 10
    assert set(figures["drained"]) <= {143, 0}
    assert (figures["lost"], figures["doubled"]) == (0, 0)
