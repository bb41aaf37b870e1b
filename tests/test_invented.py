"""Copies under invented names are valid lessons."""

import json

import pyarrow as pa

from raydistill.dataset import SCHEMA
from raydistill.lessons.invented import copies
from raydistill.tasks import FILING_EVENTS

TEXT = "Redridge Motors, Inc. dismissed Hale & Moss LLP on March 5, 2024; the company motors on."


def _table(subject="Redridge Motors, Inc.", obj="Hale & Moss LLP"):
    event = {
        "event_type": "dismissed_auditor", "subject": subject, "object": obj,
        "magnitude_class": "major", "timing": "definitive", "sentiment": "negative",
        "materiality": "material", "confidence": 10, "date_confidence": 10,
        "event_date": "2024-03-05",
    }  # fmt: skip
    row = {"id": "1", "group": "g", "task": "filing_events", "text": TEXT, "keep": True,
           "answer": json.dumps({"events": [event]})}  # fmt: skip
    return pa.Table.from_pylist([row], schema=SCHEMA)


def test_names_change_and_the_answer_follows():
    made = copies(_table(), FILING_EVENTS, number=3, seed=1).to_pylist()
    assert [row["id"] for row in made] == ["1~n1", "1~n2", "1~n3"]
    assert len({row["text"] for row in made}) == 3
    for row in made:
        (record,) = FILING_EVENTS.parse(row["answer"], row["text"]).records
        assert record["subject"] in row["text"]
        assert record["object"] in row["text"]
        assert "Redridge" not in row["text"]
        assert record["subject"].count(",") == 1
        assert record["event_date"] == "2024-03-05"
        assert "on March 5, 2024" in row["text"]


def test_words_that_also_stand_in_lower_case_are_no_names():
    (row,) = copies(_table(), FILING_EVENTS, number=1, seed=1).to_pylist()
    assert " Motors, " in row["text"]


def test_the_seed_decides():
    one = copies(_table(), FILING_EVENTS, number=2, seed=5)
    assert one.equals(copies(_table(), FILING_EVENTS, number=2, seed=5))
    assert not one.equals(copies(_table(), FILING_EVENTS, number=2, seed=6))


def test_a_sentence_without_names_gets_no_copy():
    assert len(copies(_table("the company", None), FILING_EVENTS, number=2, seed=1)) == 0
