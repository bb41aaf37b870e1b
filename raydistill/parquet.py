"""Parquet files as a source: rows of sentences, or rows of whole filings that are split here.

Rows with an id are sentences; rows without are filings, whose sentences are numbered. A file that
is sorted by filing is read by the row groups it needs, any other one from end to end each time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import compute

from raydistill import filings
from raydistill.chunk import SENTENCES, markers
from raydistill.errors import FilingError, SetupError

pc: Any = compute  # its functions are made at run time: no type checker sees them

_THEIRS = {
    "filing_id": ("filing_id", "doc_id", "accession"),
    "id": ("id", "sentence_id"),
    "position": ("position", "idx"),
    "text": ("text", "sentence"),
}
_CHARS = 150  # of a sentence, to guess how many a filing has


@dataclass(frozen=True, slots=True)
class ParquetSentences:
    """A Parquet file, a folder of them, or an fsspec URL; `columns` maps our names to theirs."""

    path: str
    columns: dict[str, str]
    parses: ClassVar[bool] = True  # of whole filings

    def filings(self) -> list[tuple[str, int]]:
        """Every filing and its sentences (guessed for whole filings), sorted."""
        data = self._data()
        names = self._names(data)
        wanted = {"filing_id": ds.field(names["filing_id"])}
        if "id" not in names:
            wanted["size"] = ds.field(names["text"])
        sizes: dict[str, int] = {}
        for batch in data.to_batches(columns=wanted):
            if "size" in batch.schema.names:
                chars = pc.fill_null(pc.utf8_length(batch["size"]), 0).to_pylist()
                pairs = zip(batch["filing_id"].to_pylist(), chars, strict=True)
                for filing, size in pairs:
                    sizes[str(filing)] = sizes.get(str(filing), 0) + 1 + size // _CHARS
            else:
                for one in pc.value_counts(batch["filing_id"]).to_pylist():
                    filing = str(one["values"])
                    sizes[filing] = sizes.get(filing, 0) + one["counts"]
        if not sizes:
            raise SetupError(f"{self.path} has no rows", todo="set source.path=")
        return sorted(sizes.items())

    def read(self, filings: list[str]) -> pa.Table:
        """The chunk of these filings: their sentences in order, and a marker row each.

        Filings that are asked for and not there any more have a marker all the same.
        """
        data = self._data()
        names = self._names(data)
        key = ds.field(names["filing_id"])
        kind = data.schema.field(names["filing_id"]).type
        some = pa.array(filings, pa.string()).cast(kind)
        columns = {ours: ds.field(theirs) for ours, theirs in names.items()}
        table = data.to_table(columns=columns, filter=key.isin(some))
        rows = _split(table) if "id" not in names else _sentences(table)
        order = [("filing_id", "ascending"), ("position", "ascending")]
        return pa.concat_tables([rows.sort_by(order), markers(filings)])

    def _data(self) -> Any:
        try:
            system, root = fsspec.core.url_to_fs(self.path)
            return ds.dataset(root, filesystem=system, format="parquet")
        except (ImportError, ValueError, OSError) as problem:
            raise SetupError(
                f"no Parquet at {self.path!r}: {problem}",
                expected="a Parquet file, a folder of them, or an fsspec URL",
                todo="set source.path=",
            ) from None

    def _names(self, data: Any) -> Mapping[str, str]:
        """Our names and theirs, as configured or as they are usually called."""
        has = list(data.schema.names)
        names = dict(self.columns)
        for ours, usual in _THEIRS.items():
            found = [one for one in usual if one in has]
            if ours not in names and found:
                names[ours] = found[0]
        missing = [one for one in ("filing_id", "text") if one not in names]
        missing += [f"{ours}={theirs}" for ours, theirs in names.items() if theirs not in has]
        if missing:
            raise SetupError(
                f"{self.path} has no column for {', '.join(missing)}",
                expected=f"one of its columns: {', '.join(has)}",
                todo="set source.columns={filing_id: ..., id: ..., position: ..., text: ...}",
            )
        return {ours: names[ours] for ours in _THEIRS if ours in names}


def _sentences(table: pa.Table) -> pa.Table:
    """Rows that are sentences, in the schema of a chunk."""
    if "position" not in table.column_names:
        table = table.append_column("position", pa.array(range(len(table)), pa.int32()))
    table = table.append_column("error", pa.nulls(len(table), pa.string()))
    return table.select(SENTENCES.names).cast(SENTENCES)


def _split(table: pa.Table) -> pa.Table:
    """Rows that are whole filings, split into sentences named FILING#NUMBER.

    A filing without words is one row with the error's code.
    """
    parts: list[pa.Table] = [SENTENCES.empty_table()]
    for row in table.select(["filing_id", "text"]).to_pylist():
        filing, text = str(row["filing_id"]), row["text"] or ""
        try:
            found = filings.sentence_table(filings.read(filing, text.encode()))
        except FilingError as problem:
            one = {"filing_id": filing, "id": f"{filing}#", "error": problem.code}
            parts.append(pa.Table.from_pylist([one], schema=SENTENCES))
            continue
        ids = [f"{filing}#{at}" for at in found["position"].to_pylist()]
        parts.append(
            pa.table(
                {
                    "filing_id": pa.array([filing] * len(ids), pa.string()),
                    "id": pa.array(ids, pa.string()),
                    "position": found["position"],
                    "text": found["text"],
                    "error": pa.nulls(len(ids), pa.string()),
                },
                schema=SENTENCES,
            )
        )
    return pa.concat_tables(parts)
