"""Events: what the cascade's rows become in Postgres, and the transaction that writes them.

Events, dead letters, review rows and ledger rows of a chunk are written in one transaction. The
ledger is the gate: (release, filing_id) is unique, and a filing's rows are written only by the
transaction that inserts its ledger row, so a chunk that is written twice, or by two drivers at
once, counts once.
"""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import compute

from raydistill import postgres
from raydistill.chunk import COUNTS
from raydistill.errors import DataError
from raydistill.fields import Integer
from raydistill.postgres import Connection
from raydistill.task import Task

pc: Any = compute  # its functions are made at run time: no type checker sees them

_CERTAINTY = ("score", "agreement_probability")  # of the whole answer, on each of its records
# Two drivers may begin at once: without the lock, IF NOT EXISTS fails in one of them.
_TABLES = (
    "SELECT pg_advisory_xact_lock(hashtextextended('raydistill tables', 0));"
    + postgres.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS raydistill.runs (
    run text PRIMARY KEY, release text NOT NULL, fingerprint text NOT NULL, config jsonb NOT NULL,
    driver text, stopping text, started_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS raydistill.ledger (
    release text NOT NULL, filing_id text NOT NULL, run text NOT NULL,
    fingerprint text NOT NULL,
    sentences int NOT NULL, candidates int NOT NULL, kept int NOT NULL,
    events int NOT NULL, dead_letters int NOT NULL,
    answers int NOT NULL, abstained int NOT NULL,
    agreement double precision NOT NULL, agreement_kept double precision NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (release, filing_id));
CREATE INDEX IF NOT EXISTS ledger_run ON raydistill.ledger (run);
CREATE TABLE IF NOT EXISTS raydistill.dead_letters (
    release text NOT NULL, sentence_id text NOT NULL, filing_id text NOT NULL, run text NOT NULL,
    code text NOT NULL, text text, created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (release, sentence_id));
CREATE TABLE IF NOT EXISTS raydistill.attempts (
    release text NOT NULL, chunk text NOT NULL, stage text NOT NULL, run text NOT NULL,
    driver text NOT NULL, attempts int NOT NULL, place text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (release, chunk, stage));
"""
)


def ddl(task: Task) -> str:
    """The statements that make a task's output tables; `raydistill.events` for events."""
    columns = ["release text NOT NULL", "sentence_id text NOT NULL", "ordinal smallint NOT NULL"]
    columns += ["filing_id text NOT NULL", "run text NOT NULL", "position int", "sentence text"]
    for field in task.fields:
        columns.append(f'"{field.name}" {"smallint" if isinstance(field, Integer) else "text"}')
        if field.kind == "span":
            columns += [f'"{field.name}_start" int', f'"{field.name}_end" int']
    columns += ["score real", "agreement_probability real", "abstained boolean NOT NULL"]
    columns += ["created_at timestamptz NOT NULL DEFAULT now()"]
    body = ",\n    ".join([*columns, "PRIMARY KEY (release, sentence_id, ordinal)"])
    return f"{_TABLES}CREATE TABLE IF NOT EXISTS {events_table(task)} (\n    {body});\n"


def events_table(task: Task) -> str:
    """Where a task's records go."""
    return f"raydistill.{task.key}"


def event_schema(task: Task) -> pa.Schema:
    """The Arrow columns of a task's event rows."""
    fields = [("sentence_id", pa.string()), ("ordinal", pa.int16()), ("filing_id", pa.string())]
    fields += [("position", pa.int32()), ("sentence", pa.string())]
    for field in task.fields:
        fields.append((field.name, pa.int16() if isinstance(field, Integer) else pa.string()))
        if field.kind == "span":
            fields += [(f"{field.name}_start", pa.int32()), (f"{field.name}_end", pa.int32())]
    fields += [("score", pa.float32()), ("agreement_probability", pa.float32())]
    return pa.schema([*fields, ("abstained", pa.bool_())])


@dataclass(frozen=True, slots=True)
class Rows:
    """What one chunk writes.

    Event rows; dead letters (sentence_id, filing_id, code, text); ledger rows; and the answers to
    review (sentence_id, filing_id, text, student, confidence, skip_score).
    """

    events: pa.Table
    dead_letters: pa.Table
    ledger: pa.Table
    review: pa.Table


def rows(table: pa.Table, task: Task, *, abstain: float = 0.0) -> Rows:
    """The rows of a cascade's output. Filings without a marker are not written at all.

    Answers whose probability of agreement is known and below `abstain` are marked and reviewed.
    """
    is_marker = pc.is_null(table.column("id"))
    failed = pc.is_valid(table.column("error"))
    answered = table.filter(pc.and_(pc.invert(is_marker), pc.is_valid(table.column("answer"))))
    unsure = pc.fill_null(pc.less(answered["agreement_probability"], abstain), False)
    answered = answered.append_column("abstained", unsure)
    events = _events(answered, task)
    dead = table.filter(pc.and_(pc.invert(is_marker), failed))
    dead = dead.select(["id", "filing_id", "error", "text"])
    dead = dead.rename_columns(["sentence_id", "filing_id", "code", "text"])
    marks = table.filter(is_marker).select(["filing_id", *COUNTS])
    review = answered.filter(answered["abstained"])
    review = review.select(
        ["id", "filing_id", "text", "answer", "agreement_probability", "skip_score"]
    ).rename_columns(["sentence_id", "filing_id", "text", "student", "confidence", "skip_score"])
    ledger = marks.append_column("events", _counts(events, marks))
    ledger = ledger.append_column("dead_letters", _counts(dead, marks))
    ledger = ledger.append_column("answers", _counts(answered, marks))
    ledger = ledger.append_column("abstained", _counts(review, marks))
    left = answered.filter(pc.invert(answered["abstained"]))
    ledger = ledger.append_column("agreement", _sums(answered, marks))
    ledger = ledger.append_column("agreement_kept", _sums(left, marks))
    return Rows(events, dead, ledger, review)


def _events(answered: pa.Table, task: Task) -> pa.Table:
    schema = event_schema(task)
    made: dict[str, list[Any]] = {name: [] for name in schema.names}
    fields = [(field.name, made[field.name]) for field in task.fields]
    spanned = [
        (field.name, made[f"{field.name}_start"], made[f"{field.name}_end"])
        for field in task.fields
        if field.kind == "span"
    ]
    of_row = {"sentence_id": "id", "filing_id": "filing_id", "position": "position"}
    of_row |= {"sentence": "text", **{name: name for name in (*_CERTAINTY, "abstained")}}
    columns = [(made[ours], theirs) for ours, theirs in of_row.items()]
    for row in answered.select([*of_row.values(), "answer", "spans"]).to_pylist():
        pairs = zip(task.records(row["answer"]), json.loads(row["spans"]), strict=True)
        for ordinal, (record, places) in enumerate(pairs):
            made["ordinal"].append(ordinal)
            for column, name in columns:
                column.append(row[name])
            for name, column in fields:
                column.append(record[name])
            for name, starts, ends in spanned:
                start, end = places.get(name, (None, None))
                starts.append(start)
                ends.append(end)
    return pa.table(made, schema=schema)


def _counts(table: pa.Table, marks: pa.Table) -> pa.Array:
    found = {v["values"]: v["counts"] for v in pc.value_counts(table["filing_id"]).to_pylist()}
    return pa.array([found.get(one, 0) for one in marks["filing_id"].to_pylist()], pa.int32())


def _sums(answered: pa.Table, marks: pa.Table) -> pa.Array:
    """The expected number of answers that agree with the teacher, by filing."""
    sums = dict.fromkeys(marks["filing_id"].to_pylist(), 0.0)
    pairs = answered.select(["filing_id", "agreement_probability"]).to_pylist()
    for row in pairs:
        sums[row["filing_id"]] += row["agreement_probability"] or 0.0
    return pa.array(list(sums.values()), pa.float64())


def prepare(dsn: str, task: Task) -> None:
    """Makes the output tables where they are missing."""
    with postgres.connect(dsn) as connection:
        postgres.script(connection, ddl(task))


def commit(
    dsn: str, chunk: Rows, task: Task, *, release: str, run: str, fingerprint: str = ""
) -> int:
    """Writes a chunk in one transaction of its own; gives how many filings were new."""
    with postgres.connect(dsn) as connection, postgres.transaction(connection):
        return write(connection, chunk, task, release=release, run=run, fingerprint=fingerprint)


def write(
    connection: Connection, chunk: Rows, task: Task, *, release: str, run: str, fingerprint: str
) -> int:
    """Writes a chunk in the caller's transaction; gives how many filings were new.

    Filings that already have a ledger row of this release are left out, whoever wrote them.
    """
    postgres.script(
        connection,
        "CREATE TEMP TABLE incoming (LIKE raydistill.ledger INCLUDING DEFAULTS) ON COMMIT DROP",
    )
    stamp = {"release": release, "run": run}
    ledger = stamped(chunk.ledger, {**stamp, "fingerprint": fingerprint})
    postgres.copy_in(connection, "incoming", ledger)
    # A concurrent writer of the same filing makes this wait, then skip it.
    fresh = postgres.fetch(
        connection,
        "INSERT INTO raydistill.ledger SELECT * FROM incoming ORDER BY filing_id"
        " ON CONFLICT (release, filing_id) DO NOTHING RETURNING filing_id",
    )
    accepted = pa.array([row[0] for row in fresh], pa.string())
    put(connection, _of(chunk, accepted), task, stamp)
    return len(accepted)


def _of(chunk: Rows, filings: pa.Array) -> Rows:
    """The chunk's rows of these filings."""
    parts = (chunk.events, chunk.dead_letters, chunk.ledger, chunk.review)
    return Rows(*(part.filter(pc.is_in(part["filing_id"], value_set=filings)) for part in parts))


def put(connection: Connection, chunk: Rows, task: Task, stamp: dict[str, str]) -> None:
    """Copies events, dead letters and review rows in, without asking the ledger.

    Values that Postgres refuses make their sentence a dead letter.
    """
    refused = _copied(connection, events_table(task), stamped(chunk.events, stamp))
    if len(chunk.dead_letters):
        postgres.copy_in(connection, "raydistill.dead_letters", stamped(chunk.dead_letters, stamp))
    if refused:
        _bury(connection, chunk.events, refused, stamp)
    if len(chunk.review):
        _queue(connection, chunk.review, task, stamp["release"])


def stamped(table: pa.Table, stamp: dict[str, str]) -> pa.Table:
    """The table with constant columns."""
    for name, value in stamp.items():
        table = table.append_column(name, pa.array([value] * len(table), pa.string()))
    return table


def _copied(connection: Connection, table: str, events: pa.Table) -> dict[str, str]:
    """Copies what Postgres takes; gives the sentences it does not take, each with a code."""
    if not len(events):
        return {}
    try:
        with connection.transaction():  # a savepoint: the rest must stay possible
            postgres.copy_in(connection, table, events)
        return {}
    except DataError as problem:
        ids = events["sentence_id"].unique()
        if len(ids) == 1:
            return {ids[0].as_py(): problem.code}
    half = ids.slice(0, len(ids) // 2)
    first = pc.is_in(events["sentence_id"], value_set=half)
    refused = _copied(connection, table, events.filter(first))
    return refused | _copied(connection, table, events.filter(pc.invert(first)))


def _bury(
    connection: Connection, events: pa.Table, refused: dict[str, str], stamp: dict[str, str]
) -> None:
    """Dead letters for sentences whose events were refused, and the ledger's counts to match."""
    lost: dict[str, int] = {}
    dead: dict[str, dict[str, Any]] = {}
    for row in events.select(["sentence_id", "filing_id"]).to_pylist():
        if code := refused.get(row["sentence_id"]):
            lost[row["filing_id"]] = lost.get(row["filing_id"], 0) + 1
            dead[row["sentence_id"]] = {**row, "code": code}
    letters = stamped(pa.Table.from_pylist(list(dead.values())), stamp)
    postgres.copy_in(connection, "raydistill.dead_letters", letters)
    for filing, count in lost.items():
        letters = sum(one["filing_id"] == filing for one in dead.values())
        postgres.fetch(
            connection,
            "UPDATE raydistill.ledger SET events = events - %s, dead_letters = dead_letters + %s"
            " WHERE release = %s AND filing_id = %s RETURNING 1",
            [count, letters, stamp["release"], filing],
        )


def _queue(connection: Connection, review: pa.Table, task: Task, release: str) -> None:
    postgres.script(connection, "CREATE TEMP TABLE asked (sentence_id text, filing_id text,"
        " text text, student jsonb, confidence real, skip_score real) ON COMMIT DROP")  # fmt: skip
    postgres.copy_in(connection, "asked", review)
    postgres.fetch(
        connection,
        "INSERT INTO raydistill.review (task, release, reason, sentence_id, filing_id, text,"
        " student, confidence, skip_score) SELECT %s, %s, 'abstained', * FROM asked"
        " ON CONFLICT (task, release, sentence_id) DO NOTHING RETURNING 1",
        [task.name, release],
    )


def done(dsn: str, release: str) -> set[str]:
    """Filings that this release has finished."""
    with postgres.connect(dsn, read_only=True) as connection:
        found = postgres.fetch(
            connection, "SELECT filing_id FROM raydistill.ledger WHERE release = %s", [release]
        )
    return {row[0] for row in found}
