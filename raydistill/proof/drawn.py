"""Rows drawn for a comparison: a fair sample of a dataset, or of the teacher's tables.

The order is that of a keyed hash, so whatever has been read so far is a random sample of all. From
tables, some filings are drawn first and then sentences of all of them together: never a filing
after the other, whose sentences are alike.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill import pgread, postgres
from raydistill.dataset import share
from raydistill.errors import AnswerError, SetupError
from raydistill.lessons import teacher
from raydistill.source import SourceConfig, answer_columns
from raydistill.task import Task

# `answer` is the teacher's in the task's JSON; null where it is not known, or none (`code`).
ROWS = pa.schema([(name, pa.string()) for name in ("id", "group", "text", "answer", "code")])


@dataclass(frozen=True, slots=True)
class Drawn:
    """How many rows there are at most, and the rows (ROWS) batch by batch."""

    available: int
    batches: Iterator[pa.Table]


def of_table(rows: pa.Table, *, most: int, batch: int, seed: int) -> Drawn:
    """Rows of a dataset (dataset.SCHEMA)."""
    columns = ["id", "group", "text", "answer"]
    table = rows.select(columns).append_column("code", pa.nulls(len(rows), pa.string())).cast(ROWS)
    order = _order(rows["id"].to_pylist(), seed)[:most]
    starts = range(0, len(order), batch)
    return Drawn(len(order), (table.take(pa.array(order[at : at + batch])) for at in starts))


def of_source(
    dsn: str,
    source: SourceConfig,
    task: Task,
    *,
    filings: int,
    most: int,
    batch: int,
    seed: int,
    answered: bool,
) -> Drawn:
    """Sentences of `filings` filings in PostgreSQL, read page by page.

    `answered` takes filings that the teacher has finished, with his stored answers; otherwise any
    filing, and no answers. Raises SetupError where there is nothing to read.
    """
    group_of = dict(_filings(dsn, source, answered=answered))
    chosen = [list(group_of)[at] for at in _order(list(group_of), seed)[:filings]]
    found = _ids(dsn, source, chosen)
    if not found:
        raise SetupError(
            f"no sentences of {len(chosen)} filings"
            + (" that the teacher has finished" if answered else ""),
            expected=f"rows in {source.sentences.table}",
            todo="check source.filings and source.sentences, or wait for the teacher",
        )
    answers = _answers(dsn, source, task, chosen) if answered else {}
    order = _order([id for id, _ in found], seed)[:most]
    groups = {found[at][0]: group_of[found[at][1]] for at in order}
    ids = list(groups)
    nothing = task.render(task.answer([], None)) if answered else None

    def pages() -> Iterator[pa.Table]:
        for at in range(0, len(ids), batch):
            page = ids[at : at + batch]
            texts = _texts(dsn, source, page)
            rows = [(id, groups[id], texts[id], *answers.get(id, (nothing, None))) for id in page
                    if texts.get(id)]  # fmt: skip
            columns = list(zip(*rows, strict=True)) or [[] for _ in ROWS]
            yield pa.table([pa.array(list(one), pa.string()) for one in columns], schema=ROWS)

    return Drawn(len(ids), pages())


def _order(ids: Sequence[str], seed: int) -> list[int]:
    """Places of ids in the order of their keyed hash."""
    keys = np.array([share(id, seed) for id in ids])
    return [int(at) for at in np.argsort(keys, kind="stable")]


def _filings(dsn: str, source: SourceConfig, *, answered: bool) -> list[tuple[str, str]]:
    """Filings and their companies, in an order of their own."""
    table = source.filings
    postgres.check_columns(dsn, table.table, table.columns, setting="source.filings.columns")
    query = postgres.sql(
        "SELECT {id}::text, {group}::text FROM {table}"
        " WHERE {where} AND (NOT %s OR {done} IS NOT NULL) ORDER BY 1",
        id=postgres.identifier(table.columns["filing_id"]),
        group=postgres.identifier(table.columns["group"]),
        done=postgres.identifier(table.columns["teacher_done_at"]),
        table=postgres.identifier(table.table),
        where=postgres.condition(table.where, params=True),
    )
    return [(str(id), str(group)) for id, group in postgres.fetch(dsn, query, [answered])]


def _ids(dsn: str, source: SourceConfig, filings: list[str]) -> list[tuple[str, str]]:
    """Sentences of these filings: id and filing."""
    table = source.sentences
    postgres.check_columns(dsn, table.table, table.columns, setting="source.sentences.columns")
    query = postgres.sql(
        "SELECT {id}::text AS id, {filing}::text AS filing FROM {table}"
        " WHERE {filing} = ANY(%s) AND {where}",
        id=postgres.identifier(table.columns["id"]),
        filing=postgres.identifier(table.columns["filing_id"]),
        table=postgres.identifier(table.table),
        where=postgres.condition(table.where, params=True),
    )
    batches = list(pgread.scan(dsn, query, [filings]))
    columns = pa.Table.from_batches(batches).to_pydict()
    return sorted(zip(columns["id"], columns["filing"], strict=True))


def _texts(dsn: str, source: SourceConfig, ids: list[str]) -> dict[str, str]:
    table = source.sentences
    query = postgres.sql(
        "SELECT {id}::text, {text} FROM {table} WHERE {id} = ANY(%s)",
        id=postgres.identifier(table.columns["id"]),
        text=postgres.identifier(table.columns["text"]),
        table=postgres.identifier(table.table),
    )
    return {str(id): text for id, text in postgres.fetch(dsn, query, [ids])}


def _answers(
    dsn: str, source: SourceConfig, task: Task, filings: list[str]
) -> dict[str, tuple[str | None, str | None]]:
    """The teacher's answer to each sentence in which he found something, or its code.

    A sentence whose events a filter leaves out has none that is known: code `left_out`.
    """
    table = source.events
    columns = answer_columns(table, task)
    postgres.check_columns(dsn, table.table, columns, setting="source.events.columns")
    selected = ", ".join(f"{{c{at}}} AS {{n{at}}}" for at in range(len(columns)))
    names = {f"c{at}": postgres.identifier(one) for at, one in enumerate(columns.values())}
    names |= {f"n{at}": postgres.identifier(one) for at, one in enumerate(columns)}
    query = postgres.sql(
        "SELECT {columns}, {where} IS TRUE AS taken FROM {table} WHERE {filing} = ANY(%s)",
        columns=postgres.sql(selected, **names),
        table=postgres.identifier(table.table),
        filing=postgres.identifier(columns["filing_id"]),
        where=postgres.condition(table.where, params=True),
    )
    read = pa.Table.from_batches(list(pgread.scan(dsn, query, [filings])))
    rows = read.filter(read["taken"])
    said = teacher.records(rows, task, {})
    ids, texts = [str(id) for id in rows["id"].to_pylist()], rows["text"].to_pylist()
    found: dict[str, list[Any]] = {}
    codes: dict[str, str] = {}
    text_of: dict[str, str] = {}
    for one in said.to_pylist():
        id = ids[one["row"]]
        text_of[id] = texts[one["row"]]
        if one["code"]:
            codes[id] = one["code"]
        elif one["record"]:
            found.setdefault(id, []).append(json.loads(one["record"]))
    out: dict[str, tuple[str | None, str | None]] = {
        str(id): (None, "left_out") for id in read["id"].to_pylist()
    }
    out |= {id: (None, code) for id, code in codes.items()}
    for id in text_of.keys() - codes.keys():
        try:
            out[id] = (task.render(task.answer(found.get(id, []), text_of[id])), None)
        except AnswerError as problem:
            out[id] = (None, problem.code)
    return out
