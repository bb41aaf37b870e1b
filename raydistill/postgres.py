"""PostgreSQL to Arrow and back: connections, range reads of large tables, COPY in.

The one home of psycopg and of the ADBC driver. Reads of any size stream record batches in bounded
memory; a large table is cut in block ranges (`ranges`) that are read side by side under one
snapshot (`snapshot`), so together they are the table at one moment, each row once.
"""

import contextlib
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import adbc_driver_postgresql.dbapi as adbc
import psycopg
import pyarrow as pa
import pyarrow.csv as pc_csv
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Composed, Identifier, Literal

from raydistill.errors import DataError, RaydistillError, SetupError

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Params: TypeAlias = Sequence[Any] | Mapping[str, Any]

# What a read returns as it is; every other type (numeric, jsonb, uuid, enum, ...) is read as text.
_SCALAR = {"bool", "int2", "int4", "int8", "float4", "float8", "text", "varchar", "bytea"}
_NATIVE = _SCALAR | {f"_{kind}" for kind in _SCALAR}
_MOMENTS = {"date", "timestamp", "timestamptz"}

_PASSING = {"40", "53", "57"}  # deadlock and the like; disk, memory or connections full; shutdown
_COPY_BYTES = 1 << 20  # larger pieces of CSV cost fresh memory: 1.0 µs a row at 1 MiB, 2.4 at 30
_CSV = pc_csv.WriteOptions(include_header=False, quoting_style="needed")


# The schema of every output table. IF NOT EXISTS asks for the right to make one even where it is
# there, which a role that only writes does not have.
SCHEMA = """
DO $$ BEGIN IF to_regnamespace('raydistill') IS NULL THEN CREATE SCHEMA raydistill; END IF; END $$;
"""


class Unreachable(SetupError):
    """No connection is to be had: a wrong setup, or a server that is away for a while."""


class ConnectionLost(RaydistillError):
    """The server went away or is full; what the transaction did is undone, or not known to be done.

    Doing the whole transaction again may help.
    """


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


def connect(dsn: str, *, read_only: bool = False, application: str = "raydistill") -> Connection:
    """An open connection; SetupError (which never shows a password) if there is none to be had.

    `dsn` is a libpq URI or `key=value` string; libpq fills it up (PGSERVICE, PGPASSFILE, ...).
    """
    text = _conninfo(dsn, application)
    try:
        connection = psycopg.connect(text)
    except psycopg.Error as problem:
        raise _unreachable(text, str(problem)) from None
    connection.read_only = read_only
    return connection


def fetch(
    source: str | Connection, query: str | Composed, params: Params | None = None
) -> list[tuple[Any, ...]]:
    """All rows of a small query, from a DSN (read-only) or within an open connection."""
    if isinstance(source, str):
        with connect(source, read_only=True) as connection:
            return fetch(connection, query, params)
    with _explained(source):
        return source.execute(_query(query), params).fetchall()


def script(connection: Connection, sql: str | Composed) -> None:
    """Run statements (DDL, `;` between them) in the caller's transaction."""
    with _explained(connection):
        connection.execute(_query(sql))


@contextlib.contextmanager
def transaction(connection: Connection) -> Generator[None, None, None]:
    """One transaction; ConnectionLost where its commit cannot be known to be done."""
    with _explained(connection), connection.transaction():
        yield


def sql(text: str, /, **names: Composed) -> Composed:
    """A statement with `{name}` holes filled by identifiers; values stay `%s` parameters."""
    return SQL(text).format(**names)  # pyright: ignore[reportArgumentType]


def condition(where: str | None, *, params: bool = False) -> Composed:
    """A `where` of the configuration in brackets: trusted SQL, its braces and comments its own.

    `params` says that the statement has parameters: then `%` is doubled.
    """
    text = (where or "true").replace("{", "{{").replace("}", "}}")
    return sql(f"({text.replace('%', '%%') if params else text}\n)")


def identifier(name: str) -> Composed:
    """`schema.table` quoted for SQL, case kept; parts may be quoted already: `"My.data".table`."""
    part = r'"(?:[^"]|"")+"|[^".]+'
    if not re.fullmatch(rf"(?:{part})(?:\.(?:{part}))*", name):
        raise SetupError(f"{name!r} is not a table's name", expected='table, schema.table or "My"')
    parts = [re.sub(r'^"|"$', "", text).replace('""', '"') for text in re.findall(part, name)]
    return SQL(".").join(Identifier(text) for text in parts)


def check_columns(
    dsn: str,
    table: str,
    columns: Sequence[str] | Mapping[str, str],
    *,
    setting: str = "source.columns",
    otherwise: str = "GRANT SELECT to the role",
) -> None:
    """Pass if `table` has all `columns` and this role may read it; else SetupError says what is.

    With our names before theirs, it names the override of each missing one, below `setting`;
    `otherwise` is what else can be done.
    """
    with connect(dsn, read_only=True) as connection:
        oid, _ = _table(connection, table)
        query = """SELECT attname FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT
            attisdropped AND has_column_privilege(attrelid, attnum, 'SELECT') ORDER BY attnum"""
        has = [name for (name,) in fetch(connection, query, (oid,))]
    named = columns.items() if isinstance(columns, Mapping) else [("<field>", c) for c in columns]
    if missing := {theirs: ours for ours, theirs in named if theirs not in has}:
        overrides = dict.fromkeys(f"{setting}.{ours}=COLUMN" for ours in missing.values())
        raise SetupError(
            f"table {table} has no column {', '.join(missing)} that this role may read",
            expected=f"one of the columns it may read: {', '.join(has) or 'none'}",
            todo=f"set {', '.join(overrides)}, or {otherwise}",
        )


def refuse_password(dsn: str) -> None:
    """SetupError where a DSN holds a password: configuration ends up in logs and job listings."""
    with contextlib.suppress(psycopg.ProgrammingError):  # `connect` explains what is no DSN
        if conninfo_to_dict(dsn).get("password"):
            raise SetupError(
                "source.dsn holds a password",
                expected="a URI without one: libpq reads ~/.pgpass, PGPASSFILE or a service file",
                todo="take the password out of source.dsn and put it into ~/.pgpass (mode 0600)",
            )


def _conninfo(dsn: str, application: str) -> str:
    try:
        theirs = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:  # its text repeats parts of the DSN: a password, possibly
        raise SetupError(
            "the DSN is not a PostgreSQL connection string",
            expected="postgresql://user@host:port/database, or 'host=... dbname=...'",
            todo="set source.dsn=",
        ) from None
    ours = {"connect_timeout": "10", "fallback_application_name": application}
    # A peer that vanished is noticed after a minute, not after two hours.
    ours |= {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
    theirs = {key: str(value) for key, value in theirs.items()}
    # UTF8: without it ADBC takes the bytes of a LATIN1 database as they are.
    return make_conninfo("", **ours | theirs | {"client_encoding": "UTF8"})


def _unreachable(conninfo: str, problem: str) -> Unreachable:
    """What went wrong with which server, without a password."""
    default = psycopg.pq.Conninfo.get_defaults()
    value = {option.keyword.decode(): (option.val or b"").decode() for option in default}
    value |= {key: str(val) for key, val in conninfo_to_dict(conninfo).items()}
    host, user = value.get("host") or "local socket", value.get("user")
    where = f"host {host} port {value.get('port') or 5432} user {user}"
    where += f" database {value.get('dbname') or user} {value.get('service', '')}".rstrip()
    why = " ".join(problem.split())
    if len(password := value.get("password", "")) > 3:
        why = why.replace(password, "***")
    return Unreachable(
        f"cannot connect to PostgreSQL at {where}: {why}",
        expected="a running server that knows this user and database",
        todo="set source.dsn= (a password belongs in PGPASSFILE or a service file, not in it)",
    )


@contextlib.contextmanager
def _explained(connection: Connection) -> Generator[None, None, None]:
    """Errors of psycopg in raydistill's words; what it does not know passes through."""
    try:
        yield
    except psycopg.ProgrammingError as problem:
        if not (problem.sqlstate or "").startswith("42"):
            raise
        raise SetupError(
            f"PostgreSQL refused the statement: {problem}",
            todo="check the tables and columns named in source.*, and the rights of this role",
        ) from problem
    except (psycopg.OperationalError, psycopg.InterfaceError) as problem:
        if connection.closed:
            raise ConnectionLost(f"lost the connection to PostgreSQL: {problem}") from problem
        if (getattr(problem, "sqlstate", None) or "")[:2] in _PASSING:
            raise ConnectionLost(f"PostgreSQL cannot do it now: {problem}") from problem
        raise


def _query(query: str | Composed) -> bytes | Composed:
    # psycopg's types allow only literal strings; ours come from files and from our own modules.
    return query if isinstance(query, Composed) else query.encode()


def _table(connection: Connection, table: str) -> tuple[int, bool]:
    """The table's oid, and whether LOCK TABLE is possible."""
    query = (
        "SELECT oid, relkind IN ('r', 'p') AND has_table_privilege(oid, 'SELECT')"
        " FROM pg_class WHERE oid = to_regclass(%s)"
    )
    found = fetch(connection, query, (identifier(table).as_string(connection),))
    if not found:
        query = (
            "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            " ORDER BY (tablename = %s) DESC, 1 LIMIT 12"
        )
        known = [row[0] for row in fetch(connection, query, (table.rpartition(".")[2],))]
        raise SetupError(
            f"there is no table {table} in database {connection.info.dbname}",
            expected=f"a table such as {', '.join(known)}" if known else "a table",
            todo="set source.dsn= to the right database, or name the table in source.*",
        )
    return found[0][0], found[0][1]


def copy_in(connection: Connection, table: str, data: pa.Table) -> int:
    """The number of rows copied into an existing table, matched by column name.

    Runs in the caller's transaction. DataError `nul_byte` (PostgreSQL text cannot hold it) or
    `value_refused` leaves that transaction failed: roll back. Nested columns are a SetupError.
    """
    data = pa.table({name: _plain(data[name]) for name in data.column_names})
    names = SQL(", ").join(Identifier(name) for name in data.column_names)
    statement = SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(identifier(table), names)
    rows = max(1, _COPY_BYTES * data.num_rows // max(1, data.nbytes))
    try:
        with _explained(connection), connection.cursor() as cursor, cursor.copy(statement) as copy:
            for start in range(0, data.num_rows, rows):
                text = _csv(data.slice(start, rows))
                if b"\0" in text:
                    bad = [n for n in data.column_names if b"\0" in _csv(data.select([n]))]
                    raise DataError("nul_byte", f"{table}: {', '.join(bad)}")
                copy.write(text)
    except (psycopg.DataError, psycopg.IntegrityError) as problem:
        about = problem.diag
        raise DataError("value_refused", f"{about.message_primary} ({about.context})") from problem
    return data.num_rows


def _csv(piece: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pc_csv.write_csv(piece, sink, _CSV)
    return sink.getvalue().to_pybytes()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in a type that Arrow's CSV writer has."""
    kind = column.type
    if pa.types.is_nested(kind):
        raise SetupError(f"cannot COPY a column of type {kind}", todo="make it a string first")
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        text = [None if value is None else f"\\x{value.hex()}" for value in column.to_pylist()]
        return pa.chunked_array([pa.array(text, pa.large_string())])
    if pa.types.is_string_view(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.large_string())
    return column


def scan(
    dsn: str, query: str | Composed, params: Params | None = None, *, snapshot: str | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a query (psycopg's `%s` and `%(name)s` for values), one batch at least.

    ReadLost where the connection or the snapshot is lost.
    """
    if params is not None:
        with connect(dsn, read_only=True) as connection:
            query = psycopg.ClientCursor(connection).mogrify(_query(query), params)
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
        lockable = [_table(connection, table)[1] for table in tables]
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
        members = fetch(connection, _MEMBERS, (_table(connection, table)[0],))
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
    with contextlib.ExitStack() as stack:
        conninfo = _conninfo(dsn, "raydistill read")
        try:
            connection = stack.enter_context(adbc.connect(conninfo, autocommit=True))
        except adbc.Error as problem:
            raise _unreachable(conninfo, str(problem)) from None
        cursor = stack.enter_context(connection.cursor())
        try:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
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
        except (adbc.Error, pa.ArrowException, OSError) as problem:
            raise _broken(problem, snapshot) from problem
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
