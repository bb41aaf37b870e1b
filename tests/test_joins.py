"""Joined lessons: what is said in one sentence is what was said in two."""

import json
from typing import Any

import pyarrow as pa

from raydistill.dataset import SCHEMA
from raydistill.lessons.joins import joined
from raydistill.tasks import FILING_EVENTS

EVENT: dict[str, Any] = {
    "event_type": "dismissed_auditor", "subject": "The Company", "object": None,
    "magnitude_class": "major", "timing": "definitive", "sentiment": "negative",
    "materiality": "material", "confidence": 10, "date_confidence": 0, "event_date": None,
}  # fmt: skip
NAMES = ("Redridge Corp.", "Hale & Moss LLP", "Acme, Inc.", "the Borrower", "KPMG", "Volt plc")


def _table() -> pa.Table:
    rows = [
        {"id": str(n), "text": f"The Company sued {name} for ${n} million.",
         "answer": json.dumps({"events": [EVENT | {"object": name}]})}
        for n, name in enumerate(NAMES * 4)
    ]  # fmt: skip
    rows += [
        {"id": "abbreviated", "text": "The Company sued Acme, Inc.",
         "answer": json.dumps({"events": [EVENT | {"object": "Acme, Inc."}]})},
        {"id": "nothing", "text": "Here the company did nothing.", "answer": '{"skip": true}'},
    ]  # fmt: skip
    return pa.Table.from_pylist([{"keep": True, **row} for row in rows], schema=SCHEMA)


def test_a_joined_sentence_states_the_events_of_its_parts_each_with_its_own_words() -> None:
    table = _table()
    objects = {row["id"]: row for row in table.to_pylist()}
    made = joined(table, FILING_EVENTS, share=1.0, seed=2).to_pylist()
    assert len(made) >= 8
    for row in made:
        parts = [objects[id] for id in row["id"].split("+")]
        assert 2 <= len(parts) <= 3
        records = FILING_EVENTS.parse(row["answer"], row["text"]).records
        told = [FILING_EVENTS.parse(p["answer"], p["text"]).records[0]["object"] for p in parts]
        assert [record["object"] for record in records] == told
        # The first begins the sentence, the others go on in it.
        assert [record["subject"] for record in records] == [
            "The Company",
            *["the Company"] * (len(parts) - 1),
        ]
        assert "nothing" not in row["id"]
        assert row["text"].count(".") == row["text"].count("Corp.") + row["text"].count("Inc.") + (
            not row["text"].endswith(("Corp.", "Inc."))
        )


def test_the_seed_decides_and_the_share_bounds_what_is_joined() -> None:
    table = _table()
    one, two = (joined(table, FILING_EVENTS, share=0.5, seed=1) for _ in range(2))
    assert one.equals(two)
    assert not one.equals(joined(table, FILING_EVENTS, share=0.5, seed=2))
    used = [id for row in one["id"].to_pylist() for id in row.split("+")]
    assert len(used) == len(set(used)) <= 0.5 * len(table)
    assert len(joined(table, FILING_EVENTS, share=0.0, seed=1)) == 0
