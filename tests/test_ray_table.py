"""Tables through Ray Data: every row once, as it was when the snapshot was taken."""

from collections.abc import Iterator

import pytest

from raydistill import pgread, postgres
from raydistill.on_ray.tables import table_dataset, table_ranges
from raydistill.pgread import BlockRange

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own, in its DataContext
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    import ray

    from raydistill.on_ray import cluster

    ran = ray.is_initialized()
    cluster.start(cpus=2)
    yield
    if not ran:
        ray.shutdown()


@pytest.fixture
def events(database: str) -> str:
    """`events`: 20,000 rows in some 300 blocks."""
    with postgres.connect(database) as connection:
        postgres.script(
            connection,
            "CREATE TABLE events (id bigint, body text);"
            "INSERT INTO events SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i",
        )
    return database


def test_rows_that_change_after_the_snapshot_are_read_as_they_were(
    cluster: None, events: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = pgread.ranges(events, "events", 4000)
    assert len(parts) > 3
    monkeypatch.setattr("raydistill.on_ray.tables.pgread.ranges", lambda *_: parts)
    with pgread.snapshot(events, "events") as name:
        with postgres.connect(events) as connection:
            postgres.script(
                connection, "UPDATE events SET id = -id; DELETE FROM events WHERE id < -9"
            )
        rows = table_dataset(events, "events", {"n": "id"}, snapshot=name, where="id > 5")
        found = sorted(row["n"] for row in rows.take_all())
    assert found == list(range(6, 20_001))


def test_a_lost_snapshot_is_an_error_and_never_fewer_rows(cluster: None, events: str) -> None:
    with pgread.snapshot(events, "events") as name:
        pass
    rows = table_dataset(events, "events", {"n": "id"}, snapshot=name)
    with pytest.raises(Exception, match="must be done again"):
        rows.take_all()


def test_there_is_one_read_task_a_range_and_making_them_asks_no_server() -> None:
    ranges = [BlockRange(0, 5), BlockRange(5, None)]
    source = table_ranges("host=/nowhere", "events", {"n": "id"}, ranges, snapshot="1")
    assert len(source.get_read_tasks(100)) == 2
