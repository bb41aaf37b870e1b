"""Teacher rows from wherever they lie: PostgreSQL tables, Parquet, JSON lines, datasets folders.

A source is cut in parts that are read independently, in pieces small enough to hold; read again, a
part gives the same rows. Every source gives the same columns (TRAVEL), and what the
teacher said: `raw`, or a column for each field of the task.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as pq

from raydistill import pgread
from raydistill.errors import SetupError
from raydistill.lessons.spill import plain
from raydistill.lessons.teacher import json_text
from raydistill.pgread import BlockRange

pc: Any = compute

RANGE_ROWS = 50_000  # some 40 MB of events in one piece, and three times that while they are read
_PART_BYTES = 32 << 20
_LINES = (".jsonl", ".json", ".ndjson")
TRAVEL = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("group", pa.string()),  # the company
        ("form", pa.string()),
        ("day", pa.date32()),
        ("filing", pa.string()),
        ("reading", pa.string()),  # which of the teacher's answers to this sentence; null: the one
        ("random", pa.bool_()),  # drawn at random: such rows may tell rates
        ("done", pa.bool_()),  # the teacher has finished this filing
        ("code", pa.string()),  # set where the row is lost before it is looked at
    ]
)
FILINGS = pa.schema(
    [
        ("filing", pa.string()),
        ("group", pa.string()),
        ("form", pa.string()),
        ("day", pa.date32()),
        ("done", pa.bool_()),
    ]
)
# What files call the columns, the first that is there.
KNOWN = {
    "id": ("id", "sentence_id", "event_id"),
    "text": ("text", "sentence", "input"),
    "output": ("output", "answer", "raw", "completion", "response"),
    "group": ("group", "company", "cik"),
    "filing": ("filing_id", "doc_id", "filing"),
    "form": ("form",),
    "day": ("filed_at", "date"),
    "reading": ("reading", "model"),
    "task": ("task",),
    "sampling": ("sampling",),
    "instruction": ("instruction",),
}


class Rows(Protocol):
    """A source of rows; plain and picklable, it travels to the processes that read."""

    def parts(self) -> list[Any]:
        """The pieces it is read in, in a stable order."""
        ...

    def tables(self, part: Any) -> Iterator[pa.Table]:
        """The rows of a part, a piece at a time: TRAVEL, and `raw` or the task's fields."""
        ...


# ------------------------------------------------------------------ PostgreSQL


@dataclass(frozen=True, slots=True)
class TableRows:
    """A table in block ranges under one snapshot; `filings` is a file of `write_filings`."""

    dsn: str
    table_name: str
    columns: dict[str, str]
    snapshot: str
    filings: str
    where: str | None = None

    def parts(self) -> list[BlockRange]:
        return pgread.ranges(self.dsn, self.table_name, RANGE_ROWS)

    def tables(self, part: BlockRange) -> Iterator[pa.Table]:
        batches = pgread.read_range(
            self.dsn, self.table_name, self.columns, part, snapshot=self.snapshot, where=self.where
        )
        held: list[pa.RecordBatch] = []
        for batch in batches:  # a view has no blocks, and is one range however large it is
            if held and sum(map(len, held)) + len(batch) > 2 * RANGE_ROWS:
                yield self.joined(pa.Table.from_batches(held))
                held = []
            held.append(batch)
        yield self.joined(pa.Table.from_batches(held))

    def joined(self, rows: pa.Table) -> pa.Table:
        """The rows as they were read, with what their filings say."""
        known = _filings(self.filings)
        filing = rows["filing_id"].cast(pa.string())
        at = pc.index_in(filing, value_set=known["filing"])
        missing = pc.is_null(at)
        made: dict[str, Any] = {
            "id": rows["id"].cast(pa.string()),
            "text": rows["text"].cast(pa.string()),
            "group": known["group"].take(at),
            "form": known["form"].take(at),
            "day": known["day"].take(at),
            "filing": filing,
            "reading": _or_null(rows, "reading").cast(pa.string()),
            "random": pa.repeat(True, len(rows)),
            "done": pc.fill_null(known["done"].take(at), False),
            "code": pc.if_else(missing, "unknown_filing", None).cast(pa.string()),
        }
        rest = [name for name in rows.column_names if name not in {*made, "filing_id"}]
        return pa.table({**made, **{name: rows[name] for name in rest}})


def _or_null(rows: pa.Table, name: str) -> Any:
    return rows[name] if name in rows.column_names else pa.nulls(len(rows), pa.string())


def write_filings(file: Path, batches: Iterator[pa.RecordBatch]) -> pa.Table:
    """The filings of a source, kept beside the rows that are read: FILINGS."""
    rows = pa.Table.from_batches(list(batches))
    table = pa.table(
        {
            "filing": rows["filing_id"].cast(pa.string()),
            "group": pc.fill_null(rows["group"].cast(pa.string()), ""),
            "form": _or_null(rows, "form").cast(pa.string()),
            "day": days(_or_null(rows, "filed_at")),
            "done": _or_null(rows, "teacher_done_at").is_valid(),
        },
        schema=FILINGS,
    )
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, FILINGS) as writer:
        writer.write_table(table.combine_chunks())
    return table


@lru_cache(maxsize=1)
def _filings(file: str) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(file)).read_all().combine_chunks()


def days(column: Any) -> Any:
    """Dates of any type as date32; what is no date is null."""
    if pa.types.is_temporal(column.type):
        return column.cast(pa.date32(), safe=False)
    return pa.array([_day(value) for value in column.to_pylist()], pa.date32())


def _day(value: Any) -> date | None:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date) or value is None:
        return value
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return None


# ------------------------------------------------------------------ files


@dataclass(frozen=True, slots=True)
class FilePart:
    """A piece of a file: bytes `start` to `stop` of JSON lines, else row group or batch `start`."""

    file: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class FileRows:
    """A file or folder of rows: .jsonl, .parquet, .arrow (as `datasets` saves them).

    `columns` maps our names to the file's where they differ from KNOWN; rows of another `task` than
    ours are left out, as code `other_task`.
    """

    path: str
    task: str
    columns: dict[str, str] = field(default_factory=dict)

    def parts(self) -> list[FilePart]:
        return [part for file in _files(Path(self.path)) for part in _parts(file)]

    def count(self) -> int:
        """How many rows the files hold, broken ones included."""
        return sum(_count(file) for file in _files(Path(self.path)))

    def tables(self, part: FilePart) -> Iterator[pa.Table]:
        file = Path(part.file)
        if file.suffix in _LINES:
            yield self.standard(*_json_lines(file, part))
            return
        at = 0
        for batch in _batches(file, part.start):
            ids = [f"{file.name}#{part.start}.{at + n}" for n in range(len(batch))]
            at += len(batch)
            yield self.standard(batch.to_pylist(), ids)

    def standard(self, rows: Sequence[Any], ids: Sequence[str]) -> pa.Table:
        """The columns every source gives, of rows as the file has them (a broken one is a text)."""
        known = [row for row in rows if isinstance(row, dict)]
        names = self._names(known)
        made: dict[str, list[Any]] = {name: [] for name in [*TRAVEL.names, "raw"]}
        for row, id in zip(rows, ids, strict=True):
            for name, value in self._row(row, id, names).items():
                made[name].append(value)
        kinds = {**dict(zip(TRAVEL.names, TRAVEL.types, strict=True)), "raw": pa.string()}
        return pa.table({name: pa.array(made[name], kind) for name, kind in kinds.items()})

    def _names(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        has = {key for row in rows for key in row}
        wrong = [theirs for theirs in self.columns.values() if rows and theirs not in has]
        names = {ours: next((n for n in them if n in has), "") for ours, them in KNOWN.items()}
        names |= {
            {"filing_id": "filing", "filed_at": "day"}.get(k, k): v for k, v in self.columns.items()
        }
        if (
            wrong
            or (rows and not (names["text"] or names["instruction"]))
            or (rows and not names["output"])
        ):
            raise SetupError(
                f"{self.path} has columns {', '.join(sorted(has))}",
                expected=f"{', '.join(wrong) or 'a text and an output'}",
                todo="set source.columns.text= and source.columns.output= to the file's names",
            )
        return names

    def _row(self, row: Any, id: str, names: Mapping[str, str]) -> dict[str, Any]:
        made: dict[str, Any] = dict.fromkeys([*TRAVEL.names, "raw"])
        made |= {"id": id, "random": True, "done": True}
        if not isinstance(row, dict):
            return made | {"code": "bad_json", "raw": str(row)[:2000], "filing": id, "group": id}
        value = {ours: row.get(theirs) for ours, theirs in names.items()}
        text, output = value["text"] or value["instruction"], value["output"]
        made["id"] = str(value["id"] or id)
        made["text"] = text if isinstance(text, str) else None
        made["filing"] = str(value["filing"] or made["id"])
        # Without a company, a text is its own: equal texts still go to one split.
        made["group"] = str(value["group"] or plain(str(text)))
        made["form"] = None if value["form"] is None else str(value["form"])
        made["day"] = _day(value["day"])
        made["reading"] = None if value["reading"] is None else str(value["reading"])
        made["random"] = value["sampling"] in (None, "random")
        made["raw"] = output if isinstance(output, str) or output is None else json_text(output)
        if value["task"] not in (None, self.task):
            made["code"] = "other_task"
        return made


def _files(path: Path) -> list[Path]:
    suffixes = (".jsonl", ".ndjson", ".parquet", ".arrow")
    if path.is_file():
        return [path]
    found = sorted(f for f in path.rglob("*") if f.suffix in suffixes) if path.is_dir() else []
    if not found:
        raise SetupError(
            f"no rows at {path}",
            expected=f"a file or folder of {', '.join(suffixes)}",
            todo="set source.path=",
        )
    return found


def _parts(file: Path) -> list[FilePart]:
    if file.suffix == ".parquet":
        return [FilePart(str(file), n, n + 1) for n in range(_opened(file).num_row_groups)]
    if file.suffix == ".arrow":
        return [FilePart(str(file), n, n + 1) for n, _ in enumerate(_stream(file))]
    if file.suffix not in _LINES:
        raise SetupError(f"{file} is of no known kind", expected=".jsonl, .parquet or .arrow")
    size = file.stat().st_size
    return [
        FilePart(str(file), start, min(size, start + _PART_BYTES))
        for start in range(0, size, _PART_BYTES)
    ]


def _count(file: Path) -> int:
    if file.suffix == ".parquet":
        return int(_opened(file).metadata.num_rows)
    if file.suffix == ".arrow":
        return sum(len(batch) for batch in _stream(file))
    with file.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b"")) + 1


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as problem:
        raise SetupError(f"{file} is not Parquet: {problem}", todo="write it again") from None


def _stream(file: Path) -> Iterator[pa.RecordBatch]:
    """The batches of an .arrow file: `datasets` writes streams, others write files."""
    source = pa.memory_map(str(file))
    try:
        yield from cast("Any", pa.ipc.open_stream(source))
    except pa.ArrowInvalid:
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(file)))
        except pa.ArrowInvalid as problem:
            raise SetupError(f"{file} is not Arrow: {problem}", todo="write it again") from None
        yield from (reader.get_batch(n) for n in range(reader.num_record_batches))


def _batches(file: Path, number: int) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet row group or of an Arrow batch, RANGE_ROWS at a time."""
    if file.suffix == ".parquet":
        yield from _opened(file).iter_batches(RANGE_ROWS, row_groups=[number])
        return
    whole = next(one for n, one in enumerate(_stream(file)) if n == number)
    for start in range(0, len(whole), RANGE_ROWS):
        yield whole.slice(start, RANGE_ROWS)


def _json_lines(file: Path, part: FilePart) -> tuple[list[Any], list[str]]:
    """The lines that begin in these bytes; a line that is no JSON object comes as its text."""
    rows: list[Any] = []
    ids: list[str] = []
    with file.open("rb") as stream:
        if part.start:
            stream.seek(part.start - 1)
            stream.readline()
        while (at := stream.tell()) < part.stop and (line := stream.readline()):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            rows.append(value if isinstance(value, dict) else line.decode("utf-8", "replace"))
            ids.append(f"{file.name}@{at}")
    return rows, ids
