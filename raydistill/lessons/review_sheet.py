"""Review sheets: which sentences people check, and what they said of them.

A sheet is stratified: rare event types and answers the teacher was unsure of are drawn as often as
common ones, and each row says how many its stratum has, so that rates over a sheet can be weighted
back. CSV, one line a record, is for spreadsheets; `label_studio` is the same for Label Studio.
"""

import csv
import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from raydistill.dataset import Dataset, share
from raydistill.errors import SetupError
from raydistill.task import Task

SURE = 8  # of 10: below it a teacher's answer is in its type's "unsure" stratum
_OWN = ("sentence_id", "group", "stratum", "stratum_rows", "text", "teacher_answer")
_SAID = ("reviewer", "reviewed_at")
_RISKY = ("=", "+", "-", "@", "'", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Row:
    """One sentence of a sheet with the teacher's answer; `stratum_rows` is what it stands for."""

    id: str
    group: str
    text: str
    answer: str
    stratum: str
    stratum_rows: int


@dataclass(frozen=True, slots=True)
class Said:
    """What a reviewer said: loose records, or the code of why nothing can be made of it."""

    row: Row
    records: tuple[Mapping[str, Any], ...]
    reviewer: str
    date: str
    code: str | None = None


def sheet(
    made: Dataset, split: str, *, rows: int, skip: float = 0.3, types: int = 20, seed: int = 0
) -> list[Row]:
    """A stratified sample of a split; a share of `skip` are sentences without an event.

    The other rows go in turn to strata of the `types` commonest values of the task's first field
    (all others are one) by whether the teacher was sure.
    """
    common = _common(made, split, types)
    counts: Counter[str] = Counter()
    drawn: dict[str, list[tuple[float, str, dict[str, Any]]]] = {}
    for row, records in _rows(made, split):
        stratum = _stratum(records, common, made.task)
        counts[stratum] += 1
        heap = drawn.setdefault(stratum, [])
        entry = (-share(row["id"], seed), row["id"], row)
        if len(heap) < rows:
            heapq.heappush(heap, entry)
        elif entry > heap[0]:
            heapq.heapreplace(heap, entry)
    queues = {name: [e[2] for e in sorted(heap, reverse=True)] for name, heap in drawn.items()}
    chosen = _allotted(queues, rows, skip)
    chosen.sort(key=lambda one: share(one[1]["id"], seed + 1))  # reviewers see them mixed
    return [
        Row(r["id"], r["group"], r["text"], r["answer"], name, counts[name]) for name, r in chosen
    ]


def _rows(made: Dataset, split: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    for batch in made.batches(split):
        for row in batch.select(["id", "group", "text", "answer"]).to_pylist():
            value = json.loads(row["answer"])
            held = [value] if made.task.single else value.get(made.task.key, [])
            yield row, held


def _common(made: Dataset, split: str, types: int) -> set[str]:
    name = made.task.fields[0].name
    found = Counter(str(records[0].get(name)) for _, records in _rows(made, split) if records)
    return {value for value, _ in sorted(found.items(), key=lambda one: (-one[1], one[0]))[:types]}


def _stratum(records: list[dict[str, Any]], common: set[str], task: Task) -> str:
    if not records:
        return "skip"
    first = str(records[0].get(task.fields[0].name))
    sure = min(int(one.get("confidence") or 10) for one in records) >= SURE
    return f"{first if first in common else 'other'}, {'sure' if sure else 'unsure'}"


def _allotted(
    queues: dict[str, list[dict[str, Any]]], rows: int, skip: float
) -> list[tuple[str, dict[str, Any]]]:
    """Rows of the skip stratum up to its share, then of each stratum in turn."""
    quiet = queues.pop("skip", [])
    take = min(len(quiet), round(rows * skip))
    chosen = [("skip", one) for one in quiet[:take]]
    turn = 0
    while len(chosen) < rows and any(len(queue) > turn for queue in queues.values()):
        for name in sorted(queues):
            if len(queues[name]) > turn and len(chosen) < rows:
                chosen.append((name, queues[name][turn]))
        turn += 1
    return chosen + [("skip", one) for one in quiet[take : take + rows - len(chosen)]]


def write_csv(file: Path, rows: Iterable[Row], task: Task) -> None:
    """The sheet as CSV: a line a record with the teacher's values, reviewer and date empty."""
    with file.open("w", newline="", encoding="utf-8-sig") as stream:  # Excel needs the mark
        unsaid = (Said(row, task.parse(row.answer, row.text).records, "", "") for row in rows)
        write_said(stream, unsaid, task)


def write_said(stream: TextIO, said: Iterable[Said], task: Task) -> None:
    """What reviewers said, as the same sheet with their names in it: `read_csv` gives it back."""
    names = [field.name for field in task.fields]
    out = csv.writer(stream)
    out.writerow([*_OWN, *names, *_SAID])
    for one in said:
        row = one.row
        own = [row.id, row.group, row.stratum, row.stratum_rows, row.text, row.answer]
        for record in one.records or ({},):
            values = [record.get(name) for name in names]
            out.writerow(map(_shown, [*own, *values, one.reviewer, one.date]))


def _shown(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_RISKY) else text


def _read(text: str) -> str:
    return text[1:] if text.startswith("'") else text


def read_csv(file: Path, task: Task) -> Iterator[Said]:
    """What reviewers said in a CSV sheet: sentences with a reviewer in one of their lines.

    A line whose first field is empty is no record: so a sentence is said to have none.
    """
    names = [field.name for field in task.fields]
    held: dict[str, list[dict[str, str]]] = {}
    with file.open(newline="", encoding="utf-8-sig") as stream:
        lines = csv.DictReader(stream)
        missing = {*_OWN, *names, *_SAID} - set(lines.fieldnames or ())
        if missing:
            raise SetupError(
                f"{file} lacks the columns {', '.join(sorted(missing))}",
                expected="the CSV sheet that review wrote for this task",
            )
        for line in lines:
            cells = {name: _read(cell or "") for name, cell in line.items() if name}
            held.setdefault(cells["sentence_id"], []).append(cells)
    for id, cells in held.items():
        signed = next((one for one in cells if one["reviewer"].strip()), None)
        if signed is None:
            continue
        own = next((one for one in cells if one["teacher_answer"]), signed)
        count = int(own["stratum_rows"]) if own["stratum_rows"].isdecimal() else 1
        row = Row(id, own["group"], own["text"], own["teacher_answer"], own["stratum"], count)
        records = [{name: one[name] for name in names} for one in cells if one[names[0]].strip()]
        yield Said(row, tuple(records), signed["reviewer"].strip(), signed["reviewed_at"].strip())
