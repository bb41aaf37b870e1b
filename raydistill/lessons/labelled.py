"""Labelled sentences: the ledger of what an endpoint has answered, and the teacher rows it became.

`raydistill.labelled` has a row for each sentence, task and model: the answer as it was written, its
tokens, and a code where it is not valid. Ledger rows and events of a batch commit together, and
events are written only for ledger rows that this transaction made valid: a batch that is written
twice, or by two runs at once, counts once.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa

from raydistill import postgres
from raydistill.answer import Record
from raydistill.errors import DataError, SetupError
from raydistill.fields import Integer
from raydistill.source import SourceConfig, answer_columns
from raydistill.task import Task

DDL = (
    postgres.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS raydistill.labelled (
    task text NOT NULL, model text NOT NULL, sentence_id text NOT NULL, filing_id text NOT NULL,
    code text, answer text NOT NULL, events int NOT NULL, attempts int NOT NULL DEFAULT 1,
    input_tokens int NOT NULL, output_tokens int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (task, model, sentence_id));
CREATE INDEX IF NOT EXISTS labelled_filing ON raydistill.labelled (filing_id);
"""
)
_LEDGER = pa.schema(
    [
        ("task", pa.string()),
        ("model", pa.string()),
        ("sentence_id", pa.string()),
        ("filing_id", pa.string()),
        ("code", pa.string()),
        ("answer", pa.string()),
        ("events", pa.int32()),
        ("input_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
    ]
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence to ask."""

    id: str
    filing_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """A sentence's answer: records and the text they were read from, or a code and what was told.

    `asked` is false where the endpoint gave no answer.
    """

    sentence: Sentence
    records: tuple[Record, ...]
    code: str | None
    answer: str
    input_tokens: int
    output_tokens: int
    asked: bool = True


@dataclass(frozen=True, slots=True)
class Tables:
    """The teacher's tables of a source, and who fills them.

    `columns` maps event_id, model, created_at and raw to columns of the events table; null (or no
    such key) leaves one to the table's default. Where the source reads the teacher's JSON, that
    column is `raw`, and of the task's fields only those are written that the source names.
    """

    dsn: str
    source: SourceConfig
    task: Task
    model: str
    columns: dict[str, str | None]

    @property
    def fields(self) -> dict[str, str]:
        """The task's fields and their columns in the events table."""
        mapped = answer_columns(self.source.events, self.task)
        return {one.name: mapped[one.name] for one in self.task.fields if one.name in mapped}

    @property
    def more(self) -> dict[str, str]:
        """What else is written of an answer, and its columns in the events table."""
        told = {name: theirs for name, theirs in self.columns.items() if theirs}
        mapped = self.source.events.columns
        return told | ({"raw": mapped["raw"]} if "raw" in mapped else {})


def prepare(tables: Tables) -> None:
    """Makes the ledger, checks the teacher's columns, and finishes filings that were left over."""
    source, events = tables.source, tables.source.events.table
    for name, one in (("filings", source.filings), ("sentences", source.sentences)):
        setting = f"source.{name}.columns"
        postgres.check_columns(tables.dsn, one.table, one.columns, setting=setting)
    postgres.check_columns(
        tables.dsn,
        events,
        answer_columns(source.events, tables.task),
        setting="source.events.columns",
        otherwise="source.events.columns.raw=COLUMN where it holds the teacher's JSON",
    )
    postgres.check_columns(
        tables.dsn,
        events,
        tables.more,
        setting="columns",
        otherwise="columns.NAME=null to leave one to the table's default",
    )
    with postgres.connect(tables.dsn) as connection:
        postgres.script(connection, DDL)
    finish(tables)


def _sql(tables: Tables, text: str) -> Any:
    """The statement with our names for the user's tables and columns filled in."""
    source = tables.source
    names = {
        "filings": postgres.identifier(source.filings.table),
        "sentences": postgres.identifier(source.sentences.table),
        "events": postgres.identifier(source.events.table),
        "f_id": postgres.identifier(source.filings.columns["filing_id"]),
        "f_done": postgres.identifier(source.filings.columns["teacher_done_at"]),
        "s_id": postgres.identifier(source.sentences.columns["id"]),
        "s_filing": postgres.identifier(source.sentences.columns["filing_id"]),
        "s_position": postgres.identifier(source.sentences.columns["position"]),
        "s_text": postgres.identifier(source.sentences.columns["text"]),
        "e_id": postgres.identifier(source.events.columns["id"]),
        "e_filing": postgres.identifier(source.events.columns["filing_id"]),
        "f_where": postgres.condition(source.filings.where, params=True),
        "s_where": postgres.condition(source.sentences.where, params=True),
    }
    return postgres.sql(text, **names)


# A sentence without text is never asked, and never missed. One that has events already is done.
_UNLABELLED = """
    s.{s_text} IS NOT NULL AND btrim(s.{s_text}) <> ''
    AND NOT EXISTS (SELECT FROM raydistill.labelled l WHERE l.task = %(task)s
        AND l.model = %(model)s AND l.sentence_id = s.{s_id}::text
        AND (l.code IS NULL OR l.attempts >= %(attempts)s))
    AND NOT EXISTS (SELECT FROM {events} e WHERE e.{e_filing} = s.{s_filing}
        AND e.{e_id} = s.{s_id})"""


def _values(tables: Tables, **more: Any) -> dict[str, Any]:
    return {"task": tables.task.name, "model": tables.model, **more}


def remaining(tables: Tables, attempts: int) -> list[tuple[str, int]]:
    """Filings that the teacher has not finished, and how many sentences of each to ask."""
    query = _sql(
        tables,
        "SELECT s.{s_filing}::text, count(*) FROM (SELECT * FROM {sentences} WHERE {s_where}) s"
        " JOIN (SELECT * FROM {filings} WHERE {f_where}) f ON f.{f_id} = s.{s_filing}"
        " WHERE f.{f_done} IS NULL AND " + _UNLABELLED + " GROUP BY 1",
    )
    values = _values(tables, attempts=attempts)
    return [(str(filing), int(n)) for filing, n in postgres.fetch(tables.dsn, query, values)]


def sentences(tables: Tables, filings: Sequence[str], attempts: int) -> Iterator[Sentence]:
    """The sentences of these filings that are to be asked, by filing and position."""
    query = _sql(
        tables,
        "SELECT s.{s_id}::text AS id, s.{s_filing}::text AS filing_id, s.{s_text} AS text"
        " FROM (SELECT * FROM {sentences} WHERE {s_where}) s"
        " WHERE s.{s_filing} = ANY(%(filings)s) AND "
        + _UNLABELLED
        + " ORDER BY s.{s_filing}, s.{s_position}, s.{s_id}",
    )
    values = _values(tables, attempts=attempts, filings=list(filings))
    for id, filing, text in postgres.fetch(tables.dsn, query, values):
        yield Sentence(id, filing, text)


def usage(tables: Tables) -> tuple[int, float, float]:
    """How many answers this model has given to this task, and their mean tokens in and out."""
    query = (
        "SELECT count(*), coalesce(avg(input_tokens), 0)::float,"
        " coalesce(avg(output_tokens), 0)::float FROM raydistill.labelled"
        " WHERE task = %(task)s AND model = %(model)s AND input_tokens > 0"
    )
    ((count, read, written),) = postgres.fetch(tables.dsn, query, _values(tables))
    return int(count), float(read), float(written)


def commit(tables: Tables, batch: Sequence[Labelled]) -> tuple[int, int]:
    """Writes answers and their events in one transaction; gives (events, filings finished)."""
    with postgres.connect(tables.dsn) as connection, connection.transaction():
        postgres.script(
            connection,
            "CREATE TEMP TABLE incoming (LIKE raydistill.labelled INCLUDING DEFAULTS)"
            " ON COMMIT DROP",
        )
        postgres.copy_in(connection, "incoming", _ledger(tables, batch))
        # A second run of the same sentences waits here, then finds them answered.
        fresh = postgres.fetch(
            connection,
            "INSERT INTO raydistill.labelled AS l SELECT * FROM incoming ORDER BY sentence_id"
            " ON CONFLICT (task, model, sentence_id) DO UPDATE SET code = excluded.code,"
            " answer = excluded.answer, events = excluded.events, attempts = l.attempts + 1,"
            " input_tokens = l.input_tokens + excluded.input_tokens,"
            " output_tokens = l.output_tokens + excluded.output_tokens, created_at = now()"
            " WHERE l.code IS NOT NULL RETURNING sentence_id",
        )
        ids = {id for (id,) in fresh}
        events = _events(tables, [one for one in batch if one.sentence.id in ids])
        try:
            postgres.copy_in(connection, tables.source.events.table, events)
        except DataError as problem:
            raise SetupError(
                f"{tables.source.events.table} refuses the answers: {problem}",
                expected="columns that take the task's values (event_date may be '2024-03')",
                todo="correct the table, source.events.columns or columns.*",
            ) from None
        filings = sorted({one.sentence.filing_id for one in batch})
        return len(events), _finish(tables, connection, filings)


def _ledger(tables: Tables, batch: Sequence[Labelled]) -> pa.Table:
    rows = [
        {
            "task": tables.task.name,
            "model": tables.model,
            "sentence_id": one.sentence.id,
            "filing_id": one.sentence.filing_id,
            "code": one.code,
            "answer": storable(one.answer),
            "events": len(one.records),
            "input_tokens": one.input_tokens,
            "output_tokens": one.output_tokens,
        }
        for one in batch
    ]
    return pa.Table.from_pylist(rows, schema=_LEDGER)


def _events(tables: Tables, batch: Sequence[Labelled]) -> pa.Table:
    """The teacher rows of these answers, under the user's names."""
    columns = tables.source.events.columns
    numbers = {one.name for one in tables.task.fields if isinstance(one, Integer)}
    types: dict[str, Any] = {columns[name]: pa.string() for name in ("id", "filing_id", "text")}
    for name, theirs in tables.fields.items():
        types[theirs] = pa.int32() if name in numbers else pa.string()
    extra = tables.more
    kinds = {"event_id": pa.int64(), "created_at": pa.timestamp("us", "UTC")}
    types |= {theirs: kinds.get(name, pa.string()) for name, theirs in extra.items()}
    now = datetime.now(timezone.utc)
    rows: list[dict[str, Any]] = []
    for one in batch:
        for ordinal, record in enumerate(one.records):
            row: dict[str, Any] = {
                columns["id"]: one.sentence.id,
                columns["filing_id"]: one.sentence.filing_id,
                columns["text"]: one.sentence.text,
                **{theirs: record[name] for name, theirs in tables.fields.items()},
            }
            made = {
                "event_id": _event_id(tables, one.sentence.id, ordinal),
                "model": tables.model,
                "created_at": now,
                "raw": raw_json(one.answer),
            }
            rows.append(row | {theirs: made[name] for name, theirs in extra.items()})
    return pa.Table.from_pylist(rows, schema=pa.schema(types))


def _event_id(tables: Tables, sentence: str, ordinal: int) -> int:
    """The same 62-bit number for the same event, so that a doubled one cannot be written."""
    key = json.dumps([tables.task.name, tables.model, sentence, ordinal])
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2


def storable(text: str) -> str:
    """The text without what no PostgreSQL text holds: NUL and lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def raw_json(text: str) -> str:
    """What the model wrote as JSON for a jsonb column: itself where it is JSON, else a string."""
    text = storable(text)
    try:
        told = json.dumps(json.loads(text), ensure_ascii=False, allow_nan=False)
        return storable(told) if "\\u0000" not in told else json.dumps(text, ensure_ascii=False)
    except (ValueError, RecursionError):
        return json.dumps(text, ensure_ascii=False)


def finish(tables: Tables) -> int:
    """Marks every filing whose sentences all have a valid answer as finished; gives how many."""
    with postgres.connect(tables.dsn) as connection, connection.transaction():
        return _finish(tables, connection, None)


def _finish(tables: Tables, connection: Any, filings: Sequence[str] | None) -> int:
    # Only filings that were asked about: a filing the teacher never saw is not its negative.
    asked = "SELECT filing_id FROM raydistill.labelled WHERE task = %(task)s AND model = %(model)s"
    some = " AND filing_id = ANY(%(filings)s)" if filings is not None else ""
    query = _sql(
        tables,
        "UPDATE {filings} f SET {f_done} = now() WHERE f.{f_done} IS NULL"
        f" AND f.{{f_id}}::text IN ({asked}{some})"
        " AND NOT EXISTS (SELECT FROM {sentences} s WHERE s.{s_filing} = f.{f_id} AND "
        + _UNLABELLED
        + ") RETURNING 1",
    )
    # No attempt is the last here: an invalid answer leaves its filing open.
    values = _values(tables, attempts=2**31 - 1, filings=list(filings or ()))
    return len(postgres.fetch(connection, query, values))
