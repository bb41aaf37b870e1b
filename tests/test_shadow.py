import json

import pyarrow as pa
import pytest

from raydistill import dataset, shadow
from raydistill.answer import Answer
from raydistill.demo.world import world
from raydistill.shadow import BarConfig
from raydistill.tasks import TASKS
from tests.noise import noisy

TASK = TASKS["filing_events"]


@pytest.fixture(scope="module")
def rows():
    """Sentences of 20 demo filings with the teacher's answers, one in ten with events."""
    made = world(
        seed=5, filings=20, companies=20, sentences_per_filing=250,
        event_share=0.1, keyword_share=0.2, unread=0.0,
    )  # fmt: skip
    said = {}
    for row in made.events.to_pylist():
        said.setdefault(row["sentence_id"], []).append(row)
    table = []
    for row in made.sentences.to_pylist():
        answer = TASK.answer(said.get(row["sentence_id"], []), row["sentence"])
        one = {"id": row["sentence_id"], "group": row["filing_id"], "task": TASK.name}
        one |= {"text": row["sentence"], "answer": TASK.render(answer), "weight": 1.0}
        table.append(one | {"keep": bool(answer.records), "form": "10-K", "year": 2020})
    return pa.Table.from_pylist(table, schema=dataset.SCHEMA)


def test_a_good_student_gets_a_go_before_the_rows_are_spent(rows):
    outcome = shadow.shadow(rows, TASK, noisy(TASK, wrong=0.01), BarConfig(agreement=0.9))
    assert outcome.verdict == "go"
    assert len(outcome.scores) < len(rows)


def test_a_bad_student_gets_a_no_go_early(rows):
    outcome = shadow.shadow(rows, TASK, noisy(TASK, wrong=0.3), BarConfig(agreement=0.95))
    assert outcome.verdict == "nogo"
    assert len(outcome.scores) <= 2000


def test_a_student_that_invents_gets_a_no_go_whatever_it_finds(rows):
    student = noisy(TASK, wrong=0.0, invented=0.05)
    bar = BarConfig(agreement=0.05, invented_per_1000=5)
    outcome = shadow.shadow(rows, TASK, student, bar)
    assert outcome.verdict == "nogo"
    assert outcome.invented["low"] > 0.005


def test_a_student_at_the_bar_stays_undecided_and_the_page_says_so(rows):
    outcome = shadow.shadow(rows, TASK, noisy(TASK, wrong=0.05), BarConfig(agreement=0.95))
    assert outcome.verdict == "undecided"
    assert len(outcome.scores) == len(rows)
    assert any("not yet surely" in reason for reason in outcome.reasons)


def test_the_order_of_rows_does_not_depend_on_the_table(rows):
    student = noisy(TASK, wrong=0.0)
    one = shadow.shadow(rows, TASK, student, BarConfig(agreement=0.5, invented_per_1000=100))
    turned = rows.take(pa.array(range(len(rows) - 1, -1, -1)))
    other = shadow.shadow(turned, TASK, student, BarConfig(agreement=0.5, invented_per_1000=100))
    assert list(one.scores) == list(other.scores)


def test_a_release_is_shadowed_and_its_page_has_the_verdict_and_the_costs(tiny, tmp_path):
    config = shadow.Config(
        dataset=str(tiny.dataset.folder), release=str(tiny.release.folder), out=str(tmp_path),
        threads=1, batch=200,
    )  # fmt: skip
    made = shadow.run(config)
    assert made["verdict"] == "nogo"  # 64 dimensions are no replacement for a teacher
    assert made["rows"] < made["available"]
    page = (tmp_path / "shadow.html").read_text()
    assert "no-go" in page
    assert "cost of a million tokens" in page
    assert json.loads((tmp_path / "shadow.json").read_text())["verdict"] == "nogo"


def test_the_cascade_answers_every_row_in_order(tiny):
    rows = tiny.dataset.table("test").slice(0, 60)
    student = shadow.CascadeStudent(tiny.release, threads=1)
    answers = student(rows)
    assert len(answers) == 60
    turned = rows.take(pa.array(range(59, -1, -1)))
    assert [str(one) for one in student(turned)] == [str(one) for one in reversed(answers)]
    assert any(isinstance(one, Answer) and not one.records for one in answers)
