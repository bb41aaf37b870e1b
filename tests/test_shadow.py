import json

import pyarrow as pa
import pytest

from raydistill import dataset, postgres, shadow
from raydistill.answer import Answer
from raydistill.demo.world import world, write
from raydistill.endpoint import EndpointConfig
from raydistill.errors import SetupError
from raydistill.proof import drawn
from raydistill.shadow import BarConfig
from raydistill.source import SourceConfig
from raydistill.tasks import TASKS
from tests.noise import noisy
from tests.openai_server import Says, serving

TASK = TASKS["filing_events"]


@pytest.fixture(scope="module")
def rows():
    """20,000 sentences of demo filings with the teacher's answers, one in ten with events."""
    made = world(
        seed=5, filings=20, companies=20, sentences_per_filing=1000,
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
    assert 15_000 < len(table) < 25_000
    return pa.Table.from_pylist(table, schema=dataset.SCHEMA)


def _drawn(rows, *, most=100_000, batch=500, seed=0):
    return drawn.of_table(rows, most=most, batch=batch, seed=seed)


def test_a_good_student_gets_a_go_before_the_rows_are_spent(rows):
    outcome = shadow.shadow(_drawn(rows), TASK, noisy(TASK, wrong=0.01), BarConfig(agreement=0.9))
    assert outcome.verdict == "go"
    assert len(outcome.scores) < len(rows)


def test_a_bad_student_gets_a_no_go_early(rows):
    outcome = shadow.shadow(_drawn(rows), TASK, noisy(TASK, wrong=0.3), BarConfig(agreement=0.95))
    assert outcome.verdict == "nogo"
    assert len(outcome.scores) <= 2000


def test_a_student_that_invents_gets_a_no_go_whatever_it_finds(rows):
    student = noisy(TASK, wrong=0.0, invented=0.05)
    bar = BarConfig(agreement=0.05, invented_per_1000=5)
    outcome = shadow.shadow(_drawn(rows), TASK, student, bar)
    assert outcome.verdict == "nogo"
    assert outcome.invented["low"] > 0.005


def test_a_student_at_the_bar_stays_undecided_and_the_page_says_so(rows):
    outcome = shadow.shadow(_drawn(rows), TASK, noisy(TASK, wrong=0.05), BarConfig(agreement=0.95))
    assert outcome.verdict == "undecided"
    assert len(outcome.scores) == len(rows)
    assert any("not yet surely" in reason for reason in outcome.reasons)


def test_the_order_of_rows_does_not_depend_on_the_table(rows):
    student = noisy(TASK, wrong=0.0)
    one = shadow.shadow(
        _drawn(rows), TASK, student, BarConfig(agreement=0.5, invented_per_1000=100)
    )
    turned = rows.take(pa.array(range(len(rows) - 1, -1, -1)))
    other = shadow.shadow(
        _drawn(turned), TASK, student, BarConfig(agreement=0.5, invented_per_1000=100)
    )
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


@pytest.fixture
def stored(database):
    """A database with a small world of the teacher's; half of its filings are not read yet."""
    made = world(
        seed=9, filings=12, companies=6, sentences_per_filing=300,
        event_share=0.2, keyword_share=0.3, unread=0.5,
    )  # fmt: skip
    write(made, database)
    return database, made


@pytest.mark.postgres
def test_stored_answers_are_read_for_filings_the_teacher_has_finished(stored):
    database, made = stored
    source = SourceConfig(dsn=database)
    rows = drawn.of_source(
        database, source, TASK, filings=100, most=10_000, batch=64, seed=1, answered=True
    )
    table = pa.concat_tables(list(rows.batches))
    done = {f["filing_id"]: f["cik"] for f in made.filings.to_pylist() if f["teacher_done_at"]}
    sentences = {s["sentence_id"]: s for s in made.sentences.to_pylist()}
    assert 0 < len(done) < 12
    assert set(table["id"].to_pylist()) == {
        id for id, one in sentences.items() if one["filing_id"] in done
    }
    said = {}
    for row in made.events.to_pylist():
        said.setdefault(row["sentence_id"], []).append(row)
    for row in table.to_pylist():
        one = sentences[row["id"]]
        assert (row["text"], row["group"]) == (one["sentence"], done[one["filing_id"]])
        truth = TASK.answer(said.get(row["id"], []), row["text"])
        assert TASK.score(truth, TASK.parse(row["answer"])).exact


@pytest.mark.postgres
def test_a_sentence_whose_events_a_filter_leaves_out_has_no_answer_that_is_known(stored):
    database, made = stored
    source = SourceConfig(dsn=database)
    source.events.where = "confidence >= 9 -- {no hole}, no 100%"
    rows = drawn.of_source(
        database, source, TASK, filings=100, most=10_000, batch=64, seed=1, answered=True
    )
    found = {one["id"]: one for one in pa.concat_tables(list(rows.batches)).to_pylist()}
    sure, all_of = {}, {}
    for row in made.events.to_pylist():
        if row["sentence_id"] in found:
            all_of.setdefault(row["sentence_id"], []).append(row)
            if row["confidence"] >= 9:
                sure.setdefault(row["sentence_id"], []).append(row)
    left_out = {id for id, one in found.items() if one["code"] == "left_out"}
    assert left_out == set(all_of) - set(sure)
    assert left_out
    assert all(found[id]["answer"] is None for id in left_out)
    quiet = {id for id, one in found.items() if one["answer"] == '{"skip":true}'}
    assert quiet == set(found) - set(all_of)


@pytest.mark.postgres
def test_an_invalid_stored_answer_is_left_out_and_counted(stored):
    database, _ = stored
    with postgres.connect(database) as connection:
        postgres.script(
            connection,
            "UPDATE kee.events SET sentiment = 'blue' WHERE sentence_id IN"
            " (SELECT sentence_id FROM kee.events ORDER BY 1 LIMIT 5)",
        )
    rows = drawn.of_source(
        database, SourceConfig(dsn=database), TASK, filings=100, most=10_000, batch=64, seed=1,
        answered=True,
    )  # fmt: skip
    outcome = shadow.shadow(rows, TASK, noisy(TASK, wrong=0.0), BarConfig(least=10_000))
    assert 1 <= sum(outcome.unanswered.values()) <= 5
    assert set(outcome.unanswered) == {"unknown_choice"}
    assert len(outcome.scores) + sum(outcome.unanswered.values()) == rows.available


@pytest.mark.postgres
def test_a_release_is_shadowed_against_a_live_endpoint_with_measured_cost(stored, tiny, tmp_path):
    database, made = stored
    said = {}
    for row in made.events.to_pylist():
        said.setdefault(row["sentence"], []).append(row)

    def says(number, prompt):
        text = prompt.split("Text: ")[1].removesuffix("\nAnswer:")
        if number % 20 == 0:
            return Says(text="I cannot say.")
        return Says(text=TASK.render(TASK.answer(said.get(text, []), text)))

    with serving(says) as server:
        config = shadow.Config(
            release=str(tiny.release.folder), out=str(tmp_path), threads=1, batch=100, rows=200,
            sentences=shadow.Sentences.source, teacher=shadow.TeacherKind.endpoint,
            source=SourceConfig(dsn=database),
            endpoint=EndpointConfig(url=server.url, model="teacher", concurrency=4),
        )  # fmt: skip
        config.cost.teacher.usd_per_million_input = 1.0
        config.cost.teacher.usd_per_million_output = 10.0
        found = shadow.run(config)
    assert found["verdict"] in ("nogo", "undecided")
    assert found["unanswered"] == {"no_json": len(server.requests) // 20}
    teacher = found["cost"]["teacher"]
    assert (teacher["input_tokens"], teacher["output_tokens"]) == (100, 10)
    assert teacher["usd_per_question"] == pytest.approx((100 * 1 + 10 * 10) / 1e6)
    page = (tmp_path / "shadow.html").read_text()
    assert "teacher, live" in page
    assert "cost of a filing" in page
    assert "measured here, too" in page


def test_a_teacher_that_answers_nothing_ends_the_run_with_its_codes(rows):
    def silent(piece):
        return pa.table(
            {name: piece[name] for name in ("id", "group", "text")}
            | {"answer": pa.nulls(len(piece), pa.string()), "code": ["timeout"] * len(piece)}
        )

    with pytest.raises(SetupError, match="timeout 100"):
        shadow.shadow(
            _drawn(rows, batch=100), TASK, noisy(TASK, wrong=0.0), BarConfig(), teacher=silent
        )


def test_the_cascade_answers_every_row_in_order(tiny):
    rows = tiny.dataset.table("test").slice(0, 60)
    student = shadow.CascadeStudent(tiny.release, threads=1)
    answers = student(rows)
    assert len(answers) == 60
    turned = rows.take(pa.array(range(59, -1, -1)))
    assert [str(one) for one in student(turned)] == [str(one) for one in reversed(answers)]
    assert any(isinstance(one, Answer) and not one.records for one in answers)
