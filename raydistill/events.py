"""Events: what the cascade's rows become in Postgres, and the transaction that writes them.

Events, dead letters and ledger rows of a chunk commit in one transaction. The ledger is the gate:
(release, filing_id) is unique, and a filing's rows are written only by the transaction that inserts
its ledger row, so a chunk that is written twice, or by two drivers at once, counts once.
"""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import compute

from raydistill import postgres
from raydistill.chunk import COUNTS
from raydistill.fields import Integer
from raydistill.task import Task

pc: Any = compute  # its functions are made at run time: no type checker sees them

_TABLES = """
CREATE SCHEMA IF NOT EXISTS raydistill;
CREATE TABLE IF NOT EXISTS raydistill.runs (
    run text PRIMARY KEY, release text NOT NULL, fingerprint text NOT NULL, config jsonb NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS raydistill.ledger (
    release text NOT NULL, filing_id text NOT NULL, run text NOT NULL,
    sentences int NOT NULL, candidates int NOT NULL, kept int NOT NULL,
    events int NOT NULL, dead_letters int NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (release, filing_id));
CREATE INDEX IF NOT EXISTS ledger_run ON raydistill.ledger (run);
CREATE TABLE IF NOT EXISTS raydistill.dead_letters (
    release text NOT NULL, sentence_id text NOT NULL, filing_id text NOT NULL, run text NOT NULL,
    code text NOT NULL, text text, created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (release, sentence_id));
"""


def ddl(task: Task) -> str:
    """The statements that make a task's output tables; `raydistill.events` for events."""
    columns = ["release text NOT NULL", "sentence_id text NOT NULL", "ordinal smallint NOT NULL"]
    columns += ["filing_id text NOT NULL", "run text NOT NULL", "position int", "sentence text"]
    for field in task.fields:
        columns.append(f'"{field.name}" {"smallint" if isinstance(field, Integer) else "text"}')
        if field.kind == "span":
            columns += [f'"{field.name}_start" int', f'"{field.name}_end" int']
    columns += ["score real", "created_at timestamptz NOT NULL DEFAULT now()"]
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
    return pa.schema([*fields, ("score", pa.float32())])


@dataclass(frozen=True, slots=True)
class Rows:
    """What one chunk writes: events, dead letters (sentence_id, filing_id, code, text), ledger."""

    events: pa.Table
    dead_letters: pa.Table
    ledger: pa.Table


def rows(table: pa.Table, task: Task) -> Rows:
    """The rows of a cascade's output. Filings without a marker are not written at all."""
    is_marker = pc.is_null(table.column("id"))
    failed = pc.is_valid(table.column("error"))
    answered = table.filter(pc.and_(pc.invert(is_marker), pc.is_valid(table.column("answer"))))
    events = _events(answered, task)
    dead = table.filter(pc.and_(pc.invert(is_marker), failed))
    dead = dead.select(["id", "filing_id", "error", "text"])
    dead = dead.rename_columns(["sentence_id", "filing_id", "code", "text"])
    marks = table.filter(is_marker).select(["filing_id", *COUNTS])
    ledger = marks.append_column("events", _counts(events, marks))
    ledger = ledger.append_column("dead_letters", _counts(dead, marks))
    return Rows(events, dead, ledger)


def _events(answered: pa.Table, task: Task) -> pa.Table:
    made: list[dict[str, Any]] = []
    for row in answered.select(
        ["id", "filing_id", "position", "text", "answer", "spans", "score"]
    ).to_pylist():
        answer = task.parse(row["answer"])
        spans = json.loads(row["spans"])
        for ordinal, (record, places) in enumerate(zip(answer.records, spans, strict=True)):
            one = {f"{name}_start": place[0] for name, place in places.items()}
            one |= {f"{name}_end": place[1] for name, place in places.items()}
            one |= record
            one |= {"sentence_id": row["id"], "ordinal": ordinal, "filing_id": row["filing_id"]}
            one |= {"position": row["position"], "sentence": row["text"], "score": row["score"]}
            made.append(one)
    return pa.Table.from_pylist(made, schema=event_schema(task))


def _counts(table: pa.Table, marks: pa.Table) -> pa.Array:
    found = {v["values"]: v["counts"] for v in pc.value_counts(table["filing_id"]).to_pylist()}
    return pa.array([found.get(one, 0) for one in marks["filing_id"].to_pylist()], pa.int32())


def prepare(dsn: str, task: Task) -> None:
    """Makes the output tables where they are missing."""
    with postgres.connect(dsn) as connection:
        postgres.script(connection, ddl(task))


def commit(dsn: str, chunk: Rows, task: Task, *, release: str, run: str) -> int:
    """Writes a chunk in one transaction; gives how many filings were new.

    Filings that already have a ledger row of this release are left out, whoever wrote them.
    """
    with postgres.connect(dsn) as connection, connection.transaction():
        postgres.script(
            connection,
            "CREATE TEMP TABLE incoming (LIKE raydistill.ledger INCLUDING DEFAULTS) ON COMMIT DROP",
        )
        postgres.copy_in(connection, "incoming", _stamped(chunk.ledger, release, run))
        # A concurrent writer of the same filing makes this wait, then skip it.
        fresh = postgres.fetch(
            connection,
            "INSERT INTO raydistill.ledger SELECT * FROM incoming ORDER BY filing_id"
            " ON CONFLICT (release, filing_id) DO NOTHING RETURNING filing_id",
        )
        accepted = pa.array([row[0] for row in fresh], pa.string())
        for name, table in (
            (events_table(task), chunk.events),
            ("raydistill.dead_letters", chunk.dead_letters),
        ):
            kept = table.filter(pc.is_in(table["filing_id"], value_set=accepted))
            if len(kept):
                postgres.copy_in(connection, name, _stamped(kept, release, run))
    return len(accepted)


def _stamped(table: pa.Table, release: str, run: str) -> pa.Table:
    table = table.append_column("release", pa.array([release] * len(table), pa.string()))
    return table.append_column("run", pa.array([run] * len(table), pa.string()))


def done(dsn: str, release: str) -> set[str]:
    """Filings that this release has finished."""
    with postgres.connect(dsn, read_only=True) as connection:
        found = postgres.fetch(
            connection, "SELECT filing_id FROM raydistill.ledger WHERE release = %s", [release]
        )
    return {row[0] for row in found}
