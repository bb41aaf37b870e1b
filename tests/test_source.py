"""Sentences in Postgres as chunks."""

import random

import pytest

from raydistill import postgres
from raydistill.source import PostgresSentences

COLUMNS = {"filing_id": "f", "id": "s", "position": "p", "text": "t"}


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["text", "bigint"])
def test_a_chunk_is_in_order_however_its_table_lies(database: str, kind: str) -> None:
    rows = [(f, p) for f in (30, 4, 200) for p in (*range(-2, 40), 2**31 - 2, None)]
    mixed = random.Random(3).sample(rows, len(rows))
    with postgres.connect(database) as connection:
        postgres.script(connection, f"CREATE TABLE x (f {kind}, s text, p int, t text)")
        for f, p in mixed:
            postgres.fetch(
                connection, "INSERT INTO x VALUES (%s, %s, %s, %s) RETURNING 1",
                [str(f) if kind == "text" else f, f"{f}:{p}", p, f"text {p}"],
            )  # fmt: skip
    sentences = PostgresSentences(database, "x", COLUMNS)
    names = [name for name, _ in sentences.filings()]
    assert sorted(names) == ["200", "30", "4"]
    read = sentences.read(names)
    assert read["filing_id"].to_pylist()[-3:] == names  # the markers
    ids = [id for id in read["id"].to_pylist() if id is not None]
    assert ids == [f"{f}:{p}" for f in names for p in (*range(-2, 40), 2**31 - 2, None)]
