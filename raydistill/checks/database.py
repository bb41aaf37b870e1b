"""Checks of a PostgreSQL server: version, tables, columns, rights, indices, rows."""

from collections.abc import Iterator

from raydistill import postgres
from raydistill.checks.finding import Finding, fail, of, ok, skip, warn
from raydistill.errors import SetupError
from raydistill.source import SourceConfig, SourceKind, TableConfig, answer_columns
from raydistill.task import Task

OLDEST = 14  # block ranges of a table are scanned since this version


def findings(config: SourceConfig, task: Task) -> Iterator[Finding]:
    """Every check of the database that `config` names, for a task."""
    if config.kind is not SourceKind.postgres:
        yield skip("postgres", f"source.kind={config.kind.value}: nothing is read from a database")
        return
    if config.dsn is None:
        yield skip("postgres", "source.dsn=null: the embedded server", "set source.dsn= to yours")
        return
    try:
        postgres.refuse_password(config.dsn)
        ((version, name, user),) = postgres.fetch(
            config.dsn,
            "SELECT current_setting('server_version_num')::int, current_database(), current_user",
        )
    except SetupError as problem:
        yield of("postgres", problem)
        return
    if version // 10_000 < OLDEST:
        yield warn("postgres", f"version {version // 10_000}", f"{OLDEST} or newer reads in ranges")
    else:
        yield ok("postgres", f"version {version // 10_000}, database {name}, role {user}")
    yield from tables(config, task)
    yield rights(config.dsn)


def tables(config: SourceConfig, task: Task) -> Iterator[Finding]:
    """Each table: its columns, rows and the index that reads go by."""
    dsn = config.dsn or ""
    for name in ("filings", "sentences", "events"):
        one: TableConfig = getattr(config, name)
        columns = answer_columns(one, task) if name == "events" else one.columns
        try:
            postgres.check_columns(dsn, one.table, columns, setting=f"source.{name}.columns")
        except SetupError as problem:
            yield of(name, problem)
            continue
        yield _rows(dsn, name, one)
        if name == "sentences":
            yield _index(dsn, one)
        if name == "filings" and "teacher_done_at" in one.columns:
            yield _read_by_teacher(dsn, one)


def _rows(dsn: str, name: str, one: TableConfig) -> Finding:
    query = "SELECT EXISTS (SELECT FROM {table}), reltuples::bigint FROM pg_class"
    statement = postgres.sql(
        query + " WHERE oid = to_regclass(%s)", table=postgres.identifier(one.table)
    )
    ((some, about),) = postgres.fetch(dsn, statement, [one.table])
    if not some:
        return fail(name, f"{one.table} is empty", f"fill it, or set source.{name}.table=")
    rows = f"about {about:,} rows" if about > 0 else "rows, never analysed"
    return ok(name, f"{one.table}: {rows}, {len(one.columns)} columns found")


def _index(dsn: str, one: TableConfig) -> Finding:
    """Whether an index leads with the filing: a chunk is read by its filings."""
    column = one.columns["filing_id"]
    ((found,),) = postgres.fetch(
        dsn,
        "SELECT (SELECT relkind = 'v' FROM pg_class WHERE oid = to_regclass(%s)) OR EXISTS ("
        "SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]"
        " WHERE indrelid = to_regclass(%s) AND attname = %s AND indisvalid)",
        [one.table, one.table, column],
    )
    if not found:
        return fail(
            "index",
            f"{one.table} has no index on {column}: every chunk would scan the table",
            f"CREATE INDEX CONCURRENTLY ON {one.table} ({column})",
        )
    return ok("index", f"on {one.table} ({column})")


def _read_by_teacher(dsn: str, one: TableConfig) -> Finding:
    """Whether any filing was read to its end: without one there are no negatives."""
    statement = postgres.sql(
        "SELECT count({done}), count(*) FROM (SELECT {done} FROM {table} LIMIT 100000) AS part",
        done=postgres.identifier(one.columns["teacher_done_at"]),
        table=postgres.identifier(one.table),
    )
    ((done, count),) = postgres.fetch(dsn, statement, [])
    if not done:
        return fail(
            "negatives",
            f"no filing has {one.columns['teacher_done_at']}: nothing counts as read and empty",
            "set it where the teacher has finished, or map source.filings.columns",
        )
    return ok("negatives", f"{done:,} of the first {count:,} filings read by the teacher")


def rights(dsn: str) -> Finding:
    """Whether this role may write output: make the schema, or write into it where it is."""
    ((exists, uses, creates),) = postgres.fetch(
        dsn,
        "SELECT to_regnamespace('raydistill') IS NOT NULL,"
        " to_regnamespace('raydistill') IS NOT NULL AND"
        " has_schema_privilege(current_user, 'raydistill', 'USAGE') AND"
        " coalesce(has_table_privilege(to_regclass('raydistill.ledger'), 'INSERT'),"
        " has_schema_privilege(current_user, 'raydistill', 'CREATE')),"
        " has_database_privilege(current_database(), 'CREATE')",
        [],
    )
    if uses or (creates and not exists):
        return ok("rights", "may write schema raydistill")
    return warn(
        "rights",
        "this role may read, but not write schema raydistill",
        "enough for build; for backfill use the writer of docs/cluster/roles.sql, or sink=",
    )
