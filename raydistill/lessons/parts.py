"""The steps of build that read: teacher rows, what is left out of them, and sentences, by text.

A step is a plain picklable object called with a numbered part; it returns what the driver counts.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as compute

from raydistill.answer import Answer
from raydistill.lessons import rows, spill, teacher
from raydistill.lessons.plan import ROW_SALT, SAMPLE_SALT, TEXT_SALT, Plan
from raydistill.lessons.spill import Keys
from raydistill.task import Task
from raydistill.tasks import TASKS

pc: Any = compute


def _keyed(table: pa.Table, text_key: Keys, id_key: Keys, plan: Plan) -> pa.Table:
    """The columns that travel, and their keys; a row that is its own filing and copy."""
    one = pa.array(np.ones(len(table), np.int32))
    columns: dict[str, Any] = {
        "text_key": pa.array(text_key),
        "share": pa.array(spill.mixed(id_key, plan.seed + ROW_SALT)),
        "filing_key": pa.array(spill.keys(table["filing"].to_pylist())),
        "copies": one,
        "filings": one,
    }
    for name in ("id", "text", "group", "form", "day", "random"):
        columns[name] = table[name]
    return pa.table(columns)


@dataclass(frozen=True, slots=True)
class ReadTeacher:
    """Reads a part of the teacher's rows and spills their records by text; gives how many rows."""

    plan: Plan
    source: rows.Rows
    rate: float = 1.0  # share of sentences to take

    def __call__(self, numbered: tuple[int, Any]) -> int:
        part, where = numbered
        read = 0
        for piece, table in enumerate(self.source.tables(where)):
            at = np.arange(len(table), dtype=np.int64) + (part << 40) + read
            read += len(table)
            self._spill(table, at, f"{part:06}-{piece:04}")
        return read

    def _spill(self, table: pa.Table, at: npt.NDArray[np.int64], name: str) -> None:
        id_key = spill.keys(table["id"].to_pylist())
        known = np.unique(id_key)  # of all rows: what the sample leaves out is no negative
        if self.rate < 1:
            take = spill.below(spill.mixed(id_key, self.plan.seed + SAMPLE_SALT), self.rate)
            table, at, id_key = table.filter(pa.array(take)), at[take], id_key[take]
        texts = table["text"].to_pylist()
        blank = pa.array([not (text or "").strip() for text in texts], pa.bool_())
        lost = pc.coalesce(table["code"], pc.if_else(blank, "empty_sentence", None))
        found = teacher.records(table, TASKS[self.plan.task], self.plan.merge)
        row = found["row"]
        keyed = _keyed(table, spill.text_keys(texts), id_key, self.plan).take(row)
        code = pc.coalesce(lost.take(row), found["code"])
        keyed = (
            keyed.append_column("id_key", pa.array(id_key).take(row))
            .append_column("reading", pa.array(spill.keys(table["reading"].to_pylist())).take(row))
            .append_column("at", pa.array(at).take(row))
            .append_column("record", pc.if_else(code.is_valid(), None, found["record"]))
            .append_column("confidence", found["confidence"])
            .append_column("code", code)
            .append_column("detail", found["detail"])
            .append_column("raw", _given(table, row, code))
        )
        folder = self.plan.folder("teacher")
        np.save(folder / f"{name}.ids.npy", known)
        np.save(folder / f"{name}.texts.npy", np.unique(np.asarray(keyed["text_key"])))
        bucket = spill.buckets_of(np.asarray(keyed["text_key"]), self.plan.buckets)
        spill.write(folder / f"{name}.arrow", keyed, bucket, self.plan.buckets)


def _given(table: pa.Table, row: Any, code: Any) -> pa.Array:
    """What the teacher wrote, for rows that are lost: rejects are kept as they came."""
    out: list[str | None] = [None] * len(row)
    skip = {name for name in rows.TRAVEL.names if name not in ("id",)}
    numbers = row.to_pylist()
    for place in np.flatnonzero(np.asarray(code.is_valid())).tolist():
        one = table.slice(numbers[place], 1).to_pylist()[0]
        raw = one.get("raw")
        rest = {k: v for k, v in one.items() if k not in skip}
        out[place] = raw if isinstance(raw, str) else teacher.json_text(rest)
    return pa.array(out, pa.string())


@dataclass(frozen=True, slots=True)
class ReadLeftOut:
    """Reads events that a filter leaves out: their sentences are no negatives, nor are copies.

    Notes the keys of ids and texts of rows that state an event; gives how many rows do.
    """

    plan: Plan
    source: rows.Rows

    def __call__(self, numbered: tuple[int, Any]) -> int:
        part, where = numbered
        stated = 0
        for piece, table in enumerate(self.source.tables(where)):
            table = table.filter(_states(table, TASKS[self.plan.task]))
            stated += len(table)
            name = f"left-{part:06}-{piece:04}"
            folder = self.plan.folder("teacher")
            for kind, found in (
                ("ids", spill.keys(table["id"].to_pylist())),
                ("left", spill.text_keys(table["text"].to_pylist())),
            ):
                np.save(folder / f"{name}.{kind}.npy", np.unique(found))
        return stated


def _states(table: pa.Table, task: Task) -> pa.Array:
    """Which rows state an event, at a glance and in doubt yes: a row may also say that none is."""
    if "raw" not in table.column_names:
        return table[task.fields[0].name].is_valid()
    nothing = {task.render(Answer()), teacher.json_text({task.key: []}), "[]", "null", ""}
    raw = pc.replace_substring_regex(table["raw"].cast(pa.string()), r"\s", "")
    return pc.invert(pc.is_in(pc.fill_null(raw, ""), pa.array(sorted(nothing))))


@dataclass(frozen=True, slots=True)
class ReadSentences:
    """Reads a part of the sentences and spills those the teacher has read and found nothing in.

    Kept are all copies of a share of the texts, and of every text that has an event elsewhere: so
    the copies of a text that are counted are all there are.
    """

    plan: Plan
    source: rows.Rows
    rate: float

    def __call__(self, numbered: tuple[int, Any]) -> tuple[int, int]:
        part, where = numbered
        read = kept = 0
        for piece, table in enumerate(self.source.tables(where)):
            read += len(table)
            kept += self._spill(table.filter(table["done"]), f"{part:06}-{piece:04}")
        return read, kept

    def _spill(self, table: pa.Table, name: str) -> int:
        work = self.plan.work
        id_key = spill.keys(table["id"].to_pylist())
        text_key = spill.text_keys(table["text"].to_pylist())
        keep = spill.below(spill.mixed(text_key, self.plan.seed + TEXT_SALT), self.rate)
        keep |= spill.contains(spill.known(f"{work}/texts.npy"), text_key)
        keep &= ~spill.contains(spill.known(f"{work}/ids.npy"), id_key)
        keep &= np.array([bool((t or "").strip()) for t in table["text"].to_pylist()], np.bool_)
        keyed = _keyed(table.filter(pa.array(keep)), text_key[keep], id_key[keep], self.plan)
        made = _once_each(keyed)
        bucket = spill.buckets_of(np.asarray(made["text_key"]), self.plan.buckets)
        folder = self.plan.folder("sentences")
        spill.write(folder / f"{name}.arrow", made, bucket, self.plan.buckets)
        return len(keyed)


def _once_each(table: pa.Table) -> pa.Table:
    """One row for each text, with its copies and filings counted: boilerplate has thousands."""
    if not len(table):
        return table
    text, filing = np.asarray(table["text_key"]), np.asarray(table["filing_key"])
    order = np.lexsort((np.asarray(table["share"]), text))
    new = np.r_[True, text[order][1:] != text[order][:-1]]
    number = np.cumsum(new) - 1
    first = order[new]
    made = table.take(pa.array(first))
    by_filing = np.unique(np.stack([text, filing]), axis=1)[0]
    filings = np.unique(by_filing, return_counts=True)[1]  # sorted by text, as `first` is
    for name, counts in (("copies", np.bincount(number)), ("filings", filings)):
        at = made.schema.get_field_index(name)
        made = made.set_column(at, name, pa.array(counts.astype(np.int32)))
    return made
