"""PostgreSQL to Arrow: reads of any size as record batches in bounded memory.

The home of the ADBC driver. A large table is cut in block ranges (`ranges`) that are read side by
side under one snapshot (`snapshot`), so together they are the table at one moment, each row once.
"""

import atexit
import contextlib
import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import psycopg
import pyarrow as pa
from psycopg.sql import SQL, Composed, Identifier, Literal

from raydistill.errors import RaydistillError, SetupError
from raydistill.postgres import (
    Connection,
    ConnectionLost,
    Params,
    condition,
    connect,
    conninfo,
    fetch,
    identifier,
    plain_query,
    script,
    table_of,
    unreachable,
)

# What a read returns as it is; every other type (numeric, jsonb, uuid, enum, ...) is read as text.
_SCALAR = {"bool", "int2", "int4", "int8", "float4", "float8", "text", "varchar", "bytea"}
_NATIVE = _SCALAR | {f"_{kind}" for kind in _SCALAR}
_MOMENTS = {"date", "timestamp", "timestamptz"}


class ReadLost(ConnectionLost):
    """A read broke off before its end: throw away what it gave and read the whole range again."""


@dataclass(frozen=True, slots=True)
class BlockRange:
    """Blocks `start` up to, not including, `stop` of a table (or of one `partition` of it).

    `stop` None is to the end, wherever that is when it is read; `start` None is a plain scan.
    """

    start: int | None = None
    stop: int | None = None
    partition: str | None = None


def scan(
    dsn: str, query: str | Composed, params: Params | None = None, *, snapshot: str | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a query (psycopg's `%s` and `%(name)s` for values), one batch at least.

    A process keeps the connection that read last: opening one takes as long as reading 10,000
    rows. ReadLost where the connection or the snapshot is lost.
    """
    if params is not None:
        with connect(dsn, read_only=True) as connection:
            query = psycopg.ClientCursor(connection).mogrify(plain_query(query), params)
    plain = query if isinstance(query, str) else query.as_string(None)
    return _batches(dsn, plain.rstrip("; \n"), snapshot=snapshot, batch_mib=16)


@contextlib.contextmanager
def snapshot(dsn: str, *tables: str) -> Generator[str, None, None]:
    """The id of a snapshot that readers on other connections can share while this is open.

    `tables` cannot be truncated or rewritten meanwhile (VACUUM FULL would move rows out of ranges
    not yet read); reading and writing them goes on as ever.
    """
    connection = connect(dsn, read_only=True, application="raydistill snapshot")
    try:
        lockable = [table_of(connection, table)[1] for table in tables]
        connection.rollback()  # the locks come first in the transaction, then its snapshot
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        script(connection, "SET LOCAL idle_in_transaction_session_timeout = 0")
        for table, can in sorted(zip(tables, lockable, strict=True), key=lambda pair: not pair[1]):
            lock = "LOCK TABLE {} IN ACCESS SHARE MODE" if can else "SELECT FROM {} LIMIT 0"
            script(connection, SQL(lock).format(identifier(table)))
        ((name,),) = fetch(connection, "SELECT pg_export_snapshot()")
        yield name
    finally:
        with contextlib.suppress(psycopg.Error):  # it may be lost: the readers have said so
            connection.close()


def ranges(dsn: str, table: str, rows: int = 100_000) -> list[BlockRange]:
    """Block ranges of about `rows` rows each that together cover `table`.

    Partitions have their own ranges. One plain scan is all there is for what has no blocks (a view,
    a foreign table), for a role with rights on some columns only, and on a server older than 14.
    """
    with connect(dsn, read_only=True) as connection:
        members = fetch(connection, _MEMBERS, (table_of(connection, table)[0],))
        if connection.info.server_version < 140_000 or not all(row[3] for row in members):
            return [BlockRange()]
        found: list[BlockRange] = []
        for name, kind, blocks, _ in members:
            partition = None if len(members) == 1 else name
            if blocks is not None:
                step = _blocks_of(connection, name, blocks, rows)
                starts = list(range(0, max(blocks, 1), step))
                stops = [*starts[1:], None]
                found += [BlockRange(a, b, partition) for a, b in zip(starts, stops, strict=True)]
            elif kind != "p":  # a partitioned table has no rows of its own
                found.append(BlockRange(partition=partition))
    return found or [BlockRange()]


# The tables a SELECT from one reads: name, kind, blocks (null: no heap), may this role read it.
_MEMBERS = """
WITH RECURSIVE member(oid) AS (
    SELECT %s::oid UNION SELECT inhrelid FROM pg_inherits JOIN member ON inhparent = member.oid)
SELECT format('%%I.%%I', nspname, relname), relkind::text,
    CASE WHEN relkind IN ('r', 'm') AND amname = 'heap' THEN
        pg_relation_size(pg_class.oid) / current_setting('block_size')::int END,
    has_table_privilege(pg_class.oid, 'SELECT')
        AND has_schema_privilege(relnamespace, 'USAGE')
FROM member JOIN pg_class USING (oid) JOIN pg_namespace ON pg_namespace.oid = relnamespace
LEFT JOIN pg_am ON pg_am.oid = relam ORDER BY 1"""


def _blocks_of(connection: Connection, table: str, blocks: int, rows: int) -> int:
    """How many blocks hold about `rows` rows, judged by the first ones."""
    sample = min(blocks, 64)
    query = SQL("SELECT count(*) FROM ONLY {} WHERE ctid < {}::tid")
    stop = Literal(f"({sample},0)")
    ((seen,),) = fetch(connection, query.format(identifier(table), stop))
    return max(1, round(rows * sample / max(seen, 1)))


def read_range(
    dsn: str,
    table: str,
    columns: Mapping[str, str],
    block_range: BlockRange,
    *,
    snapshot: str | None = None,
    where: str | None = None,
    batch_mib: int = 16,
) -> Iterator[pa.RecordBatch]:
    """The rows of one range in batches of about `batch_mib`, one at least (empty, with the schema).

    `columns` maps our names to the table's. `where` is SQL and is trusted: it comes from the
    user's configuration, never from data. Types without an Arrow counterpart (numeric, jsonb,
    uuid) are text; infinite dates and times are null. ReadLost if the read cannot reach its end.
    """
    select = SQL(", ").join(
        SQL("{} AS {}").format(Identifier(theirs), Identifier(ours))
        for ours, theirs in columns.items()
    )
    only = SQL("ONLY " if block_range.partition else "")
    name = identifier(block_range.partition or table)
    query = SQL("SELECT {} FROM {}{} WHERE {}").format(select, only, name, condition(where))
    for sign, block in ((SQL(">="), block_range.start), (SQL("<"), block_range.stop)):
        if block is not None:
            query += SQL(" AND ctid {} {}::tid").format(sign, Literal(f"({block},0)"))
    return _batches(dsn, query.as_string(None), snapshot=snapshot, batch_mib=batch_mib)


def _batches(
    dsn: str, query: str, *, snapshot: str | None, batch_mib: int
) -> Iterator[pa.RecordBatch]:
    key = (os.getpid(), conninfo(dsn, "raydistill read"))
    connection = _begun(key)
    whole = False
    try:
        with connection.cursor() as cursor:
            yield from _selected(cursor, query, snapshot=snapshot, batch_mib=batch_mib)
            cursor.execute("COMMIT")
        whole = True
    except (adbc.Error, pa.ArrowException, OSError) as problem:
        raise _broken(problem, snapshot) from problem
    finally:
        # setdefault: of threads that end a read at once, one keeps its connection.
        if not whole or _readers.setdefault(key, connection) is not connection:
            _close(connection)


# Of each process (a fork must not share one) and database the connection that read last. It is
# idle, outside any transaction; `close_readers` gives it back.
_readers: dict[tuple[int, str], Any] = {}
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


def _begun(key: tuple[int, str]) -> Any:
    """A connection in a transaction: the kept one where it still answers, or else a new one."""
    kept = _readers.pop(key, None)
    if kept is not None:
        try:
            _execute(kept, _BEGIN)
            return kept
        except (adbc.Error, OSError):  # its server was away since
            _close(kept)
    try:
        connection = adbc.connect(key[1], autocommit=True)
    except adbc.Error as problem:
        raise unreachable(key[1], str(problem)) from None
    try:
        _execute(connection, _BEGIN)
    except adbc.Error as problem:
        _close(connection)
        raise unreachable(key[1], str(problem)) from None
    return connection


def _execute(connection: Any, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _close(connection: Any) -> None:
    with contextlib.suppress(adbc.Error, OSError):  # it may be lost
        connection.close()


@atexit.register
def close_readers() -> None:
    """Closes this process's connections that read."""
    for key in [one for one in _readers if one[0] == os.getpid()]:
        _close(_readers.pop(key))


def _selected(
    cursor: Any, query: str, *, snapshot: str | None, batch_mib: int
) -> Iterator[pa.RecordBatch]:
    if snapshot:
        cursor.execute(f"SET TRANSACTION SNAPSHOT {Literal(snapshot).as_string(None)}")
    cursor.adbc_statement.set_options(
        **{"adbc.postgresql.batch_size_hint_bytes": str(batch_mib << 20)}
    )
    cursor.execute(_readable(query, cursor.adbc_execute_schema(query)))
    reader = cursor.fetch_record_batch()
    schema = pa.schema([(field.name, field.type) for field in reader.schema])
    count = 0
    for batch in reader:
        count += 1
        yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
    if not count:
        yield pa.RecordBatch.from_pylist([], schema=schema)


def _readable(query: str, schema: pa.Schema) -> str:
    """The query with each column in a type that Arrow has."""
    kinds = [(field.metadata or {}).get(b"POSTGRESQL:type", b"").decode() for field in schema]
    if all(kind in _NATIVE for kind in kinds):
        return query
    select: list[Composed] = []
    for name, kind in zip(schema.names, kinds, strict=True):
        form = SQL("{0}") if kind in _NATIVE else SQL("{0}::text AS {0}")
        if kind in _MOMENTS:  # Arrow has no infinity: the driver would overflow into a wrong date
            form = SQL("CASE WHEN isfinite({0}) THEN {0} END AS {0}")
        select.append(form.format(Identifier(name)))
    return f"SELECT {SQL(', ').join(select).as_string(None)} FROM (\n{query}\n) AS q"


def _broken(problem: Exception, snapshot: str | None) -> RaydistillError:
    """SetupError where the query is wrong, ReadLost for all else."""
    state = getattr(problem, "sqlstate", None) or ""
    ended = snapshot is not None and state == "42704"  # the snapshot, since PostgreSQL 17
    if state.startswith("42") and not ended:
        return SetupError(
            f"PostgreSQL refused the read: {problem}",
            todo="check source.columns.*, source.where and the rights of this role",
        )
    under = f" (snapshot {snapshot})" if snapshot else ""
    return ReadLost(f"a read{under} broke off and must be done again from its start: {problem}")
