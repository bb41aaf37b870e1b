"""Questions: from the demo's rows to one student that answers four tasks, by the verbs."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill import build, dataset, evaluate, publish, train
from raydistill.answer import Answer
from raydistill.config import compose
from raydistill.demo import questions
from raydistill.errors import AnswerError, SetupError
from raydistill.export import lines
from raydistill.frame import SEQ2SEQ, scratch
from raydistill.pipeline import Cascade
from raydistill.proof import model_card
from raydistill.proof.gates import Gates, refusals
from raydistill.questions import cases
from raydistill.questions.answering import Answerer, answer
from raydistill.questions.asking import asking, mark, rows_of
from raydistill.questions.lessons import read
from raydistill.questions.mixture import check_weights, repeated
from raydistill.questions.rules import base
from raydistill.release import verify
from raydistill.tasks import QUESTIONS, TASKS
from tests.serving import served

SHARED = Path(__file__).parents[2] / "shared" / "tasks"
NAMES = [task.name for task in QUESTIONS]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The dataset of a few demo questions, by `build task=questions`."""
    folder = tmp_path_factory.mktemp("questions")
    made = questions.table(seed=3, questions=500, companies=40)
    pq.write_table(made, folder / "rows.parquet")
    overrides = ["task=questions", "source=rows", f"source.path={folder / 'rows.parquet'}",
                 f"out={folder / 'dataset'}", "positions=96", "vocabulary=900"]  # fmt: skip
    return build.run(compose("build", build.Config, overrides))


@pytest.fixture(scope="module")
def released(built):
    """The release of a student that has learned a little of all four tasks."""
    root = built.folder.parent
    overrides = ["student=questions_s", f"dataset={built.folder}", f"out={root / 'student'}",
                 "workers=0", "threads=1", "fit.steps=220", "fit.batch_tokens=2500",
                 "student.width=64", "student.layers=1", "student.heads=2",
                 "student.max_input=96", "fit.bf16=false",
                 "+weights.query_kind=0.5",
                 "+weights.query_dates=1.5"]  # fmt: skip
    train.run(compose("train", train.Config, overrides))
    return publish.run(
        publish.Config(
            dataset=str(built.folder),
            skip="",
            extractor=str(root / "student"),
            out=str(root / "release"),
            label="questions",
            parity=0.5,  # a student this unsure of itself is not the same in 8 bits
            parity_rows=80,
            threads=1,
        )
    )


def test_the_demo_asks_the_same_questions_for_the_same_seed():
    first, again, other = (questions.table(seed=seed, questions=50) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


def test_every_demo_answer_is_in_its_tasks_one_json_form():
    for row in questions.table(seed=4, questions=300).to_pylist():
        task = TASKS[row["task"]]
        made = task.parse(row["answer"], row["text"])
        assert task.render(made) == row["answer"]
        if row["task"] == "query_entities":
            assert all(record["name"] in row["text"] for record in made.records)


def test_rules_alone_do_not_solve_the_demos_dates():
    rows = rows_of(questions.table(seed=5, questions=400), TASKS["query_dates"])
    task, ruled = TASKS["query_dates"], base(TASKS["query_dates"], [])
    right = sum(
        ruled(row["text"]) == task.parse(row["answer"], row["text"]) for row in rows.to_pylist()
    )
    assert 0.5 < right / len(rows) < 0.97


def test_a_mixture_is_one_dataset_of_all_its_tasks(built):
    assert [task.name for task in built.tasks] == NAMES
    assert [one["name"] for one in built.manifest["tasks"]] == NAMES
    assert dataset.open_(built.folder).task_named("query_dates").fields[1].name == "end"
    tokenizer = built.tokenizer()
    assert all(tokenizer.raw.token_to_id(mark(name)) is not None for name in NAMES)
    groups = [set(built.table(name)["group"].to_pylist()) for name in dataset.SPLITS]
    assert all(groups)
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert set(built.table("train")["task"].to_pylist()) == set(NAMES)


def test_a_mixture_is_exported_row_by_row_under_its_tasks_own_prompt(built):
    told = {}
    for line, row in zip(
        lines(built, "val", "alpaca"), built.table("val").to_pylist(), strict=True
    ):
        assert line["instruction"] == TASKS[row["task"]].instruction
        told[row["task"]] = line["output"]
    assert set(told) == set(NAMES)


def test_verbs_of_one_task_refuse_a_mixture(built):
    with pytest.raises(SetupError, match="4 tasks"):
        dataset.of_one_task(built.folder)


def test_rows_that_do_not_parse_are_rejects_with_a_code(tmp_path):
    told = [
        ("a", "query_kind", "How many?", '{"kind":"poem"}'),
        ("b", "query_kind", "Which?", {"kind": "list"}),
        ("c", "query_kind", "Which?", {"kind": "count"}),
        ("d", "weather", "Sun?", "{}"),
    ]
    names = ("id", "task", "text", "answer")
    rows = [{"group": "x"} | dict(zip(names, one, strict=True)) for one in told]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    overrides = ["task=questions", "source=rows", f"source.path={tmp_path / 'rows.jsonl'}",
                 f"out={tmp_path / 'dataset'}", "vocabulary=300", "split.test=0",
                 "split.val=0"]  # fmt: skip
    made = build.run(compose("build", build.Config, overrides))
    account = made.manifest["account"]
    assert made.manifest["rejects"] == {"unknown_choice": 1}
    assert (account["kept"], account["contradicting"], account["other_task"]) == (1, 1, 1)


def test_a_mixture_needs_a_file_of_rows(tmp_path):
    with pytest.raises(SetupError, match="source=rows"):
        build.run(compose("build", build.Config, ["task=questions", f"out={tmp_path}/d"]))
    with pytest.raises(SetupError, match=r"questions\.py"):
        read(tmp_path / "none.parquet")


def test_weights_repeat_and_thin_out_a_tasks_rows(built):
    rows = rows_of(built.table("train"), TASKS["query_kind"])
    assert len(repeated(rows, 2.5, seed=0)) == int(2.5 * len(rows))
    assert repeated(rows, 1.0, seed=0).equals(rows)
    heavy = rows.set_column(
        rows.schema.get_field_index("weight"), "weight", pa.array([3.0] + [0.0] * (len(rows) - 1))
    )
    assert repeated(heavy, 1.0, seed=0)["id"].to_pylist() == rows["id"].to_pylist()[:1] * 3
    assert len(repeated(rows, 0.0, seed=0)) == 0
    with pytest.raises(SetupError, match="query_poem"):
        check_weights({"query_poem": 1.0}, QUESTIONS)


def test_the_mark_of_a_task_leaves_the_texts_positions_alone():
    frame = asking(scratch(SEQ2SEQ), TASKS["query_dates"])
    assert frame.tokens(["a", "b"]) == ["a", "b", "<task=query_dates>", "</s>"]


def test_one_release_answers_four_tasks_and_says_which(released):
    opened = verify(released.folder)
    assert [task.name for task in opened.tasks] == NAMES
    assert verify(released.folder, expected=TASKS["query_dates"]).name == opened.name
    with pytest.raises(SetupError, match="query_kind"):
        verify(released.folder, expected=TASKS["filing_events"])
    with pytest.raises(SetupError, match="query_poem"):
        answer(opened, "query_poem", ["How many?"])


def test_answers_come_in_order_in_the_form_of_the_task_that_was_asked(released, built):
    texts = ["How many companies did Oakhaven acquire in 2019?", "a " * 200, "$226"]
    kinds = answer(released, "query_kind", texts)
    assert isinstance(kinds[1], AnswerError)
    assert kinds[1].code == "too_many_tokens"
    assert isinstance(kinds[0], Answer)
    assert list(kinds[0].records[0]) == ["kind"]
    asked = rows_of(built.table("train"), TASKS["query_currency"]).slice(0, 40)
    for one in answer(released.folder, "query_currency", asked["text"].to_pylist()):
        if isinstance(one, Answer):
            assert all(list(record) == ["amount", "currency"] for record in one.records)


def test_the_student_learns_to_tell_its_tasks_apart(released, built):
    answerer = Answerer(released, threads=1)
    for task in QUESTIONS:
        texts = rows_of(built.table("train"), task)["text"].to_pylist()[:30]
        wrong = sum(isinstance(one, AnswerError) for one in answerer(task.name, texts))
        assert wrong <= 5, task.name


def test_a_student_that_writes_takes_a_mixture_too(built, tmp_path):
    overrides = ["student=seq2seq_s", f"dataset={built.folder}", f"out={tmp_path / 'student'}",
                 "workers=0", "threads=1", "fit.steps=4", "fit.batch_tokens=1500", "fit.shift=0",
                 "student.width=32", "student.layers=1", "student.heads=2", "fit.bf16=false",
                 "student.max_input=96", "student.max_output=64", "fit.validate_every=4",
                 "fit.validate_rows=8"]  # fmt: skip
    train.run(compose("train", train.Config, overrides))
    release = publish.run(
        publish.Config(
            dataset=str(built.folder), skip="", extractor=str(tmp_path / "student"),
            label="written", out=str(tmp_path / "release"), parity=1.0, parity_rows=20, threads=1,
            quantisation="auto", formats=["int8", "float32"],
        )
    )  # fmt: skip
    said = Answerer(release, threads=1)("query_dates", ["[2019-07-04] Sales in 2018?"])
    assert isinstance(said[0], Answer | AnswerError)
    rows = {row["format"]: row for row in release.manifest.metrics["formats"]}
    assert list(rows) == ["int8", "float32"]
    assert rows["float32"]["master"] == 1.0
    assert release.manifest.quantisation in rows


def test_evaluate_reports_each_task_beside_its_base(released, built, tmp_path):
    made = evaluate.run(
        evaluate.Config(
            dataset=str(built.folder), release=str(released.folder), out=str(tmp_path), threads=1
        )
    )
    assert [row["task"] for row in made["tasks"]] == NAMES
    for row in made["tasks"]:
        for side in ("student", "base"):
            assert {"precision", "recall", "f1", "recall_only", "valid"} <= set(row[side])
    assert (tmp_path / "report.md").is_file()
    assert json.loads((tmp_path / "report.json").read_text())["release"] == released.name
    card = model_card.markdown(released.manifest, made)
    assert all(f"| {name} | test |" in card for name in NAMES)


def test_a_service_that_answers_loads_nothing_that_trains():
    code = "import sys, raydistill.questions.answering; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_each_task_of_a_release_has_to_pass_the_gate(released):
    good = {"task": "query_kind", "source": "test", "student": {"f1": 0.99}}
    bad = {"task": "query_dates", "source": "test", "student": {"f1": 0.96}}
    before = {"tasks": [good, bad | {"student": {"f1": 0.99}}]}
    lax = Gates(licence=False, max_parity=1.0)
    assert refusals(released, {"tasks": [good, bad]}, None, lax) == []
    (reason,) = refusals(released, {"tasks": [good, bad]}, before, lax)
    assert "query_dates" in reason
    assert "99.0%" in reason
    strict = Gates(licence=False, max_parity=1.0, min_agreement=0.98)
    assert len(refusals(released, {"tasks": [good, bad]}, None, strict)) == 1


def test_a_release_of_questions_is_not_run_over_filings(released):
    with pytest.raises(SetupError, match="no skip stage"):
        Cascade(released, threads=1)


def test_the_service_answers_each_task_as_the_release_does(released, built, tiny):
    texts = built.table("test")["text"].to_pylist()[:20]

    async def story():
        async with served(tiny.release.folder, releases=[str(released.folder)]) as client:
            found = {}
            for name in NAMES:
                path = f"/v1/tasks/{name}"
                made = (await client.post(path, json={"sentences": texts})).json()
                assert made["release"] == released.name
                found[name] = made["results"]
            return found

    for name, results in asyncio.run(story()).items():
        for one, expected in zip(results, answer(released, name, texts), strict=True):
            if isinstance(expected, AnswerError):
                assert (one["error"], one["records"]) == (expected.code, [])
            else:
                assert one["records"] == [dict(record) for record in expected.records]


def test_absent_third_party_files_are_said_to_be_absent(tmp_path):
    found = cases.read(tmp_path)
    assert all(one.absent and not one.cases for one in found)
    assert {one.task.name for one in found} == set(NAMES)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent")
def test_third_party_cases_are_in_our_form_and_each_row_left_out_has_a_reason():
    for one in cases.read(SHARED):
        assert one.absent is None
        assert len(one.cases) > 70, one.source
        for case, truth in one.cases:
            assert one.task.parse(one.task.render(truth), case.text) == truth
    fire = next(one for one in cases.read(SHARED) if one.source.startswith("fire"))
    names = {record["name"] for _, truth in fire.cases for record in truth.records}
    assert "Tata Consultancy Services ( TCS )" in names
