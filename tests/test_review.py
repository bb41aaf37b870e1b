"""A human check goes out as Label Studio tasks and CSV, and comes back as labels."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import jsonschema
import pyarrow as pa
import pytest

from raydistill import review
from raydistill.answer import Answer
from raydistill.dataset import SCHEMA, Dataset
from raydistill.errors import SetupError
from raydistill.lessons import corrections, label_studio, review_sheet
from raydistill.lessons.review_sheet import Row
from tests.small_dataset import TASK, event, rows, told, write

FORMAT = json.loads((Path(__file__).parent / "data" / "label_studio_task.schema.json").read_text())
WHEN = "2025-03-04T10:00:00.000000Z"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write(tmp_path_factory.mktemp("dataset") / "dataset")


@pytest.fixture(scope="module")
def sheet(made: Dataset) -> list[Row]:
    return review_sheet.sheet(made, "train", rows=60, types=8, seed=1)


def table() -> pa.Table:
    return pa.Table.from_pylist(list(rows()), schema=SCHEMA)


def exported(tasks: list[dict[str, Any]], by: Any = None) -> list[dict[str, Any]]:
    """Tasks as Label Studio exports them after a reviewer accepted every prediction."""
    return [
        {
            "id": number,
            "data": task["data"],
            "annotations": [
                {
                    "id": 1000 + number,
                    "completed_by": by or {"id": 7, "email": "ann@example.com"},
                    "result": [
                        {**one, "origin": "prediction"} for one in task["predictions"][0]["result"]
                    ],
                    "was_cancelled": False,
                    "ground_truth": False,
                    "created_at": WHEN,
                    "updated_at": WHEN,
                }
            ],
            "predictions": [],
        }
        for number, task in enumerate(tasks, start=1)
    ]


def saved(folder: Path, tasks: Any, name: str = "export.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(tasks), encoding="utf-8")
    return file


def test_a_sheet_is_stratified_mixed_and_the_same_for_a_seed(
    made: Dataset, sheet: list[Row]
) -> None:
    assert len(sheet) == 60
    assert len({row.id for row in sheet}) == 60
    strata = Counter(row.stratum for row in sheet)
    assert strata["skip"] == 18
    held = {row.stratum: row.stratum_rows for row in sheet}
    most = max(count for name, count in strata.items() if name != "skip")
    for name, count in strata.items():
        assert count <= held[name]
        assert name == "skip" or count >= min(held[name], most - 1)  # in turn, until it is empty
    assert sum(held.values()) == len(made.table("train"))
    assert sheet == review_sheet.sheet(made, "train", rows=60, types=8, seed=1)
    assert sheet != review_sheet.sheet(made, "train", rows=60, types=8, seed=2)
    assert len(review_sheet.sheet(made, "test", rows=100_000)) == len(made.table("test"))


def test_tasks_have_the_documented_format_and_fit_the_interface(sheet: list[Row]) -> None:
    tasks = label_studio.tasks(sheet, TASK, 3)
    jsonschema.validate(tasks, FORMAT)
    jsonschema.validate([{**one, "predictions": []} for one in exported(tasks)], FORMAT)
    view = xml.fromstring(label_studio.config(TASK, 3))
    controls = {one.get("name"): one for one in view.iter() if one.get("toName")}
    values = {name: {part.get("value") for part in one} for name, one in controls.items()}
    kinds = {"Labels": "labels", "Choices": "choices", "TextArea": "textarea"}
    for task in tasks:
        for region in task["predictions"][0]["result"]:
            control = controls[region["from_name"]]
            assert region["type"] == kinds[control.tag]
            assert region["to_name"] == control.get("toName") == "text"
            said = region["value"]
            if region["type"] != "textarea":
                assert set(said[region["type"]]) <= values[region["from_name"]]
            if region["type"] == "labels":
                assert task["data"]["text"][said["start"] : said["end"]] == said["text"]


def test_accepted_predictions_are_the_teachers_answers(sheet: list[Row], tmp_path: Path) -> None:
    tasks = label_studio.tasks(sheet, TASK, 3)
    said = corrections.read([saved(tmp_path, exported(tasks))], TASK)
    assert {id: one.answer for id, one in said.by_id.items()} == {
        row.id: row.answer for row in sheet
    }
    assert not any(one.changed for one in said.by_id.values())
    assert {one.reviewer for one in said.by_id.values()} == {"ann@example.com"}
    found = corrections.agreement(said, TASK)
    assert (found["whole"], found["tally"]["agreement"]) == (1.0, 1.0)


def test_a_csv_sheet_survives_a_spreadsheet_and_unsigned_rows_say_nothing(
    sheet: list[Row], tmp_path: Path
) -> None:
    file = tmp_path / "sheet.csv"
    review_sheet.write_csv(file, sheet, TASK)
    assert corrections.read([file], TASK).by_id == {}
    with file.open(newline="", encoding="utf-8-sig") as stream:
        lines = list(csv.DictReader(stream))
    for line in lines:
        line |= {"reviewer": "Bo", "reviewed_at": "2025-03-05"}
    rewrite(file, lines)
    said = corrections.read([file], TASK)
    assert {id: one.answer for id, one in said.by_id.items()} == {
        row.id: row.answer for row in sheet
    }
    assert not any(one.changed for one in said.by_id.values())


def rewrite(file: Path, lines: list[dict[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8-sig") as stream:
        out = csv.DictWriter(stream, list(lines[0]))
        out.writeheader()
        out.writerows(lines)


def test_a_cell_that_looks_like_a_formula_is_text_there_and_back(tmp_path: Path) -> None:
    text = '=HYPERLINK("http://x") - @SUM, \'quoted\' "We" issued notes,\nand more.'
    row = Row("+1", "@g", text, event(text, subject="'quoted'", object="=HYPERLINK"), "s", 1)
    file = tmp_path / "sheet.csv"
    review_sheet.write_csv(file, [row], TASK)
    with file.open(newline="", encoding="utf-8-sig") as stream:
        (line,) = csv.DictReader(stream)
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in line.values())
    rewrite(file, [line | {"reviewer": "Bo", "reviewed_at": "2025-03-05"}])
    (one,) = corrections.read([file], TASK).by_id.values()
    assert (one.row.id, one.row.text, one.answer) == ("+1", text, row.answer)


def test_a_corrected_file_changes_exactly_those_labels(sheet: list[Row], tmp_path: Path) -> None:
    """Six sentences are changed, each in another way; every other row stays as it is."""
    whole = exported(label_studio.tasks(sheet, TASK, 3))
    events = [one for one in whole if told(one["data"]["teacher_answer"])]
    quiet = next(one for one in whole if not told(one["data"]["teacher_answer"]))
    results = [one["annotations"][0]["result"] for one in events]

    def control(result: list[dict[str, Any]], name: str) -> dict[str, Any]:
        return next(one for one in result if one["from_name"] == name)["value"]

    control(results[0], "sentiment_1")["choices"] = [
        "negative"
        if "negative" not in control(results[0], "sentiment_1")["choices"]
        else "positive"
    ]
    control(results[1], "event_type_1")["text"] = ["Changed Name"]
    control(results[2], "records")["choices"] = ["0"]
    with_region = next(r for r in results[3:] if any(o["from_name"] == "spans" for o in r))
    moved = next(one for one in with_region if one["from_name"] == "spans")["value"]
    moved |= {"start": 0, "end": 4}
    text = next(t["data"]["text"] for t in events if t["annotations"][0]["result"] is with_region)
    moved["text"] = text[:4]
    new = [
        ("records", "choices", {"choices": ["1"]}),
        ("event_type_1", "textarea", {"text": ["held_meeting"]}),
        ("magnitude_class_1", "choices", {"choices": ["minor"]}),
        ("timing_1", "choices", {"choices": ["definitive"]}),
        ("sentiment_1", "choices", {"choices": ["neutral"]}),
        ("materiality_1", "choices", {"choices": ["immaterial"]}),
        ("confidence_1", "choices", {"choices": ["9"]}),
        ("date_confidence_1", "choices", {"choices": ["0"]}),
        ("subject_1", "textarea", {"text": ["not in the sentence"]}),
    ]
    quiet["annotations"][0]["result"] = [
        {"id": str(n), "from_name": name, "to_name": "text", "type": kind, "value": value}
        for n, (name, kind, value) in enumerate(new)
    ]
    said = corrections.read([saved(tmp_path, whole)], TASK)
    before = table()
    after, applied = corrections.apply(before, said)
    assert after.schema == before.schema
    assert set(applied) == {row.id for row in sheet}
    old = {row["id"]: row for row in before.to_pylist()}
    changed = {row["id"]: row for row in after.to_pylist() if row != old[row["id"]]}
    wanted = [events[0], events[1], events[2], quiet]
    ids = {one["data"]["sentence_id"] for one in wanted}
    ids |= {
        t["data"]["sentence_id"] for t in events if t["annotations"][0]["result"] is with_region
    }
    assert set(changed) == ids
    for id, row in changed.items():
        assert {**row, "answer": "", "keep": True} == {**old[id], "answer": "", "keep": True}
    assert (
        told(changed[events[1]["data"]["sentence_id"]]["answer"])[0]["event_type"] == "changed_name"
    )
    gone = changed[events[2]["data"]["sentence_id"]]
    assert (gone["answer"], gone["keep"]) == (TASK.render(Answer()), False)
    made_up = changed[quiet["data"]["sentence_id"]]
    assert made_up["keep"] is True
    assert told(made_up["answer"])[0]["subject"] == "not in the sentence"
    manifest = said.manifest(applied)
    assert {one["id"] for one in manifest["labels"]} == ids
    assert {(one["reviewer"], one["date"]) for one in manifest["labels"]} == {
        ("ann@example.com", WHEN)
    }
    assert (manifest["reviewed"], manifest["changed"]) == (60, 5)
    found = corrections.agreement(said, TASK)
    assert found["tally"]["agreement"] == pytest.approx(55 / 60)
    assert found["whole"] != pytest.approx(55 / 60)  # weighted to the split
    assert 0 <= found["interval"][0] < found["whole"] < found["interval"][1] <= 1


def test_a_row_whose_text_is_another_keeps_its_label(sheet: list[Row], tmp_path: Path) -> None:
    whole = exported(label_studio.tasks(sheet[:1], TASK, 3))
    whole[0]["data"]["text"] = "Another sentence."
    whole[0]["annotations"][0]["result"] = []
    said = corrections.read([saved(tmp_path, whole)], TASK)
    after, applied = corrections.apply(table(), said)
    assert applied == []
    assert after.equals(table())


def test_of_several_annotations_the_newest_counts_and_cancelled_ones_do_not(
    sheet: list[Row], tmp_path: Path
) -> None:
    (task,) = exported(label_studio.tasks([r for r in sheet if told(r.answer)][:1], TASK, 3))
    first = task["annotations"][0]
    empty = [{"id": "c", "from_name": "records", "to_name": "text", "type": "choices",
              "value": {"choices": ["0"]}}]  # fmt: skip
    newer = {**first, "completed_by": 3, "updated_at": "2025-04-01T00:00:00Z", "result": empty}
    last = {**newer, "was_cancelled": True, "updated_at": "2025-05-01T00:00:00Z"}
    task["annotations"] = [newer, first, last]
    (one,) = corrections.read([saved(tmp_path, [task])], TASK).by_id.values()
    assert (one.reviewer, one.answer) == ("3", '{"skip":true}')
    first["ground_truth"] = True
    (one,) = corrections.read([saved(tmp_path, [task])], TASK).by_id.values()
    assert one.reviewer == "ann@example.com"
    task["annotations"] = [last]
    assert corrections.read([saved(tmp_path, [task])], TASK).by_id == {}


def test_what_is_no_answer_is_a_reject_with_its_code(sheet: list[Row], tmp_path: Path) -> None:
    some = exported(label_studio.tasks([row for row in sheet if told(row.answer)][:3], TASK, 3))
    for one in some[0]["annotations"][0]["result"]:
        if one["from_name"] == "event_date_1":
            one["value"]["text"] = ["some day"]
            break
    else:
        some[0]["annotations"][0]["result"].append(
            {"id": "d", "from_name": "event_date_1", "to_name": "text", "type": "textarea",
             "value": {"text": ["some day"]}}
        )  # fmt: skip
    some[1]["annotations"][0]["result"][0]["value"] = {"choices": []}
    said = corrections.read([saved(tmp_path, some)], TASK)
    assert sorted(code for _, code in said.rejects) == ["bad_annotation", "bad_date"]
    assert len(said.by_id) == 1


def test_region_text_goes_before_offsets_that_a_browser_counted(tmp_path: Path) -> None:
    text = "😀 Acme issued notes."
    row = Row("s", "g", text, event(text, subject="Acme"), "s", 1)
    (task,) = exported(label_studio.tasks([row], TASK, 1))
    region = next(one for one in task["annotations"][0]["result"] if one["from_name"] == "spans")
    region["value"] |= {"start": 3, "end": 7}  # UTF-16 units
    (one,) = corrections.read([saved(tmp_path, [task])], TASK).by_id.values()
    assert told(one.answer)[0]["subject"] == "Acme"


@pytest.mark.parametrize("text", ["{", '[{"text": "min"}]', "[1]", '{"a": {}}'])
def test_a_file_that_is_no_export_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(SetupError, match="export"):
        corrections.read([file], TASK)


def test_missing_files_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no corrections at"):
        corrections.read([tmp_path / "none.json"], TASK)
    file = tmp_path / "x.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(SetupError, match=r"lacks the columns .*reviewer"):
        corrections.read([file], TASK)


def test_the_verb_writes_a_sheet_and_reads_it_back(
    made: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"dataset": str(made.folder), "out": str(tmp_path / "out"), "split": "train"}
    review.run(review.Config(rows=20, **settings))
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    jsonschema.validate(tasks, FORMAT)
    xml.parse(tmp_path / "out" / "labeling.xml")
    file = saved(tmp_path, exported(tasks))
    found = review.run(review.Config(corrections=[str(file)], **settings))
    assert found["reviewed"] == 20
    assert "people agree with the teacher on 100.0%" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "review.json").read_text())["whole"] == 1.0
