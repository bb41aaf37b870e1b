"""Who of several specialists answers for what, who is asked, and what becomes of what they say."""

import numpy as np
import pytest

from raydistill.answer import Answer
from raydistill.errors import AnswerError, SetupError
from raydistill.specialists import Specialists
from raydistill.tasks import TASKS

TASK = TASKS["filing_events"].with_vocabulary(
    {"event_type": ("issued_notes", "dismissed", "hired")}
)
PARTS = Specialists.of(TASK, {"debt": ["issued_notes"], "rest": []})


def _answer(*types, subject=None):
    return TASK.answer([{"event_type": one, "subject": subject} | _REST for one in types])


_REST = {
    "magnitude_class": "major", "timing": "definitive", "sentiment": "neutral",
    "materiality": "material", "confidence": 9, "date_confidence": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"debt": ["issued_notes"]}, "only 1 of them"),
        ({"debt": [], "rest": []}, "debt, rest: each has all other values"),
        ({"debt": ["hired"], "people": ["hired", "dismissed"]}, "hired: of two specialists"),
        ({"../debt": ["hired"], "rest": []}, "the names ../debt"),
        ({"debt": ["issued_nots"], "rest": []}, "did you mean issued_notes"),
        ({"debt": ["issued_notes"], "people": ["hired"]}, "no specialist answers for dismissed"),
    ],
)
def test_every_value_belongs_to_one_specialist_or_none_begins(values, said):
    with pytest.raises(SetupError, match=said.replace("../", r"\.\./")):
        Specialists.of(TASK, values)


def test_a_task_of_one_record_has_no_specialists():
    with pytest.raises(SetupError, match="a task of one record, query_kind"):
        Specialists.of(TASKS["query_kind"], {"a": ["list"], "b": []})


def test_a_sentence_is_of_the_classes_of_its_records():
    assert PARTS.classes(Answer()) == [0]
    assert PARTS.classes(_answer("hired")) == [2]
    assert PARTS.classes(_answer("hired", "issued_notes", "spelled_out_type")) == [1, 2]
    people = {"debt": ["issued_notes"], "people": ["hired", "dismissed"]}
    with pytest.raises(SetupError, match="no specialist answers for spelled_out_type"):
        Specialists.of(TASK, people).classes(_answer("spelled_out_type"))


def test_the_likeliest_is_asked_and_whoever_is_at_the_threshold():
    shares = np.array([[0.9, 0.06, 0.04], [0.1, 0.5, 0.4], [0.0, 0.2, 0.8]], np.float32)
    assert PARTS.routes(shares, 0.3) == [["debt"], ["debt", "rest"], ["rest"]]
    assert PARTS.routes(shares, 0.9) == [["debt"], ["debt"], ["rest"]]
    assert PARTS.routes(np.zeros((0, 3), np.float32), 0.3) == []


def test_each_is_asked_once_about_its_own_sentences():
    asked = []

    def ask(name):
        return lambda texts: asked.append((name, texts)) or [f"{name} {text}" for text in texts]

    routes = [["debt", "rest"], ["rest"], ["rest", "debt"]]
    said = PARTS.said(["a", "b", "c"], routes, {name: ask(name) for name in PARTS.names})
    assert said[0] == {"debt": "debt a", "rest": "rest a"}
    assert list(said[2]) == ["debt", "rest"]
    assert asked == [("debt", ["a", "c"]), ("rest", ["a", "b", "c"])]
    PARTS.said(["a"], [["rest"]], {"rest": ask("rest")})


def test_a_value_is_the_word_of_its_own_specialist_where_that_was_asked():
    own, other = _answer("issued_notes", subject="A"), _answer("issued_notes", subject="B")
    both = {"debt": own, "rest": _answer("issued_notes", "hired", subject="B")}
    assert PARTS.joined(both) == Answer((*own.records, *_answer("hired", subject="B").records))
    assert PARTS.joined({"rest": other}) == other
    assert PARTS.joined({"debt": Answer(), "rest": Answer()}) == Answer()


def test_an_error_of_one_is_the_answers_error_and_too_many_records_are_one():
    problem = AnswerError("bad_span", "no such token")
    assert PARTS.joined({"debt": _answer("issued_notes"), "rest": problem}) is problem
    many = [_answer(*(f"type_{letter}_{at}" for at in range(9))) for letter in "ab"]
    assert PARTS.joined({"debt": many[0], "rest": many[1]}) == many[1]
    three = Specialists.of(TASK, {"debt": ["issued_notes"], "people": ["hired"], "rest": []})
    strays = {"debt": many[0], "people": many[1]}
    assert three.joined(strays).code == "too_many_records"
