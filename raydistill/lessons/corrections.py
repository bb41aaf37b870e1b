"""Corrections: what people said of sentences, as labels that override the teacher's.

`read` takes Label Studio's exports and CSV sheets; `apply` changes exactly the rows that were
corrected; `manifest` records who said so and when; `agreement` is how far people agree with the
teacher (or with another's answers), which is not how far a student does.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from raydistill.answer import Answer
from raydistill.errors import AnswerError, SetupError
from raydistill.intervals import bootstrap
from raydistill.lessons import label_studio, review_sheet, spill
from raydistill.lessons.review_sheet import Row, Said
from raydistill.score import Scored, failed, tally
from raydistill.task import Task


@dataclass(frozen=True, slots=True)
class Correction:
    """A sentence's answer by a person, as JSON in the task's form, beside the teacher's (`row`)."""

    row: Row
    answer: str
    keep: bool
    records: int
    reviewer: str
    date: str
    changed: bool


@dataclass(frozen=True)
class Corrections:
    """What was said, by sentence; `rejects` are (sentence, code) of what is no answer."""

    by_id: Mapping[str, Correction] = field(default_factory=dict)
    rejects: tuple[tuple[str, str], ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    task: Task | None = None  # whose answers they are; None: there are none

    @cached_property
    def by_text(self) -> dict[str, Correction]:
        """The corrections by the words of their sentence; of two for one text the newer."""
        ordered = sorted(self.by_id.items(), key=lambda pair: (pair[1].date, pair[0]))
        return {spill.plain(one.row.text): one for _, one in ordered}

    def has(self, text: str | None) -> bool:
        """Whether someone has reviewed a sentence of these words."""
        return spill.plain(text) in self.by_text

    def answer(self, one: Correction, text: str) -> str:
        """What was said of a sentence, its spans as this copy of the sentence writes them."""
        if self.task is None or text == one.row.text:
            return one.answer
        return self.task.render(self.task.parse(one.answer, text))

    def manifest(self, applied: Collection[str]) -> dict[str, Any]:
        """What goes into a dataset's manifest; `applied` are the ids that `apply` gave."""
        used = [one for id, one in sorted(self.by_id.items()) if id in applied]
        return {
            "files": dict(self.files),
            "reviewed": len(self.by_id),
            "applied": len(used),
            "changed": sum(one.changed for one in used),
            "reviewers": dict(Counter(one.reviewer for one in used)),
            "rejects": dict(Counter(code for _, code in self.rejects)),
            "labels": [
                {"id": one.row.id, "reviewer": one.reviewer, "date": one.date}
                for one in used
                if one.changed
            ],
        }


def read(files: Sequence[str | Path], task: Task) -> Corrections:
    """The corrections in these files; where one sentence is in several, the newest date counts."""
    by_id: dict[str, Correction] = {}
    rejects: list[tuple[str, str]] = []
    hashes: dict[str, str] = {}
    for name in files:
        file = Path(name)
        hashes[file.name] = _hash(file)
        for said in _said(file, task):
            try:
                one = _correction(said, task)
            except AnswerError as problem:
                rejects.append((said.row.id, problem.code))
                continue
            old = by_id.get(one.row.id)
            if old is None or one.date >= old.date:
                by_id[one.row.id] = one
    return Corrections(by_id, tuple(rejects), hashes, task)


def _hash(file: Path) -> str:
    if not file.is_file():
        raise SetupError(
            f"no corrections at {file}",
            expected="a Label Studio export (.json) or a CSV sheet that review wrote",
        )
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _said(file: Path, task: Task) -> Iterable[Said]:
    if file.suffix.lower() == ".csv":
        return review_sheet.read_csv(file, task)
    return label_studio.read(file, task)


def _correction(said: Said, task: Task) -> Correction:
    if said.code:
        raise AnswerError(said.code)
    answer = task.answer(said.records, said.row.text)
    try:
        changed = answer != task.parse(said.row.answer, said.row.text)
    except AnswerError:
        changed = True
    return Correction(
        said.row,
        task.render(answer),
        bool(answer.records),
        len(answer.records),
        said.reviewer,
        said.date,
        changed,
    )


def apply(table: pa.Table, corrections: Corrections) -> tuple[pa.Table, list[str]]:
    """The table (`text answer keep`, others) with corrected answers, and the ids of what was used.

    A correction is of a text: every copy of the sentence gets it, and a row whose text is no longer
    the one that was reviewed stays as it is. Case, spaces and line ends do not count: spreadsheets
    rewrite them, and copies differ in them. A column `records` is brought up to date.
    """
    reviewed = corrections.by_text
    texts: list[str | None] = table["text"].to_pylist() if reviewed else []
    found = [(at, text, reviewed.get(spill.plain(text))) for at, text in enumerate(texts)]
    said = [(at, text or "", one) for at, text, one in found if one is not None]
    if not said:
        return table, []
    new: dict[str, list[Any]] = {
        "answer": [corrections.answer(one, text) for _, text, one in said],
        "keep": [one.keep for _, _, one in said],
    }
    if "records" in table.column_names:
        new["records"] = [one.records for _, _, one in said]
    for name, values in new.items():
        table = _replaced(table, name, [at for at, _, _ in said], values)
    return table, sorted({one.row.id for _, _, one in said})


def _replaced(table: pa.Table, name: str, places: list[int], values: list[Any]) -> pa.Table:
    column = table[name].to_pylist()
    for place, value in zip(places, values, strict=True):
        column[place] = value
    new = pa.array(column, table.schema.field(name).type)
    index = table.schema.get_field_index(name)
    return table.set_column(index, table.schema.field(index), new)


def agreement(
    corrections: Corrections, task: Task, answers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """How far answers (the teacher's, or `answers` by id) agree with what people said.

    `tally` counts reviewed sentences as they are; `whole` is the share of sentences with exactly
    the same answer, weighted by strata to the split the sheet was drawn from, `interval` around it.
    """
    scores: list[Scored] = []
    rows: list[Row] = []
    for id, one in sorted(corrections.by_id.items()):
        theirs = one.row.answer if answers is None else answers.get(id)
        if theirs is not None:
            truth = task.parse(one.answer, one.row.text)
            scores.append(_scored(truth, theirs, one.row.text, task))
            rows.append(one.row)
    seen = Counter(row.stratum for row in rows)
    weights = [row.stratum_rows / seen[row.stratum] for row in rows]
    exact = [weight * one.exact for weight, one in zip(weights, scores, strict=True)]
    return {
        "reviewed": len(rows),
        "whole": sum(exact) / sum(weights) if weights else 0.0,
        "interval": bootstrap([row.group for row in rows], exact, weights),
        "tally": tally(scores).to_dict(),
    }


def _scored(truth: Answer, answer: str, text: str, task: Task) -> Scored:
    try:
        return task.score(truth, task.parse(answer, text))
    except AnswerError as problem:
        return failed(task.fields, truth.records, problem.code)
