import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.fields import Choice, Text
from raydistill.lessons.teacher_answer import MAX_CHARACTERS, canonical
from raydistill.task import Task
from raydistill.tasks import FILING_EVENTS

TEXT = "The Company dismissed KPMG LLP and paid Moody's $5 million on March 5, 2024."
E = {
    "event_type": "dismissed_auditor", "subject": "The Company", "object": "KPMG LLP",
    "magnitude_class": "major", "timing": "definitive", "sentiment": "negative",
    "materiality": "material", "confidence": 9, "date_confidence": 10,
    "event_date": "2024-03-05",
}  # fmt: skip
F = E | {"event_type": "paid_penalty", "object": "Moody's", "sentiment": "neutral"}
ROW, SECOND = list(E.values()), list(F.values())
ONE, TWO = json.dumps({"events": [E]}), json.dumps({"events": [E, F]})
BARE = json.dumps(E)


def _keys(change):
    return {change(key): value for key, value in E.items()}


def _camel(key):
    first, *rest = key.split("_")
    return first + "".join(word.title() for word in rest)


def _dated(written):
    return {"events": [E | {"event_date": written}]}


# name: what the teacher wrote, and the records in it or the code of the reject
TABLE = {
    "the standard form": (ONE, [E]),
    "an object": ({"events": [E, F]}, [E, F]),
    "a list": ([E, F], [E, F]),
    "one bare event": (E, [E]),
    "one event under a singular key": ({"event": E}, [E]),
    "one event instead of a list": ({"events": E}, [E]),
    "a list of wrapped events": ([{"event": E}, {"event": F}], [E, F]),
    "numbered events": ({"event_1": E, "event_2": F}, [E, F]),
    "an envelope": ({"id": 7, "answer": {"events": [E]}}, [E]),
    "rows in field order": ([ROW, SECOND], [E, F]),
    "one row": (ROW, [E]),
    "the compact form of a guideline": ({"i": 12, "e": [ROW]}, [E]),
    "the compact form without events": ({"i": 13, "e": []}, []),
    "JSON in a JSON text": (json.dumps(ONE), [E]),
    "JSON in JSON in JSON": (json.dumps({"events": json.dumps([BARE])}), [E]),
    "escaped without its quotes": (ONE.replace('"', '\\"'), [E]),
    "a fence": (f"```json\n{ONE}\n```", [E]),
    "a fence without a language": (f"```\n{ONE}\n```", [E]),
    "an open fence": (f"```json\n{ONE}", [E]),
    "a draft and a final fence": (f"```json\n{ONE}\n```\nFinal:\n```json\n{TWO}\n```", [E, F]),
    "a fence in prose": (f"Sure, here is the JSON:\n```json\n{ONE}\n```\nLet me know!", [E]),
    "a greeting": (f"Sure, here is: {ONE}", [E]),
    "an explanation": (f"{ONE}\n\nThe company [1] dismissed {{name}} its auditor.", [E]),
    "a citation before": (f"As [1] and {{sentence}} say: {ONE}", [E]),
    "thoughts": (f"<think>Is it {TWO}? No.</think>\n{ONE}", [E]),
    "the end of thoughts": (f"I see {TWO}.</think>{ONE}", [E]),
    "a byte order mark": ("\ufeff" + ONE, [E]),
    "JSON lines": (f"{BARE}\n{json.dumps(F)}", [E, F]),
    "the first draft is not the answer": (f"{ONE} or rather {TWO}", [E, F]),
    "Python": (str({"events": [E, F]}), [E, F]),
    "Python in prose": (f"Answer: {[E]} as asked", [E]),
    "a trailing comma": (ONE.replace("}]}", "},]}"), [E]),
    "a missing comma": (ONE.replace(', "timing"', ' "timing"'), [E]),
    "keys without quotes": (ONE.replace('"events"', "events"), [E]),
    "single quotes and null": (
        ONE.replace('"2024-03-05"', "null").replace('"', "'"), [E | {"event_date": None}]),
    "missing brackets at the end": (ONE[:-2], [E]),
    "curly quotes around values": (ONE.replace('"major"', "“major”"), [E]),
    "camel case keys": ({"events": [_keys(_camel)]}, [E]),
    "title keys": ({"Events": [_keys(lambda key: key.replace("_", " ").title())]}, [E]),
    "numbers as texts": ([E | {"confidence": "9", "date_confidence": "10/10"}], [E]),
    "decimals": ([E | {"confidence": 9.0, "date_confidence": "10.0"}], [E]),
    "choices in capitals": ([E | {"timing": "DEFINITIVE", "sentiment": " Negative"}], [E]),
    "a type in words": ([E | {"event_type": "Dismissed auditor"}], [E]),
    "a subject in other case": ([E | {"subject": "the company"}], [E]),
    "a curly apostrophe": ([F | {"object": "Moody’s"}], [F]),
    "a value in a list of one": ([E | {"object": ["KPMG LLP"]}], [E]),
    "an empty list for null": ([E | {"object": []}], [E | {"object": None}]),
    "a null word for an object": ([E | {"object": "N/A"}], [E | {"object": None}]),
    "a null word for a date": (_dated("unknown"), [E | {"event_date": None}]),
    "missing keys": (
        {k: v for k, v in E.items() if k != "event_date"}, [E | {"event_date": None}]),
    "unknown keys": ([E | {"reason": "clear", "evidence": ["x", "y"]}], [E]),
    "skip": ({"skip": True}, []),
    "skip as text": ('{"skip": "true"}', []),
    "skip in Python": ("{'skip': True}", []),
    "skip with a reason": ({"skip": True, "reason": "boilerplate", "events": []}, []),
    "skip with empty fields": ({"skip": True, "event_type": None, "subject": "none"}, []),
    "skip in a list": ([{"skip": True}], []),
    "skip is false": ({"skip": False, "events": [E]}, [E]),
    "skip is false beside a bare event": ({"skip": False} | E, [E]),
    "an empty list": ("[]", []),
    "no events": ({"events": []}, []),
    "null events": ({"events": None}, []),
    "an event said twice": ([E, E], [E]),
    "a date in words": (_dated("March 5, 2024"), [E]),
    "a short month": (_dated("Mar. 5, 2024"), [E]),
    "a day first": (_dated("5 March 2024"), [E]),
    "an ordinal": (_dated("March 5th, 2024"), [E]),
    "slashes": (_dated("03/05/2024"), [E]),
    "slashes, year first": (_dated("2024/03/05"), [E]),
    "digits alone": (_dated(20240305), [E]),
    "a time too": (_dated("2024-03-05T00:00:00Z"), [E]),
    "dashes and a month": (_dated("05-Mar-2024"), [E]),
    "an unpadded date": (_dated("2024-3-5"), [E]),
    "a day not stated": (_dated("2024-03-XX"), [E | {"event_date": "2024-03"}]),
    "a year as a number": (_dated(2024), [E | {"event_date": "2024"}]),
    "nothing": (None, "no_json"),
    "an empty text": ("", "no_json"),
    "prose": ("The Company dismissed KPMG LLP.", "no_json"),
    "prose with marks": ("[see note] {name}: skip, true [1]", "no_json"),
    "a refusal in a fence": ("```\nI cannot answer.\n```", "no_json"),
    "thoughts that never end": (f"<think>perhaps {ONE}", "no_json"),
    "cut off in a value": (TWO[:-30], "cut_short"),
    "cut off before the second event": (ONE[:-2] + ",", "cut_short"),
    "cut off in the first event": (ONE[:60], "cut_short"),
    "cut off in a fence": (f"```json\n{ONE[:80]}", "cut_short"),
    "far too long": ("[" * (MAX_CHARACTERS + 1), "too_long"),
    "nested without end": ("[" * 5000, "cut_short"),
    "nested and closed": ("[" * 3000 + "]" * 3000, "no_json"),
    "too long to repair": ('{"' * 20_000 + "}", "too_long"),
    "thoughts upon thoughts": ("<think>" * 20_000, "no_json"),
    "a fence of one word": ("```" + "a" * 100_000, "no_json"),
    "a number": (3, "wrong_shape"),
    "a true": ("true", "wrong_shape"),
    "a JSON null": ("null", "wrong_shape"),
    "a word in quotes": ('"skip"', "no_json"),
    "an empty object": ({}, "wrong_shape"),
    "an error message": ({"error": "timeout"}, "wrong_shape"),
    "events that are a number": ({"events": 2}, "wrong_shape"),
    "a row too short": ([ROW[:-1]], "wrong_shape"),
    "a list of types": (["dismissed_auditor", "paid_penalty"], "wrong_shape"),
    "skip with an event": ({"skip": True, "events": [E]}, "contradictory_skip"),
    "skip beside a bare event": ({"skip": True} | E, "contradictory_skip"),
    "no skip and no event": ({"skip": False, "events": []}, "contradictory_skip"),
    "a skip among events": ([E, {"skip": True}], "contradictory_skip"),
    "perhaps skip": ({"skip": "perhaps"}, "wrong_type"),
    "no type": ([E | {"event_type": None}], "missing_value"),
    "a null choice": ([E | {"timing": "n/a"}], "missing_value"),
    "a choice nobody offered": ([E | {"timing": "soon"}], "unknown_choice"),
    "a confidence of 11": ([E | {"confidence": 11}], "out_of_range"),
    "a confidence in words": ([E | {"confidence": "high"}], "not_a_number"),
    "a truth value for a number": ([E | {"confidence": True}], "wrong_type"),
    "a date that does not exist": (_dated("2024-02-30"), "bad_date"),
    "a quarter": (_dated("Q1 2024"), "bad_date"),
    "two subjects": ([E | {"subject": ["A", "B"]}], "wrong_type"),
    "a subject with parts": ([E | {"subject": {"name": "A"}}], "wrong_type"),
    "half a letter": ('[{"event_type": "x", "subject": "\\ud83d"}]', "bad_text"),
    "seventeen events": ([E | {"object": f"x{n}"} for n in range(17)], "too_many_records"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_what_teachers_write_becomes_the_standard_answer_or_a_code(name):
    raw, expected = TABLE[name]
    if isinstance(expected, str):
        with pytest.raises(AnswerError) as problem:
            canonical(raw, FILING_EVENTS, TEXT)
        assert problem.value.code == expected
    else:
        assert [*canonical(raw, FILING_EVENTS, TEXT).records] == expected


def test_a_broken_event_never_loses_its_neighbour():
    broken = TWO.replace('"object": "Moody\'s"', '"object": "Moody"s"')
    records = canonical(broken, FILING_EVENTS, TEXT).records
    assert [record["event_type"] for record in records] == ["dismissed_auditor", "paid_penalty"]


def test_a_single_answer_is_read_bare_wrapped_or_as_text():
    task = Task(
        name="kind", key="kind", instruction="", single=True,
        fields=(Choice(name="kind", choices=("count", "list")), Text(name="why", nullable=True)),
    )  # fmt: skip
    expected = ({"kind": "count", "why": None},)
    for raw in ({"kind": "Count"}, '{"answer": {"Kind": "count"}}', '[{"kind": "count"}]'):
        assert canonical(raw, task).records == expected
    with pytest.raises(AnswerError, match="wrong_count"):
        canonical("[]", task)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([BARE, "[]"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["events", "event", "e", "skip", "Event Type", "subject", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        _json, _json.map(json.dumps), _json.map(str), st.text("{}[]\"',:\\ae1 `<>", max_size=30)
    )
)
def test_anything_is_an_answer_or_has_a_code(raw):
    try:
        found = canonical(raw, FILING_EVENTS, TEXT)
    except AnswerError as problem:
        found = problem.code
    assert isinstance(found, Answer) or found.isidentifier()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(TWO)))
def test_a_cut_answer_is_never_completed_with_half_a_value(length):
    try:
        records = canonical(TWO[:length], FILING_EVENTS, TEXT).records
    except AnswerError:
        return
    assert all(record in (E, F) for record in records)


SHARED = Path(__file__).parents[2] / "shared" / "teacher" / "labels.jsonl"


@pytest.mark.shared
@pytest.mark.skipif(
    not SHARED.is_file(), reason="the labelled sentences are not beside the project"
)
def test_every_answer_of_a_real_teacher_passes():
    rows = [json.loads(line) for line in SHARED.read_text().splitlines()]
    events = 0
    for row in rows:
        answer = canonical(json.dumps(row["output"]), FILING_EVENTS, row["sentence"])
        assert answer == FILING_EVENTS.answer_of(row["output"], row["sentence"])
        events += len(answer.records)
    assert len(rows) > 10_000
    assert events > 6_000
