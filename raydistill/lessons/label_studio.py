"""Label Studio: review sheets as its tasks with the teacher's answer drawn in, and its export back.

Formats: https://labelstud.io/guide/task_format and https://labelstud.io/guide/predictions. A
sentence has room for a few records; each has a region of the text for each span (or free text, if
a value does not stand there), choices for closed fields, and text areas for open ones.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

from raydistill.errors import SetupError
from raydistill.fields import Choice, Field, Integer
from raydistill.lessons.review_sheet import Row, Said
from raydistill.task import Task

COUNT = "records"  # the control that says how many of the records are meant
SPANS = "spans"
_MOST_CHOICES = 20


def config(task: Task, records: int) -> str:
    """The labeling configuration (XML) that fits `tasks` of this task with room for `records`."""
    view = xml.Element("View")
    xml.SubElement(
        view, "Style"
    ).text = ".htx-text { white-space: pre-wrap; }"  # offsets count spaces
    spans = [field.name for field in task.fields if field.kind == "span"]
    if spans:
        labels = xml.SubElement(view, "Labels", name=SPANS, toName="text")
        for slot in range(1, records + 1):
            for name in spans:
                xml.SubElement(labels, "Label", value=f"{name} {slot}")
    xml.SubElement(view, "Text", name="text", value="$text")
    if not task.single:
        xml.SubElement(view, "Header", value=f"{task.key} in this sentence")
        _choices(view, COUNT, [str(count) for count in range(records + 1)])
    for slot in range(1, records + 1):
        part = xml.SubElement(view, "View", style="border-top: 1px solid #ccc; margin-top: 8px")
        xml.SubElement(part, "Header", value=f"{slot}", size="5")
        for field in task.fields:
            xml.SubElement(part, "Header", value=field.name, size="6")
            if options := _options(field):
                _choices(part, f"{field.name}_{slot}", options)
            else:
                name = f"{field.name}_{slot}"
                xml.SubElement(
                    part, "TextArea", name=name, toName="text", maxSubmissions="1", editable="true"
                )
    xml.indent(view)
    return xml.tostring(view, encoding="unicode") + "\n"


def _choices(parent: xml.Element, name: str, options: Iterable[str]) -> None:
    box = xml.SubElement(
        parent, "Choices", name=name, toName="text", choice="single", showInline="true"
    )
    for option in options:
        xml.SubElement(box, "Choice", value=option)


def _options(field: Field) -> list[str]:
    """The values of a closed field; none for an open one."""
    if isinstance(field, Choice):
        return list(field.choices)
    if isinstance(field, Integer) and field.high - field.low < _MOST_CHOICES:
        return [str(number) for number in range(field.low, field.high + 1)]
    return []


def tasks(rows: Iterable[Row], task: Task, records: int) -> list[dict[str, Any]]:
    """The sheet as Label Studio's tasks, the teacher's answers as predictions."""
    return [
        {
            "data": {
                "text": row.text,
                "sentence_id": row.id,
                "group": row.group,
                "stratum": row.stratum,
                "stratum_rows": row.stratum_rows,
                "teacher_answer": row.answer,
            },
            "predictions": [{"model_version": "teacher", "result": _result(row, task, records)}],
        }
        for row in rows
    ]


def _result(row: Row, task: Task, records: int) -> list[dict[str, Any]]:
    """The teacher's answer as regions and controls."""
    answer = task.parse(row.answer, row.text)
    if len(answer.records) > records:
        raise SetupError(
            f"sentence {row.id} has {len(answer.records)} records",
            expected=f"at most {records}",
            todo=f"set records={len(answer.records)}",
        )
    out: list[dict[str, Any]] = []

    def add(name: str, kind: str, **value: Any) -> None:
        out.append(
            {
                "id": f"{name}_{len(out)}",
                "from_name": name,
                "to_name": "text",
                "type": kind,
                "value": value,
            }
        )

    if not task.single:
        add(COUNT, "choices", choices=[str(len(answer.records))])
    for slot, (record, places) in enumerate(
        zip(answer.records, answer.offsets, strict=True), start=1
    ):
        for field in task.fields:
            value, name = record[field.name], f"{field.name}_{slot}"
            if value is None:
                continue
            if field.name in places:
                start, end = places[field.name]
                label = [f"{field.name} {slot}"]
                add(SPANS, "labels", start=start, end=end, text=row.text[start:end], labels=label)
            elif _options(field):
                add(name, "choices", choices=[str(value)])
            else:
                add(name, "textarea", text=[str(value)])
    return out


def read(file: Path, task: Task) -> Iterator[Said]:
    """What reviewers said in an export (JSON, not JSON-MIN): the newest annotation of each task.

    Cancelled annotations and tasks without one say nothing; a ground truth counts before others.
    """
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, UnicodeDecodeError) as problem:
        raise SetupError(f"{file} is not JSON: {problem}", expected="an export as JSON") from None
    whole = held if isinstance(held, list) else [held]
    if not all(isinstance(one, dict) and isinstance(one.get("data"), dict) for one in whole):
        raise SetupError(
            f"{file} is not a Label Studio export",
            expected='a list of tasks with "data" and "annotations"',
            todo='export as "JSON" (not "JSON-MIN")',
        )
    for one in whole:
        said = [note for note in one.get("annotations") or [] if not note.get("was_cancelled")]
        if said and "sentence_id" in one["data"]:
            last = max(said, key=lambda note: (bool(note.get("ground_truth")), _date(note)))
            yield _said(one["data"], last, task)


def _said(data: Mapping[str, Any], note: Mapping[str, Any], task: Task) -> Said:
    row = Row(
        str(data["sentence_id"]),
        str(data.get("group", "")),
        str(data.get("text", "")),
        str(data.get("teacher_answer", "")),
        str(data.get("stratum", "")),
        int(data.get("stratum_rows") or 1),
    )
    try:
        records, code = _records(note.get("result") or [], row.text, task), None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        records, code = [], "bad_annotation"
    return Said(row, tuple(records), _reviewer(note.get("completed_by")), _date(note), code)


def _records(
    result: Iterable[Mapping[str, Any]], text: str, task: Task
) -> list[dict[str, str | None]]:
    """The loose records that an annotation's result says."""
    slots: dict[int, dict[str, str | None]] = {}
    count: int | None = None
    regions: list[tuple[int, str, str]] = []
    for one in result:
        value, name = one["value"], one["from_name"]
        if name == SPANS:
            regions.append((int(value["start"]), value["labels"][0], _marked(value, text)))
        elif name == COUNT:
            count = int(value["choices"][0])
        else:
            field, _, slot = name.rpartition("_")
            values = value["choices"] if "choices" in value else value["text"]
            told = values if isinstance(values, str) else " ".join(values)
            slots.setdefault(int(slot), {})[field] = told
    for _, label, marked in sorted(regions, reverse=True):  # the first region of a label counts
        field, _, slot = label.rpartition(" ")
        slots.setdefault(int(slot), {})[field] = marked
    first = task.fields[0].name
    if count is None:
        count = 1 if task.single else sum(bool(slot.get(first)) for slot in slots.values())
        return [slots[at] for at in sorted(slots) if task.single or slots[at].get(first)][:count]
    return [slots.get(at, {}) for at in range(1, count + 1)]


def _marked(value: Mapping[str, Any], text: str) -> str:
    """The text of a region. Browsers count some characters as two, so what it says goes first."""
    by_offset = text[int(value["start"]) : int(value["end"])]
    stated = value.get("text")
    return stated if isinstance(stated, str) and stated in text else by_offset


def _reviewer(by: Any) -> str:
    """Who: an email where the export has users, else Label Studio's number of the user."""
    if isinstance(by, Mapping):
        by = by.get("email") or by.get("id")
    return str(by) if by is not None else "unknown"


def _date(note: Mapping[str, Any]) -> str:
    return str(note.get("updated_at") or note.get("created_at") or "")
