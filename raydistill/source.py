"""Sources: where filings and the teacher's answers come from, and how they become chunks.

Postgres tables, a folder of EDGAR files or Parquet; all give filings with their size, and the
sentences of some filings as one chunk. Names of the user's tables and columns come from
conf/source.
"""

from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
from pyarrow import compute

from raydistill import filings as edgar
from raydistill import pgread, pgserver, postgres
from raydistill.chunk import SENTENCES, marked, markers
from raydistill.errors import FilingError, SetupError
from raydistill.parquet import ParquetSentences
from raydistill.task import Task

pc: Any = compute  # its functions are made at run time: no type checker sees them


class SourceKind(Enum):
    """Where sentences are read from."""

    postgres = "postgres"
    edgar = "edgar"
    parquet = "parquet"
    rows = "rows"  # files of texts with answers: to build from, not to backfill


@dataclass(kw_only=True, slots=True)
class TableConfig:
    """A table of the user's, and our column names mapped to theirs.

    `where` is SQL that narrows it; it is passed as it is, so it must come from a trusted hand.
    """

    table: str
    columns: dict[str, str]
    where: str | None = None


@dataclass(kw_only=True, slots=True)
class SourceConfig:
    """Where to read. `dsn` is a libpq URI without a password; null runs the embedded server.

    `columns` maps our names to those of files (`rows`, `parquet`), where they cannot be told.
    """

    kind: SourceKind = SourceKind.postgres
    dsn: str | None = None
    server: str = "runs/postgres"
    path: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    filings: TableConfig = field(
        default_factory=lambda: TableConfig(
            table="kee.filings",
            columns={
                "filing_id": "filing_id",
                "group": "cik",
                "form": "form",
                "filed_at": "filed_at",
                "teacher_done_at": "teacher_done_at",
            },
        )
    )
    sentences: TableConfig = field(
        default_factory=lambda: TableConfig(
            table="kee.sentences",
            columns={
                "id": "sentence_id",
                "filing_id": "filing_id",
                "position": "position",
                "text": "sentence",
            },
        )
    )
    events: TableConfig = field(
        default_factory=lambda: TableConfig(
            table="kee.events",
            columns={"id": "sentence_id", "filing_id": "filing_id", "text": "sentence"},
        )
    )


def answer_columns(events: TableConfig, task: Task) -> dict[str, str]:
    """What is read of the teacher's table: his JSON where `raw` is mapped, else the task's fields.

    Our names before the table's; fields that the mapping does not name go by their own.
    """
    if "raw" in events.columns:
        return dict(events.columns)
    return {**{one.name: one.name for one in task.fields}, **events.columns}


def dsn(config: SourceConfig) -> str:
    """The database to use: `source.dsn`, or the embedded server, which this starts."""
    if config.dsn is None:
        return pgserver.start(Path(config.server).absolute())
    postgres.refuse_password(config.dsn)
    return config.dsn


def identity(config: SourceConfig) -> str:
    """What a source reads, for a run's fingerprint: names, not the machine they are on today."""
    if config.kind is not SourceKind.postgres:
        return f"{config.kind.value} {config.path}"
    table = config.sentences
    columns = " ".join(f"{ours}={theirs}" for ours, theirs in sorted(table.columns.items()))
    return f"{table.table} ({columns}) where {table.where or 'true'}"


class Sentences(Protocol):
    """Filings to run the cascade over. Plain and picklable: it travels to read tasks.

    `parses` says that reading runs parsers over foreign bytes, which may kill the process.
    """

    parses: ClassVar[bool]

    def filings(self) -> list[tuple[str, int]]:
        """Every filing and its size (sentences, or an estimate), in a stable order."""
        ...

    def read(self, filings: list[str]) -> pa.Table:
        """The chunk of these filings: their sentences in order, and a marker row each."""
        ...


@dataclass(frozen=True, slots=True)
class PostgresSentences:
    """Sentences in a table with an index on its filing column."""

    dsn: str
    table: str
    columns: dict[str, str]
    where: str | None = None
    parses: ClassVar[bool] = False

    def filings(self) -> list[tuple[str, int]]:
        postgres.check_columns(
            self.dsn, self.table, self.columns, setting="source.sentences.columns"
        )
        with postgres.connect(self.dsn, read_only=True) as connection:
            filing = postgres.identifier(self.columns["filing_id"])
            query = postgres.sql(
                "SELECT {filing}::text, count(*) FROM {table} WHERE {where} GROUP BY 1 ORDER BY 1",
                filing=filing,
                where=postgres.condition(self.where),
                table=postgres.identifier(self.table),
            )
            found = postgres.fetch(connection, query)
        if not found:
            raise SetupError(
                f"{self.table} has no rows",
                expected="sentences to read",
                todo="fill the table, or set source.sentences.table",
            )
        return [(str(row[0]), int(row[1])) for row in found]

    def read(self, filings: list[str]) -> pa.Table:
        names = {ours: postgres.identifier(theirs) for ours, theirs in self.columns.items()}
        query = postgres.sql(
            "SELECT {filing_id}::text AS filing_id, {id}::text AS id, {position}::int AS position,"
            " {text} AS text FROM {table} WHERE {filing_id} = ANY({filings}) AND {where}",
            table=postgres.identifier(self.table),
            where=postgres.condition(self.where),
            filings=postgres.literal(filings),
            **names,
        )
        batches = list(pgread.scan(self.dsn, query))
        rows = pa.Table.from_batches(batches).append_column(
            "error", pa.nulls(sum(len(batch) for batch in batches), pa.string())
        )
        rows = _in_order(rows.select(SENTENCES.names).cast(SENTENCES), filings)
        return pa.concat_tables([rows, markers(filings)])


def _in_order(rows: pa.Table, filings: list[str]) -> pa.Table:
    """The rows filing by filing, each by position, those without one last.

    Here and not by ORDER BY: the server compares texts and writes them to disk to sort them, which
    took as long as reading them.
    """
    of = pc.fill_null(pc.index_in(rows["filing_id"], pa.array(filings, pa.string())), len(filings))
    at = pc.fill_null(rows["position"].cast(pa.int64()), _LAST)
    keys = (np.asarray(of).astype(np.int64) << 32) + np.asarray(at)
    return rows.take(pa.array(np.argsort(keys, kind="stable")))


_LAST = (1 << 31) - 1  # behind every position, which are int4
_BYTES = 900  # of an EDGAR file a sentence, on average


@dataclass(frozen=True, slots=True)
class EdgarSentences:
    """EDGAR files as served, in a folder or behind any URL fsspec can list."""

    path: str
    parses: ClassVar[bool] = True

    def filings(self) -> list[tuple[str, int]]:
        found = edgar.find(self.path)
        if not found:
            raise SetupError(f"no filings in {self.path}", todo="set source.path=DIR")
        return [(self._key(name), max(1, size // _BYTES)) for name, size in found.items()]

    @property
    def _root(self) -> str:
        remote = "://" in self.path
        return self.path.rstrip("/") if remote else str(Path(self.path).absolute())

    def _key(self, name: str) -> str:
        """The file's path below the folder: the same wherever the folder is mounted."""
        return name.removeprefix(self._root).lstrip("/") or Path(name).name

    def _name(self, key: str) -> str:
        single = self._key(self._root) == key
        return self._root if single and not Path(self._root).is_dir() else f"{self._root}/{key}"

    def read(self, filings: list[str]) -> pa.Table:
        return pa.concat_tables([self._read(name) for name in filings])

    def _read(self, name: str) -> pa.Table:
        """One file's sentences; a file that cannot be read is one row with the error's code."""
        file = self._name(name)
        try:
            table = edgar.sentence_table(edgar.read(file, edgar.open_bytes(file)))
        except FilingError as problem:
            row = {"filing_id": name, "id": f"{name}#", "error": problem.code}
            table = pa.Table.from_pylist([row], schema=SENTENCES)
            return pa.concat_tables([table, markers([name])])
        ids = pa.array([f"{name}#{one}" for one in table["position"].to_pylist()], pa.string())
        table = table.set_column(table.schema.get_field_index("id"), "id", ids)
        names = pa.array([name] * len(table), pa.string())
        table = table.set_column(table.schema.get_field_index("filing_id"), "filing_id", names)
        return marked(table) if len(table) else markers([name])


def sentences(config: SourceConfig) -> Sentences:
    """The source of a config."""
    if config.kind is SourceKind.edgar:
        if not config.path:
            raise SetupError("source=edgar without a path", todo="set source.path=DIR")
        return EdgarSentences(config.path)
    if config.kind is SourceKind.parquet:
        if not config.path:
            raise SetupError("source=parquet without a path", todo="set source.path=FILE")
        return ParquetSentences(config.path, dict(config.columns))
    if config.kind is SourceKind.rows:
        raise SetupError(
            "source=rows has answers, not filings",
            expected="source=kee | source=edgar | source=parquet",
            todo="use it to build",
        )
    return PostgresSentences(dsn(config), **asdict(config.sentences))
