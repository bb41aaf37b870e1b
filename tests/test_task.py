import json

import pytest

from raydistill.answer import Answer
from raydistill.errors import AnswerError, SetupError
from raydistill.fields import Choice, Span, Text
from raydistill.target import MAX_RECORDS
from raydistill.task import Task, task
from raydistill.tasks import FILING_EVENTS, TASKS

TEXT = "The Company dismissed KPMG LLP on March 5, 2024."
EVENT = {
    "event_type": "Dismissed Auditor", "subject": "the company", "object": "KPMG LLP",
    "magnitude_class": "Major", "timing": "definitive", "sentiment": "negative",
    "materiality": "material", "confidence": "9", "date_confidence": 10,
    "event_date": "March 5, 2024", "note": "ignored",
}  # fmt: skip
STANDARD = (
    '{"events":[{"event_type":"dismissed_auditor","subject":"The Company","object":"KPMG LLP",'
    '"magnitude_class":"major","timing":"definitive","sentiment":"negative",'
    '"materiality":"material","confidence":9,"date_confidence":10,"event_date":"2024-03-05"}]}'
)
KIND = Task(
    name="kind",
    key="kind",
    instruction="Which kind?",
    single=True,
    fields=(Choice(name="kind", choices=("a", "b")), Text(name="why", nullable=True)),
)


def test_a_loose_event_has_one_standard_json():
    answer = FILING_EVENTS.answer([EVENT], TEXT)
    assert FILING_EVENTS.render(answer) == STANDARD
    assert FILING_EVENTS.parse(STANDARD, TEXT) == answer
    assert answer.offsets == ({"subject": (0, 11), "object": (22, 30)},)


def test_no_event_is_written_as_skip_and_read_in_every_form():
    assert FILING_EVENTS.render(Answer()) == '{"skip":true}'
    for written in ('{"skip": true}', '{"events": []}', "[]", '{"skip":true,"events":[]}'):
        assert FILING_EVENTS.parse(written) == Answer()


def test_equal_records_are_one_and_missing_keys_are_null():
    bare = {k: v for k, v in EVENT.items() if k not in ("subject", "event_date")}
    answer = FILING_EVENTS.answer([bare, dict(bare)], TEXT)
    assert len(answer.records) == 1
    assert answer.records[0]["subject"] is None
    assert answer.records[0]["event_date"] is None
    assert list(answer.records[0]) == [field.name for field in FILING_EVENTS.fields]


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("", "bad_json"),
        ("{", "bad_json"),
        ("[" * 100_000, "bad_json"),
        ("9" * 5000, "bad_json"),
        ("null", "wrong_shape"),
        ('"skip"', "wrong_shape"),
        ("{}", "wrong_shape"),
        ('{"skip": false}', "wrong_shape"),
        ('{"events": {"event_type": "x"}}', "wrong_shape"),
        ('{"events": ["x"]}', "wrong_type"),
        ('{"events": [{}]}', "missing_value"),
        ('{"skip": true, "events": [{}]}', "contradictory_skip"),
    ],
)
def test_what_is_no_answer_has_a_code(written, code):
    with pytest.raises(AnswerError) as problem:
        FILING_EVENTS.parse(written)
    assert problem.value.code == code


def test_more_records_than_a_student_can_write_are_refused():
    events = [EVENT | {"object": f"auditor {n}"} for n in range(MAX_RECORDS + 1)]
    assert len(FILING_EVENTS.answer(events[:-1]).records) == MAX_RECORDS
    with pytest.raises(AnswerError, match="too_many_records"):
        FILING_EVENTS.answer(events)


def test_a_single_task_is_one_object():
    answer = KIND.parse('{"kind": "A", "why": null}')
    assert KIND.render(answer) == '{"kind":"a","why":null}'
    assert KIND.parse(KIND.render(answer)) == answer
    for written in ("[]", '[{"kind":"a"},{"kind":"b"}]'):
        with pytest.raises(AnswerError, match="wrong_count"):
            KIND.parse(written)


def test_a_single_task_s_other_choice_is_a_wrong_value_not_an_invention():
    score = KIND.score(KIND.answer([{"kind": "a"}]), KIND.answer([{"kind": "b"}]))
    assert (score.wrong_value, score.omitted, score.invented) == (1, 0, 0)


@pytest.mark.parametrize("one", [*TASKS.values(), KIND], ids=lambda one: one.name)
def test_a_task_survives_its_own_spec(one):
    again = task(json.loads(json.dumps(one.spec())))
    assert again == one
    assert again.fingerprint == one.fingerprint


def test_a_vocabulary_changes_the_fingerprint_and_not_the_shape():
    learned = FILING_EVENTS.with_vocabulary({"event_type": ["dismissed_auditor"], "other": ["x"]})
    assert learned.fingerprint != FILING_EVENTS.fingerprint
    assert learned.shape == FILING_EVENTS.shape
    assert task(learned.spec()) == learned


def test_another_field_changes_the_shape():
    more = Task(name="kind", key="kind", instruction="", single=True, fields=KIND.fields[:1])
    assert more.shape != KIND.shape


def test_the_prompt_holds_the_instruction_and_the_text():
    prompt = FILING_EVENTS.prompt(TEXT)
    assert FILING_EVENTS.instruction in prompt
    assert TEXT in prompt


def test_a_wrong_task_stops_with_what_to_do():
    with pytest.raises(SetupError, match="one name a field"):
        Task(name="t", key="k", instruction="", fields=(Span(name="a"), Span(name="a")))
    with pytest.raises(SetupError, match="without fields, key"):
        task({"name": "t"})
    with pytest.raises(SetupError, match=r"compact \| literal \| json"):
        KIND.target("xml", positions=1, spell=str.split, unspell=" ".join)
