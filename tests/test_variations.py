"""Variations say the same of other names, amounts and dates."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.answer import Answer
from raydistill.dataset import SCHEMA
from raydistill.demo import world as demo_world
from raydistill.errors import SetupError
from raydistill.lessons import mentions
from raydistill.lessons.mentions import FINDERS, Names, band, names
from raydistill.lessons.variations import variation, varied
from raydistill.tasks import TASKS

TASK = TASKS["filing_events"]
SHARED = Path(__file__).parents[2] / "shared"
POOL = Names(
    {
        "company": ("Alnylam", "Perrigo", "Worthington"),
        "partners": ("Deloitte", "KPMG"),
        "bank": ("Comerica", "Citibank"),
    },
    ("Miltner", "Kennedy", "Porter"),
)
EVENT: dict[str, Any] = {
    "event_type": "appointed_executive", "subject": None, "object": None,
    "magnitude_class": "minor", "timing": "definitive", "sentiment": "neutral",
    "materiality": "material", "confidence": 9, "date_confidence": 0, "event_date": None,
}  # fmt: skip
KEPT = [field.name for field in TASK.fields if field.kind not in ("span", "date")]


def made(text: str, kind: str, key: str = "1", **fields: Any) -> tuple[str, dict[str, Any]] | None:
    """A variation of a sentence with one event, and the event's values."""
    answer = TASK.render(TASK.answer([EVENT | fields], text))
    out = variation(text, answer, TASK, POOL, key, [kind])
    return (out[0], json.loads(out[1])["events"][0]) if out else None


def test_a_company_is_another_one_wherever_it_stands() -> None:
    text = "Perrigo Company plc (“Perrigo”) and Perrigo’s auditor KPMG LLP met."
    out = made(text, "names", subject="Perrigo Company plc", object="KPMG LLP")
    assert out is not None
    new, event = out
    assert "Perrigo" not in new
    assert "Deloitte LLP met" in new  # partnerships are swapped for partnerships
    assert event["object"] == "Deloitte LLP"
    head = event["subject"].split()[0]
    assert new.startswith(f"{head} Company plc (“{head}”) and {head}’s")


def test_a_person_keeps_title_and_gender_and_the_last_name_everywhere() -> None:
    text = "Mary Porter resigned; Ms. Porter said that she was glad."
    out = made(text, "names", subject="Mary Porter", object="Ms. Porter")
    assert out is not None
    first, last = out[1]["subject"].split()
    assert first in mentions._WOMEN
    assert first != "Mary"
    assert out[1]["object"] == f"Ms. {last}"
    assert out[0] == f"{first} {last} resigned; Ms. {last} said that she was glad."


def test_a_word_that_is_also_plain_is_no_name() -> None:
    pool = names(["Target Corporation rose.", "It missed the target.", "Alnylam Corporation fell."])
    assert pool.heads["company"] == ("Alnylam",)


@pytest.mark.parametrize("key", [str(n) for n in range(20)])
def test_amounts_keep_band_order_and_writing(key: str) -> None:
    text = "We raised the dividend from $0.20 to $0.25, paid $2.9 million and got $101 million."
    out = made(text, "amounts", key, object="$2.9 million")
    assert out is not None
    new = [one[0] for one in mentions._MONEY.finditer(out[0])]
    low, high, minor, major = (mentions._amount(one) for one in new)
    assert low < high < minor < 5e6
    assert major >= 1e8
    assert re.fullmatch(r"\$0\.\d\d \$0\.\d\d \$\d\.\d million \$\d{3} million", " ".join(new))
    assert out[1]["object"] in new


def test_years_move_together_and_laws_stay() -> None:
    text = "Under the Securities Act of 1933, notes due 2031 were issued in March 2021."
    out = made(text, "years", event_date="2021-03", object="notes due 2031")
    assert out is not None
    shift = int(out[1]["event_date"][:4]) - 2021
    assert shift != 0
    assert out[1] == out[1] | {
        "event_date": f"{2021 + shift}-03",
        "object": f"notes due {2031 + shift}",
    }
    assert "Act of 1933" in out[0]


def test_a_leap_day_stays_a_day() -> None:
    out = made("It closed on February 29, 2024.", "years", event_date="2024-02-29")
    assert out is not None
    assert out[1]["event_date"] in ("2020-02-29", "2028-02-29")


def test_the_one_day_of_a_sentence_becomes_another() -> None:
    text = "On March 5, 2024, she resigned."
    out = made(text, "days", event_date="2024-03-05")
    assert out is not None
    stated = TASK.answer([EVENT | {"event_date": out[0][3:-15]}]).records[0]["event_date"]
    assert out[1]["event_date"] == stated != "2024-03-05"


@pytest.mark.parametrize(
    ("text", "kind", "fields"),
    [
        ("She resigned in 2021.", "years", {"event_date": "2019"}),  # from another sentence
        ("On March 5, 2024, she resigned.", "days", {"event_date": "2024"}),
        ("From March 1, 2024 to March 5, 2024.", "days", {"event_date": "2024-03-05"}),
        ("In the third quarter of 2022 we paid.", "periods", {"event_date": "2022-09"}),
        ("It paid $7 million.", "amounts", {"object": "around $7 million"}),  # free text
        ("It paid $7 million in $7 million bonds.", "amounts", {"object": "million in $7"}),
        ("Nothing here can change.", "names", {}),
    ],
)
def test_what_an_answer_cannot_follow_is_not_changed(
    text: str, kind: str, fields: dict[str, Any]
) -> None:
    out = made(text, kind, **fields)
    assert out is None or "million in" in str(fields)
    if out is not None:
        assert out[1]["object"] in out[0]


def test_relative_periods_keep_their_direction() -> None:
    out = made("It will close next month, within 60 days.", "periods")
    assert out is not None
    assert re.fullmatch(r"It will close next (week|quarter), within (30|45|90) days\.", out[0])


def _world() -> list[tuple[str, str]]:
    world = demo_world.world(seed=3, filings=4, companies=8, event_share=0.1, keyword_share=0.3)
    found = {}
    for row in world.events.to_pylist():
        found.setdefault(row["sentence"], []).append(row)
    answers = [(text, TASK.render(TASK.answer(rows, text))) for text, rows in found.items()]
    plain = [text for text in world.sentences["sentence"].to_pylist() if text not in found]
    return answers + [(text, TASK.render(Answer())) for text in plain]


WORLD = _world()
WORLD_POOL = names(text for text, _ in WORLD)


def check(text: str, answer: str, key: str, pool: Names) -> bool:
    """Whether there is a variation; it must be valid for its text and change no other field."""
    out = variation(text, answer, TASK, pool, key)
    if out is None:
        return False
    new_text, rendered = out
    assert new_text != text
    before, after = TASK.parse(answer, text), TASK.parse(rendered, new_text)
    assert TASK.render(after) == rendered  # standard for its own text
    assert len(after.records) == len(before.records)
    for old, new in zip(before.records, after.records, strict=True):
        assert {name: old[name] for name in KEPT} == {name: new[name] for name in KEPT}
        for name in ("subject", "object"):
            assert (old[name] is None) == (new[name] is None)
            if old[name] is not None and old[name] in text:
                assert new[name] in new_text
        one, other = old["event_date"], new["event_date"]
        assert (one is None) == (other is None)
        if one is not None:
            assert len(one) == len(other)
            if one != other:
                assert other[:4] in new_text
    old_bands = [band(mentions._amount(one[0])) for one in mentions._MONEY.finditer(text)]
    new_bands = [band(mentions._amount(one[0])) for one in mentions._MONEY.finditer(new_text)]
    assert old_bands == new_bands
    return True


@given(st.sampled_from(WORLD), st.integers(0, 1000))
@settings(max_examples=300, deadline=None)
def test_a_varied_answer_is_valid_for_the_varied_text(row: tuple[str, str], key: int) -> None:
    check(*row, str(key), WORLD_POOL)


@given(st.text(alphabet="$€5019,. %millonbMarch20-/IncCorp&AB’“\u00a0\u2003é😀\n", max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_a_finder(text: str) -> None:
    for find in FINDERS.values():
        change = find(text, POOL, random.Random(0))
        for edit in change.edits if change else ():
            assert text[edit.start : edit.end]


@pytest.mark.shared
def test_real_labels_are_varied_and_stay_valid() -> None:
    file = SHARED / "teacher" / "labels.jsonl"
    if not file.is_file():
        pytest.skip(f"{file} is not here")
    rows = [json.loads(line) for line in file.read_text().splitlines()[:4000]]
    pool = names(row["sentence"] for row in rows)
    tried = changed = 0
    for row in rows:
        if row["output"].get("events"):
            tried += 1
            answer = TASK.render(TASK.answer(row["output"]["events"], row["sentence"]))
            changed += check(row["sentence"], answer, row["sentence_id"], pool)
    assert changed > 0.8 * tried


def table() -> pa.Table:
    rows = [
        {"id": f"s{n}", "group": f"g{n % 5}", "task": TASK.name, "text": text, "answer": answer,
         "weight": 1.0, "keep": "skip" not in answer, "form": "8-K", "year": 2020}
        for n, (text, answer) in enumerate(WORLD)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def test_a_share_of_rows_is_varied_the_same_way_every_time() -> None:
    rows = table()
    out = varied(rows, TASK, 0.3, seed=1)
    assert out.schema == rows.schema
    assert out.equals(varied(rows, TASK, 0.3, seed=1))
    assert not out.equals(varied(rows, TASK, 0.3, seed=2))
    assert 0.1 * len(rows) < len(out) < 0.4 * len(rows)
    old = {row["id"]: row for row in rows.to_pylist()}
    for row in out.to_pylist():
        source = old[row["id"].removesuffix("~v")]
        assert {**row, "id": "", "text": "", "answer": ""} == {
            **source, "id": "", "text": "", "answer": "",
        }  # fmt: skip
        assert row["text"] != source["text"]


def test_no_share_and_no_rows_give_an_empty_table_with_its_schema() -> None:
    for out in (varied(table(), TASK, 0.0, 1), varied(SCHEMA.empty_table(), TASK, 1.0, 1)):
        assert len(out) == 0
        assert out.schema == SCHEMA


def test_a_wrong_share_or_kind_is_refused() -> None:
    with pytest.raises(SetupError, match="share"):
        varied(table(), TASK, 1.5, 0)
    with pytest.raises(SetupError, match="colours"):
        varied(table(), TASK, 0.5, 0, ["colours"])
