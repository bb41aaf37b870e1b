"""Reads, writes and messages of raydistill.postgres, on a real server."""

import datetime as dt
import math
import pickle
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from raydistill import pgread, postgres
from raydistill.errors import DataError, SetupError
from raydistill.pgread import BlockRange

pytestmark = pytest.mark.postgres


def execute(dsn: str, sql: str) -> None:
    with postgres.connect(dsn) as connection:
        postgres.script(connection, sql)


def table_of(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(list(batches))


def column_of(dsn: str, table: str, column: str, ranges: list[BlockRange], **more: str) -> list:
    parts = [pgread.read_range(dsn, table, {"x": column}, each, **more) for each in ranges]
    return [value for part in parts for batch in part for value in batch["x"].to_pylist()]


def reader(database: str, grants: str) -> str:
    """The DSN of a new role that has only these grants; `database` drops it after the test."""
    name = f"{conninfo_to_dict(database)['dbname']}_reader"
    password = secrets.token_hex(8)
    execute(database, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'; {grants.format(name)}")
    return make_conninfo(database, user=name, password=password)


@pytest.fixture
def events(database: str) -> str:
    """`events`: 20,000 rows in some 300 blocks."""
    execute(
        database,
        "CREATE TABLE events (id bigint, body text);"
        "INSERT INTO events SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i",
    )
    return database


# ------------------------------------------------------------------ connections and their errors


def test_a_refused_connection_names_the_server_and_never_the_password() -> None:
    with pytest.raises(SetupError) as caught:
        postgres.connect("postgresql://ann:sesame-street@127.0.0.1:1/corpus")
    message = str(caught.value)
    assert "127.0.0.1 port 1 " in message
    assert "user ann" in message
    assert "database corpus" in message
    assert "source.dsn=" in message
    assert "sesame-street" not in message


@pytest.mark.parametrize("dsn", ["sesame-street", "postgresql://a:sesame-street@h:p:q/x", "a=b c"])
def test_what_is_not_a_dsn_is_not_repeated(dsn: str) -> None:
    with pytest.raises(SetupError, match=r"source\.dsn=") as caught:
        postgres.connect(dsn)
    assert "sesame" not in str(caught.value)


def test_a_missing_database_and_a_wrong_password_are_setup_errors(database: str) -> None:
    with pytest.raises(SetupError, match="nowhere"):
        postgres.connect(make_conninfo(database, dbname="nowhere"))
    wrong = make_conninfo(reader(database, ""), password="sesame-street")
    with pytest.raises(SetupError, match="password authentication failed") as caught:
        postgres.connect(wrong)
    assert "sesame" not in str(caught.value)
    with pytest.raises(SetupError, match="password authentication failed") as caught:
        next(pgread.scan(wrong, "SELECT 1"))
    assert "sesame" not in str(caught.value)


def test_a_read_only_connection_writes_nothing(database: str) -> None:
    with (
        pytest.raises(Exception, match="read-only transaction"),
        postgres.connect(database, read_only=True) as connection,
    ):
        postgres.script(connection, "CREATE TABLE t (i int)")


def test_check_columns_names_what_the_table_has(events: str) -> None:
    postgres.check_columns(events, "events", ["id", "body"])
    postgres.check_columns(events, "public.events", ["body"])
    with pytest.raises(
        SetupError, match=r"no column sentence(.|\n)*id, body(.|\n)*source\.columns"
    ):
        postgres.check_columns(events, "events", ["id", "sentence"])
    with pytest.raises(SetupError, match=r"no table kee\.events(.|\n)*public\.events"):
        postgres.check_columns(events, "kee.events", ["id"])


def test_identifiers_are_quoted_part_by_part(database: str) -> None:
    names = {
        "kee.events": '"kee"."events"',
        '"My.schema".t': '"My.schema"."t"',
        '"a""b"': '"a""b"',
        "x; DROP TABLE y": '"x; DROP TABLE y"',
    }
    assert {name: postgres.identifier(name).as_string(None) for name in names} == names
    for wrong in ("", "a.", ".a", 'a"b', "a..b"):
        with pytest.raises(SetupError, match="not a table's name"):
            postgres.identifier(wrong)


# ------------------------------------------------------------------------------------- COPY in

NASTY = [
    "",
    None,
    '"',
    "'",
    "\\",
    "\\N",
    "\\.",
    "a\n\\.\nb",
    "a\r\nb",
    "\t",
    ",",
    "NULL",
    " é ",
    "😀",
]


def test_values_of_every_type_come_back_as_they_went_in(database: str) -> None:
    moment = dt.datetime(2024, 2, 29, 23, 59, 59, 999999)
    data = pa.table(
        {
            "t": pa.array(["x", "", None]),
            "i": pa.array([-(2**63), 2**63 - 1, None]),
            "f": pa.array([1e-300, 0.1, None]),
            "b": pa.array([True, False, None]),
            "d": pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31), None]),
            "ts": pa.array([moment, dt.datetime(1970, 1, 1), None], pa.timestamp("us")),
            "tz": pa.array([moment, dt.datetime(1, 1, 1), None], pa.timestamp("us", "UTC")),
            "y": pa.array([b"\x00\\\xff", b"", None]),
            "c": pa.array(["one", None, "one"]).dictionary_encode(),
        }
    )
    ddl = "CREATE TABLE t (t text, i bigint, f float8, b bool, d date, ts timestamp,"
    with postgres.connect(database) as connection:
        postgres.script(connection, f"{ddl} tz timestamptz, y bytea, c text, other int)")
        assert postgres.copy_in(connection, "t", data) == 3
    columns = {name: name for name in data.column_names}
    found = table_of(pgread.read_range(database, "t", columns, BlockRange()))
    assert found.to_pylist() == data.to_pylist()
    assert found["tz"].type == pa.timestamp("us", "UTC")


def test_floats_that_are_no_numbers_survive(database: str) -> None:
    data = pa.table({"f": [math.nan, math.inf, -math.inf, None, -0.0]})
    with postgres.connect(database) as connection:
        postgres.script(connection, "CREATE TEMP TABLE t (n serial, f float8)")
        postgres.copy_in(connection, "t", data)
        rows = postgres.fetch(connection, "SELECT f FROM t ORDER BY n")
    assert str(rows) == "[(nan,), (inf,), (-inf,), (None,), (-0.0,)]"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    texts=st.lists(
        st.none()
        | st.sampled_from(NASTY)
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
        | st.lists(st.sampled_from(NASTY[2:]), max_size=5).map("".join),
        max_size=40,
    )
)
def test_any_text_comes_back_as_it_went_in(postgres_dsn: str, texts: list[str | None]) -> None:
    with postgres.connect(postgres_dsn) as connection:
        postgres.script(
            connection, "CREATE TEMP TABLE one (x text); CREATE TEMP TABLE t (n int, x text)"
        )
        column = pa.array(texts, pa.string())
        # one column alone: a null is then an empty line
        assert postgres.copy_in(connection, "one", pa.table({"x": column})) == len(texts)
        postgres.copy_in(
            connection, "t", pa.table({"x": column, "n": pa.array(range(len(texts)), pa.int32())})
        )
        alone = [row[0] for row in postgres.fetch(connection, "SELECT x FROM one ORDER BY ctid")]
        assert alone == texts
        assert [row[0] for row in postgres.fetch(connection, "SELECT x FROM t ORDER BY n")] == texts
        connection.rollback()


def test_a_table_of_many_pieces_is_copied_whole(database: str) -> None:
    data = pa.table({"i": list(range(30_000)), "x": [f'{i}\n"' * 20 for i in range(30_000)]})
    with postgres.connect(database) as connection:
        postgres.script(connection, "CREATE TABLE t (i bigint, x text)")
        assert data.nbytes > 4 * postgres._COPY_BYTES
        assert postgres.copy_in(connection, "t", data.slice(7)) == 29_993
        query = "SELECT count(*), sum(i), sum(length(x)) FROM t"
        length = sum(len(f'{i}\n"') * 20 for i in range(7, 30_000))
        assert postgres.fetch(connection, query) == [(29_993, sum(range(7, 30_000)), length)]


def test_a_nul_byte_is_refused_with_its_column_and_nothing_is_kept(database: str) -> None:
    execute(database, "CREATE TABLE t (i int, x text)")
    connection = postgres.connect(database)
    with pytest.raises(DataError, match="x") as caught:
        postgres.copy_in(connection, "t", pa.table({"i": [1, 2], "x": ["a", "b\0c"]}))
    assert caught.value.code == "nul_byte"
    connection.rollback()
    assert postgres.fetch(connection, "SELECT * FROM t") == []
    connection.close()


def test_values_and_columns_that_do_not_fit_are_told_apart(database: str) -> None:
    execute(database, "CREATE TABLE t (i int)")
    for data, error, text in (
        (pa.table({"i": ["seven"]}), DataError, "value_refused.*invalid input syntax"),
        (pa.table({"j": [1]}), SetupError, 'column "j" of relation "t" does not exist'),
        (pa.table({"i": [[1]]}), SetupError, "list"),
    ):
        with pytest.raises(error, match=text), postgres.connect(database) as connection:
            postgres.copy_in(connection, "t", data)


def test_copy_in_commits_nothing_by_itself(database: str) -> None:
    execute(database, "CREATE TABLE t (i int)")
    with postgres.connect(database) as connection:
        postgres.copy_in(connection, "t", pa.table({"i": [1]}))
        connection.rollback()
        assert postgres.fetch(connection, "SELECT * FROM t") == []


# -------------------------------------------------------------------------------- range reads


def test_ranges_cover_each_row_once(events: str) -> None:
    ranges = pgread.ranges(events, "events", 1000)
    assert 15 <= len(ranges) <= 25
    assert ranges[-1].stop is None
    assert [r.start for r in ranges[1:]] == [r.stop for r in ranges[:-1]]
    assert sorted(column_of(events, "events", "id", ranges)) == list(range(1, 20_001))


def test_under_a_snapshot_later_writes_are_not_seen_and_nothing_is_lost(events: str) -> None:
    ranges = pgread.ranges(events, "events", 2000)
    seen: list[int] = []
    with pgread.snapshot(events, "events") as name:
        for number, each in enumerate(ranges):
            seen += column_of(events, "events", "id", [each], snapshot=name)
            # each of these moves rows to other blocks, takes some away and adds some
            execute(
                events,
                f"UPDATE events SET body = 'moved {number}' WHERE id % 3 = {number % 3};"
                f"DELETE FROM events WHERE id % 97 = {number};"
                f"INSERT INTO events SELECT i, 'new' FROM generate_series(30001, 30500) i",
            )
    assert sorted(seen) == list(range(1, 20_001))


def test_a_snapshot_keeps_a_table_from_being_rewritten(events: str) -> None:
    with (
        pgread.snapshot(events, "events"),
        pytest.raises(Exception, match="lock timeout"),
        postgres.connect(events) as other,
    ):
        postgres.script(other, "SET lock_timeout = '100ms'; TRUNCATE events")


def test_a_read_from_a_snapshot_that_ended_is_lost(events: str) -> None:
    with pgread.snapshot(events) as name:
        pass
    with pytest.raises(pgread.ReadLost, match=name):
        next(pgread.read_range(events, "events", {"x": "id"}, BlockRange(), snapshot=name))


def test_a_read_whose_connection_dies_raises(events: str) -> None:
    many = "SELECT a.id, a.body FROM events a, generate_series(1, 50)"
    execute(events, f"CREATE VIEW many AS {many}")
    batches = pgread.read_range(events, "many", {"x": "id", "y": "body"}, BlockRange(), batch_mib=1)
    first = next(batches)
    assert 0 < first.num_rows < 100_000
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    kill += " WHERE application_name = 'raydistill read' AND datname = current_database()"
    assert postgres.fetch(events, kill) == [(True,)]
    with pytest.raises(pgread.ReadLost, match="done again from its start") as caught:
        for _ in batches:
            pass
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), pgread.ReadLost)


def test_a_read_that_is_given_up_leaves_no_connection_behind(events: str) -> None:
    batches = pgread.read_range(
        events, "events", {"x": "body"}, BlockRange(), where="pg_sleep(0) IS NOT NULL"
    )
    next(batches)
    batches.close()
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'raydistill read'"
    wait = "SELECT pg_sleep(0.2)"
    postgres.fetch(events, wait)
    assert postgres.fetch(events, f"{left} AND datname = current_database()") == [(0,)]


def test_batches_are_as_small_as_asked(events: str) -> None:
    columns = {"a": "body"}
    sizes = [
        b.nbytes for b in pgread.read_range(events, "events", columns, BlockRange(), batch_mib=1)
    ]
    assert len(sizes) >= 2
    assert max(sizes) < 2 << 20


def test_types_without_an_arrow_counterpart_are_text(database: str) -> None:
    execute(
        database,
        "CREATE TYPE mood AS ENUM ('up');"
        "CREATE TABLE t (n numeric, j jsonb, u uuid, tz timestamptz, m mood, c char(4), a text[]);"
        "INSERT INTO t VALUES (1.50, '{\"a\": [1]}', '00000000-0000-0000-0000-000000000001',"
        " '2024-01-02 03:04:05+02', 'up', 'ab', '{x,NULL}'),"
        " ('NaN', NULL, NULL, 'infinity', NULL, NULL, NULL)",
    )
    columns = {name.upper(): name for name in ("n", "j", "u", "tz", "m", "c", "a")}
    found = table_of(pgread.read_range(database, "t", columns, BlockRange(0)))
    assert found.schema.field("TZ").type == pa.timestamp("us", "UTC")
    assert found.to_pylist() == [
        {
            "N": "1.50",
            "J": '{"a": [1]}',
            "U": "00000000-0000-0000-0000-000000000001",
            "TZ": dt.datetime(2024, 1, 2, 1, 4, 5, tzinfo=dt.timezone.utc),
            "M": "up",
            "C": "ab",
            "A": ["x", None],
        },
        dict.fromkeys("JUMCA", None) | {"N": "NaN", "TZ": None},
    ]


def test_an_empty_table_comes_back_with_its_columns(database: str) -> None:
    execute(database, "CREATE TABLE t (id int, raw jsonb)")
    (only,) = pgread.ranges(database, "t", 10)
    (batch,) = pgread.read_range(database, "t", {"a": "id", "b": "raw"}, only)
    assert batch.schema == pa.schema({"a": pa.int32(), "b": pa.string()})
    assert batch.num_rows == 0


def test_a_view_is_one_plain_scan(events: str) -> None:
    execute(events, "CREATE VIEW few AS SELECT id + 1 AS id FROM events WHERE id <= 10")
    assert pgread.ranges(events, "few", 1) == [BlockRange()]
    with pgread.snapshot(events, "few") as name:
        assert column_of(events, "few", "id", [BlockRange()], snapshot=name) == list(range(2, 12))


def test_partitions_and_children_are_read_once_each(database: str) -> None:
    execute(
        database,
        'CREATE SCHEMA "Kee"; CREATE TABLE "Kee".p (id int, x text) PARTITION BY RANGE (id);'
        'CREATE TABLE "Kee".low PARTITION OF "Kee".p FOR VALUES FROM (0) TO (1000);'
        'CREATE TABLE "Kee"."Hi.gh" (x text, id int);'
        'ALTER TABLE "Kee".p ATTACH PARTITION "Kee"."Hi.gh" FOR VALUES FROM (1000) TO (9000);'
        "INSERT INTO \"Kee\".p SELECT i, repeat('y', 50) FROM generate_series(0, 4999) i;"
        "CREATE TABLE mother (id int); CREATE TABLE child () INHERITS (mother);"
        "INSERT INTO mother VALUES (1), (2); INSERT INTO child VALUES (3)",
    )
    ranges = pgread.ranges(database, "Kee.p", 500)
    assert {each.partition for each in ranges} == {'"Kee".low', '"Kee"."Hi.gh"'}
    assert sorted(column_of(database, "Kee.p", "id", ranges)) == list(range(5000))
    found = column_of(database, "mother", "id", pgread.ranges(database, "mother", 500))
    assert sorted(found) == [1, 2, 3]
    # who may read the whole but not the parts by name gets one scan of the whole
    dsn = reader(database, 'GRANT USAGE ON SCHEMA "Kee" TO {0}; GRANT SELECT ON "Kee".p TO {0}')
    assert pgread.ranges(dsn, "Kee.p", 500) == [BlockRange()]
    assert sorted(column_of(dsn, "Kee.p", "id", [BlockRange()])) == list(range(5000))


def test_a_role_that_may_only_read_two_columns_is_enough(events: str) -> None:
    execute(events, "ALTER TABLE events ADD secret text")
    dsn = reader(events, "GRANT SELECT (id, body) ON events TO {}")
    ranges = pgread.ranges(dsn, "events", 5000)
    assert ranges == [BlockRange()]  # a block's address is no column that one could be granted
    with pgread.snapshot(dsn, "events") as name:
        assert len(column_of(dsn, "events", "id", ranges, snapshot=name)) == 20_000
    with pytest.raises(SetupError, match=r"secret that this role may read(.|\n)*id, body"):
        postgres.check_columns(dsn, "events", ["id", "secret"])
    with pytest.raises(SetupError, match="permission denied"):
        column_of(dsn, "events", "secret", ranges)


def test_a_role_that_may_only_read_the_table_reads_in_ranges(events: str) -> None:
    dsn = reader(events, "GRANT SELECT ON events TO {}")
    ranges = pgread.ranges(dsn, "events", 5000)
    assert len(ranges) > 2
    with pgread.snapshot(dsn, "events") as name:
        assert len(column_of(dsn, "events", "id", ranges, snapshot=name)) == 20_000


def test_where_limits_a_range(events: str) -> None:
    ranges = pgread.ranges(events, "events", 3000)
    odd = "id % 2 = 1 OR id = 4 -- and a comment"
    found = column_of(events, "events", "id", ranges, where=odd)
    assert sorted(found) == sorted([*range(1, 20_001, 2), 4])


def test_text_of_a_database_in_another_encoding_is_utf8(postgres_dsn: str) -> None:
    name = f"raydistill_test_{secrets.token_hex(6)}"
    with postgres.connect(postgres_dsn) as connection:
        connection.autocommit = True
        latin = f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
        postgres.script(connection, latin)
        try:
            dsn = make_conninfo(postgres_dsn, dbname=name)
            execute(dsn, "CREATE TABLE t (x text); INSERT INTO t VALUES ('Nestlé')")
            assert column_of(dsn, "t", "x", [BlockRange(0)]) == ["Nestlé"]
        finally:
            postgres.script(connection, f"DROP DATABASE {name} WITH (FORCE)")


def test_scan_takes_values_as_parameters(events: str) -> None:
    query = "SELECT id, %(evil)s AS evil, id::numeric AS n FROM events WHERE id = ANY(%(ids)s);"
    evil = "'; DROP TABLE events; -- \\ %s"
    found = table_of(pgread.scan(events, query, {"evil": evil, "ids": [3, 5]}))
    assert found.to_pylist() == [{"id": i, "evil": evil, "n": str(i)} for i in (3, 5)]
    assert table_of(pgread.scan(events, "SELECT 7 % 4 AS x")).to_pylist() == [{"x": 3}]


def _server(events: str) -> int:
    query = "SELECT pg_backend_pid() AS pid, count(*) AS rows FROM events"
    (row,) = table_of(pgread.scan(events, query)).to_pylist()
    assert row["rows"] == 20_000
    return row["pid"]


def test_reads_share_a_connection_and_find_a_new_one(events: str) -> None:
    first = _server(events)
    assert _server(events) == first
    half = pgread.scan(events, "SELECT pg_backend_pid() AS pid, body FROM events", None)
    assert next(half)["pid"][0].as_py() == first
    assert _server(events) != first  # one that is in the middle of a read is not shared
    half.close()
    execute(
        events,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()",
    )
    assert _server(events) != first  # its server was away: a new connection, no error


def test_a_process_keeps_one_connection_however_many_threads_read(events: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(_server, [events] * 16))
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'raydistill read'"
    )
    assert postgres.fetch(events, query) == [(1,)]
    pgread.close_readers()
    wait_until(lambda: postgres.fetch(events, query) == [(0,)])


def wait_until(true: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_value_written_into_a_statement_stays_a_value(events: str) -> None:
    odd = ["it's", 'a "b"', "c, {d}", "\\e"]
    (row,) = postgres.fetch(
        events, postgres.sql("SELECT {odd}::text[] AS x", odd=postgres.literal(odd))
    )
    assert row[0] == odd
