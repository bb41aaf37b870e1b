"""Teacher rows to examples: columns and raw answers give what the task gives, row by row."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raydistill.errors import AnswerError
from raydistill.lessons import teacher
from raydistill.lessons.teacher_answer import canonical
from raydistill.tasks import TASKS

TASK = TASKS["filing_events"]
TEXT = 'On March 5, 2024, “Acme” dismissed KPMG LLP as its "auditor"; Bob\'s fee was $3\\4.'
GOOD = {
    "event_type": "dismissed_auditor",
    "subject": "Acme",
    "object": "KPMG LLP",
    "magnitude_class": "major",
    "timing": "definitive",
    "sentiment": "negative",
    "materiality": "material",
    "confidence": "9",
    "date_confidence": "10",
    "event_date": "2024-03-05",
}
MESSY: list[dict[str, Any]] = [
    {},
    {"event_type": "Dismissed Auditor"},
    {"event_type": "  dismissed-auditor. "},
    {"event_type": None},
    {"event_type": "N/A"},
    {"subject": "  acme "},
    {"subject": "kpmg   llp"},
    {"subject": "null"},
    {"subject": 'its "auditor"'},
    {"subject": "$3\\4"},
    {"subject": "Größe\tund\nmehr"},
    {"subject": "bad\x00text"},
    {"object": "Bob’s fee"},
    {"object": ""},
    {"magnitude_class": " MAJOR "},
    {"magnitude_class": "huge"},
    {"magnitude_class": None},
    {"timing": "past"},
    {"sentiment": "Neutral"},
    {"confidence": "8/10"},
    {"confidence": "8.0"},
    {"confidence": "11"},
    {"confidence": "high"},
    {"confidence": None},
    {"date_confidence": "0"},
    {"event_date": "March 5, 2024"},
    {"event_date": "05.03.2024"},
    {"event_date": "2024-03"},
    {"event_date": "2024-03-00"},
    {"event_date": "2024-13-05"},
    {"event_date": "soon"},
    {"event_date": None},
    {"timing": "past", "confidence": "high"},
]


def expected(row: dict[str, Any]) -> tuple[str | None, str | None]:
    """The record and the code that the task gives for one row."""
    try:
        (record,) = TASK.answer([row], TEXT).records
    except AnswerError as problem:
        return None, problem.code
    return teacher.json_text(record), None


def test_columns_give_for_every_messy_row_the_record_or_code_that_the_task_gives() -> None:
    rows = [GOOD | change for change in MESSY]
    table = pa.Table.from_pylist([row | {"text": TEXT} for row in rows])
    found = teacher.records(table, TASK, {})
    got = list(zip(found["record"].to_pylist(), found["code"].to_pylist(), strict=True))
    assert got == [expected(row) for row in rows]
    assert len({code for _, code in got}) > 5
    assert found["confidence"].to_pylist()[:1] == [9]


def test_columns_of_other_types_are_read_like_texts() -> None:
    row = GOOD | {"confidence": 9, "date_confidence": 10.0, "text": TEXT}
    found = teacher.records(pa.Table.from_pylist([row, row]), TASK, {})
    assert set(found["record"].to_pylist()) == {expected(GOOD)[0]}


@pytest.mark.parametrize(
    "raw",
    [
        '{"skip": true}',
        "```json\n" + json.dumps({"events": [GOOD, GOOD | {"subject": "Bob's fee"}]}) + "\n```",
        json.dumps([GOOD]),
        "no idea",
        None,
        json.dumps({"events": [GOOD | {"timing": "past"}]}),
    ],
)
def test_raw_answers_give_the_answer_or_code_that_canonical_gives(raw: str | None) -> None:
    table = pa.table({"raw": pa.array([raw], pa.string()), "text": [TEXT]})
    found = teacher.records(table, TASK, {})
    assert (found["record"].to_pylist(), found["code"].to_pylist()) == whole(raw)


def whole(raw: str | None) -> tuple[list[str | None], list[str | None]]:
    """The records and codes of a raw answer, by the function that reads one."""
    try:
        records = [teacher.json_text(r) for r in canonical(raw, TASK, TEXT).records]
    except AnswerError as problem:
        return [None], [problem.code]
    return (list(records) or [None]), [None] * max(1, len(records))


def spilled(rows: list[dict[str, Any]]) -> pa.Table:
    """Teacher rows as they are spilled; `record` by its event type."""
    kinds = {
        "text_key": pa.uint64(),
        "id_key": pa.uint64(),
        "reading": pa.uint64(),
        "at": pa.int64(),
        "id": pa.string(),
        "record": pa.string(),
        "confidence": pa.int16(),
        "code": pa.string(),
        "detail": pa.string(),
        "raw": pa.string(),
    }
    columns: dict[str, list[Any]] = {name: [] for name in kinds}
    for at, row in enumerate(rows):
        record = expected(GOOD | {"event_type": row["type"]})[0] if "type" in row else None
        whole = {
            "text_key": int(row["id"]),
            "id_key": int(row["id"]),
            "reading": 0,
            "at": at,
            "confidence": 9,
        } | row
        for name in kinds:
            columns[name].append(record if name == "record" else whole.get(name))
    return pa.table({name: pa.array(columns[name], kind) for name, kind in kinds.items()})


def types(answer: str) -> list[str]:
    return [str(record["event_type"]) for record in TASK.parse(answer).records]


def test_a_sentence_has_its_records_in_the_order_they_were_written_and_each_once() -> None:
    rows = [
        {"id": "2", "type": "b"},
        {"id": "1", "type": "z"},
        {"id": "1", "type": "a"},
        {"id": "1", "type": "z"},
        {"id": "3"},
    ]
    good, bad = teacher.answers(spilled(rows), TASK, 0)
    assert len(bad) == 0
    found = dict(zip(good["id"].to_pylist(), good["answer"].to_pylist(), strict=True))
    assert types(found["1"]) == ["z", "a"]
    assert types(found["2"]) == ["b"]
    assert found["3"] == '{"skip":true}'
    assert good["keep"].to_pylist() == [True, True, False]


def test_one_lost_record_rejects_the_whole_sentence_with_the_first_code() -> None:
    rows = [
        {"id": "1", "type": "a"},
        {"id": "1", "code": "bad_date", "detail": "soon"},
        {"id": "1", "code": "wrong_type"},
        {"id": "2", "type": "a"},
    ]
    good, bad = teacher.answers(spilled(rows), TASK, 0)
    assert good["id"].to_pylist() == ["2"]
    assert [(r["id"], r["code"], r["detail"]) for r in bad.to_pylist()] == [
        ("1", "bad_date", "soon")
    ]


def test_the_least_confident_record_decides_about_the_floor() -> None:
    rows = [
        {"id": "1", "type": "a", "confidence": 9},
        {"id": "1", "type": "b", "confidence": 7},
        {"id": "2", "type": "a", "confidence": 8},
    ]
    good, bad = teacher.answers(spilled(rows), TASK, 8)
    assert good["id"].to_pylist() == ["2"]
    assert bad["code"].to_pylist() == ["low_confidence"]


def test_too_many_records_are_rejected() -> None:
    rows = [{"id": "1", "type": f"type_{n}"} for n in range(17)]
    _, bad = teacher.answers(spilled(rows), TASK, 0)
    assert bad["code"].to_pylist() == ["too_many_records"]


def ballots(rows: list[tuple[int, str, bool, int, int]]) -> pa.Table:
    """Labelled rows: text, answer, keep, confidence, filing; later rows have later places."""
    text, answer, keep, sure, filing = zip(*rows, strict=True)
    ones = pa.array(np.ones(len(rows), np.int32))
    return pa.table(
        {
            "text_key": pa.array(text, pa.uint64()),
            "share": pa.array(range(len(rows)), pa.uint64()),
            "answer": pa.array(answer, pa.string()),
            "keep": pa.array(keep, pa.bool_()),
            "confidence": pa.array(sure, pa.int16()),
            "filing_key": pa.array(filing, pa.uint64()),
            "copies": ones,
            "filings": ones,
        }
    )


def test_first_whether_there_is_an_event_is_voted_then_which() -> None:
    rows = [(1, "x", True, 5, 1), (1, "y", True, 5, 2), (1, "none", False, 10, 3)]
    (row,) = teacher.voted(ballots(rows))[0].to_pylist()
    assert (row["answer"], row["weight"], row["against"], row["repeats"]) == ("x", 1.0, 2, 3)


def test_a_majority_without_an_event_outvotes_one_with() -> None:
    rows = [(1, "x", True, 10, 1), (1, "none", False, 5, 2), (1, "none", False, 5, 2)]
    chosen, counts = teacher.voted(ballots(rows))
    (row,) = chosen.to_pylist()
    assert (row["answer"], row["weight"], row["against"], row["repeats"]) == ("none", 2.0, 1, 2)
    assert counts == {
        "duplicates": 2,
        "contradictory_texts": 1,
        "contradictory_event_or_not": 1,
        "outvoted_rows": 1,
    }


def test_confidence_breaks_a_tie_between_answers() -> None:
    rows = [(1, "a", True, 5, 1), (1, "b", True, 9, 2), (2, "a", True, 1, 1)]
    assert teacher.voted(ballots(rows))[0]["answer"].to_pylist() == ["b", "a"]
