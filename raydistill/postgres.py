"""PostgreSQL: connections, statements, COPY in. Tables are read as Arrow by pgread.py.

Here and there is the home of psycopg.
"""

import contextlib
import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeAlias

import psycopg
import pyarrow as pa
import pyarrow.csv as pc_csv
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Composed, Identifier, Literal

from raydistill.errors import DataError, RaydistillError, SetupError

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Params: TypeAlias = Sequence[Any] | Mapping[str, Any]

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


def connect(dsn: str, *, read_only: bool = False, application: str = "raydistill") -> Connection:
    """An open connection; SetupError (which never shows a password) if there is none to be had.

    `dsn` is a libpq URI or `key=value` string; libpq fills it up (PGSERVICE, PGPASSFILE, ...).
    """
    text = conninfo(dsn, application)
    try:
        connection = psycopg.connect(text)
    except psycopg.Error as problem:
        raise unreachable(text, str(problem)) from None
    connection.read_only = read_only
    return connection


def fetch(
    source: str | Connection, query: str | Composed, params: Params | None = None
) -> list[tuple[Any, ...]]:
    """All rows of a small query, from a DSN (read-only) or within an open connection."""
    if isinstance(source, str):
        with connect(source, read_only=True) as connection:
            return fetch(connection, query, params)
    with explained(source):
        return source.execute(plain_query(query), params).fetchall()


def script(connection: Connection, sql: str | Composed) -> None:
    """Run statements (DDL, `;` between them) in the caller's transaction."""
    with explained(connection):
        connection.execute(plain_query(sql))


@contextlib.contextmanager
def transaction(connection: Connection) -> Generator[None, None, None]:
    """One transaction; ConnectionLost where its commit cannot be known to be done."""
    with explained(connection), connection.transaction():
        yield


def sql(text: str, /, **names: Composed) -> Composed:
    """A statement with `{name}` holes filled by identifiers; values stay `%s` parameters."""
    return SQL(text).format(**names)  # pyright: ignore[reportArgumentType]


def literal(value: object) -> Composed:
    """A value written into a statement; a list is an array of the column's own type."""
    return SQL("{}").format(Literal(value))


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
        oid, _ = table_of(connection, table)
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


def table_of(connection: Connection, table: str) -> tuple[int, bool]:
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


def refuse_password(dsn: str) -> None:
    """SetupError where a DSN holds a password: configuration ends up in logs and job listings."""
    with contextlib.suppress(psycopg.ProgrammingError):  # `connect` explains what is no DSN
        if conninfo_to_dict(dsn).get("password"):
            raise SetupError(
                "source.dsn holds a password",
                expected="a URI without one: libpq reads ~/.pgpass, PGPASSFILE or a service file",
                todo="take the password out of source.dsn and put it into ~/.pgpass (mode 0600)",
            )


def conninfo(dsn: str, application: str) -> str:
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


def unreachable(conninfo: str, problem: str) -> Unreachable:
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
def explained(connection: Connection) -> Generator[None, None, None]:
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


def plain_query(query: str | Composed) -> bytes | Composed:
    # psycopg's types allow only literal strings; ours come from files and from our own modules.
    return query if isinstance(query, Composed) else query.encode()


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
        with explained(connection), connection.cursor() as cursor, cursor.copy(statement) as copy:
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
