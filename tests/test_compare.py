import pytest

from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.proof.compare import scores, side, versus
from raydistill.proof.disagree import marked
from raydistill.tasks import TASKS

TASK = TASKS["filing_events"]


def _event(**values):
    record = {
        "event_type": "declared_dividend", "subject": "Acme Corp", "object": "a dividend",
        "magnitude_class": "minor", "timing": "definitive", "sentiment": "positive",
        "materiality": "material", "confidence": 9, "date_confidence": 5, "event_date": "2020",
    }  # fmt: skip
    return {**record, **values}


TRUTHS = {
    "a": TASK.answer([_event()]),
    "b": TASK.answer([_event(subject="Beta Inc")]),
    "c": Answer(),
    "d": Answer(),
}
GROUPS = {"a": "1", "b": "2", "c": "3", "d": "4"}


def _side(answers):
    return side(scores(TASK, TRUTHS, answers), GROUPS, draws=50)


def test_an_invented_event_lowers_precision_and_f1_but_not_recall_only():
    right = _side(TRUTHS)
    inventive = _side(
        {**TRUTHS, "a": TASK.answer([_event(), _event(event_type="named_ceo", subject="X")])}
    )
    assert right["f1"]["value"] == 1.0
    assert inventive["recall_only"]["value"] == 1.0
    assert inventive["recall"]["value"] == 1.0
    assert inventive["precision"]["value"] == pytest.approx(2 / 3)
    assert inventive["f1"]["value"] == pytest.approx(0.8)
    assert inventive["invented"] == 1


def test_inventions_are_counted_per_1000_sentences_without_an_event():
    assert _side({**TRUTHS, "c": TASK.answer([_event()])})["invented_per_1000"]["value"] == 500.0


def test_an_answer_that_does_not_parse_is_an_error_with_its_code():
    one = _side({**TRUTHS, "c": AnswerError("bad_json"), "a": AnswerError("bad_json")})
    assert one["errors"] == {"bad_json": 2}
    assert one["agreement"]["value"] == 0.5


def test_two_answerers_are_compared_on_the_rows_both_answered():
    ours = scores(TASK, TRUTHS, TRUTHS)
    theirs = scores(TASK, TRUTHS, {"a": Answer(), "b": TRUTHS["b"]})
    found = versus(ours, theirs, GROUPS, draws=50)
    assert found["rows"] == 2
    assert (found["only_ours"], found["only_theirs"]) == (1, 0)
    assert found["difference"] == pytest.approx(1 - 2 / 3)
    assert found["p"] == 1.0  # one row proves nothing


def test_marks_of_both_sides_overlap_into_pieces():
    pieces = marked("Acme bought Beta.", [(0, 4), (12, 16)], [(0, 11)])
    assert [(one["text"], one["mark"]) for one in pieces] == [
        ("Acme", "both"), (" bought", "student"), (" ", ""), ("Beta", "teacher"), (".", ""),
    ]  # fmt: skip
