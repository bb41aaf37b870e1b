"""Chunks: a table of whole filings' sentences, the unit that is read, run and committed at once.

One marker row a filing (no id, no text) travels with its sentences, so that a filing of which no
stage keeps anything still reaches its ledger row, with counts of what each stage kept.
"""

import pyarrow as pa

SENTENCES = pa.schema(
    [
        ("filing_id", pa.string()),
        ("id", pa.string()),
        ("position", pa.int32()),
        ("text", pa.string()),
        ("error", pa.string()),
    ]
)
COUNTS: tuple[str, ...] = ("sentences", "candidates", "kept")  # in the ledger
TOLD: tuple[str, ...] = (*COUNTS, "glanced")  # on markers
SECONDS: tuple[str, ...] = ("prefilter_s", "glance_s", "skip_s", "extract_s")


def marked(sentences: pa.Table) -> pa.Table:
    """The sentences in SENTENCES' schema, with one marker row for each filing at the end."""
    table = sentences
    if "error" not in table.column_names:
        table = table.append_column("error", pa.nulls(len(table), pa.string()))
    table = table.select(SENTENCES.names).cast(SENTENCES)
    return pa.concat_tables([table, markers(table.column("filing_id").unique().to_pylist())])


def markers(filings: list[str]) -> pa.Table:
    """Marker rows of these filings."""
    nulls = {
        field.name: pa.nulls(len(filings), field.type)
        for field in SENTENCES
        if field.name != "filing_id"
    }
    return pa.table({"filing_id": pa.array(filings, pa.string()), **nulls}, schema=SENTENCES)
