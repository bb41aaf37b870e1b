"""The report of a mixture, task by task: the student beside a base, both against the teacher.

List tasks are scored by F1 over whole records, so that a record nobody asked for costs. The share
of the teacher's records that were found is beside it under its own name, `recall_only`: it is a
recall, and blind to what was invented.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from raydistill.answer import Answer
from raydistill.dataset import Dataset
from raydistill.errors import AnswerError
from raydistill.progress import table as printed
from raydistill.proof.compare import scored
from raydistill.questions.answering import Answerer
from raydistill.questions.asking import rows_of
from raydistill.questions.rules import base
from raydistill.score import Tally, tally
from raydistill.task import Task

FIGURES = ("precision", "recall", "f1", "agreement", "partial", "recall_only")


@dataclass(frozen=True, slots=True)
class Cases:
    """Texts and the teacher's answers to them in one task, from one place."""

    task: Task
    source: str
    texts: list[str]
    truths: list[Answer]


def cases_of(data: Dataset, split: str) -> list[Cases]:
    """The rows of a split, task by task."""
    table = data.table(split)
    return [_cases(rows_of(table, task), task, split) for task in data.tasks]


def _cases(rows: pa.Table, task: Task, source: str) -> Cases:
    truths = [task.parse(answer) for answer in rows["answer"].to_pylist()]
    return Cases(task, source, rows["text"].to_pylist(), truths)


def report(
    answerer: Answerer, cases: Sequence[Cases], taught: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Figures of the student and of the base on each of `cases`.

    `taught` holds the answers (JSON) of train by task, for the base. `valid` is the share of
    answers in the task's JSON form.
    """
    out: list[dict[str, Any]] = []
    for one in cases:
        if not one.texts:
            continue
        began = time.perf_counter()
        student = answerer(one.task.name, one.texts)
        seconds = time.perf_counter() - began
        ruled = base(one.task, taught.get(one.task.name, ()))
        out.append(
            {
                "task": one.task.name,
                "source": one.source,
                "cases": len(one.texts),
                "records": sum(len(truth.records) for truth in one.truths),
                "student": _figures(one, student),
                "base": _figures(one, [ruled(text) for text in one.texts]),
                "texts_per_s": len(one.texts) / max(seconds, 1e-9),
            }
        )
    return out


def _figures(cases: Cases, answers: Sequence[Answer | AnswerError]) -> dict[str, Any]:
    pairs = zip(cases.truths, answers, strict=True)
    found: Tally = tally(scored(cases.task, truth, answer) for truth, answer in pairs)
    figures: dict[str, Any] = {name: getattr(found, name) for name in FIGURES}
    valid = 1 - sum(found.errors.values()) / max(1, found.answers)
    counts = {name: getattr(found, name) for name in ("omitted", "invented", "wrong_value")}
    fields = {name: one.f1 for name, one in found.fields.items()}
    return {**figures, "valid": valid, **counts, "errors": found.errors, "fields": fields}


def lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """The report as a table of text."""
    head = ("task", "cases", "n", "precision", "recall", "F1", "partial", "valid",
            "recall_only", "base P", "base R", "base F1")  # fmt: skip
    return printed(
        [
            (
                row["task"],
                row["source"],
                f"{row['cases']:,}",
                *(f"{row['student'][name]:.1%}" for name in ("precision", "recall", "f1")),
                f"{row['student']['partial']:.1%}",
                f"{row['student']['valid']:.1%}",
                f"{row['student']['recall_only']:.1%}",
                *(f"{row['base'][name]:.1%}" for name in ("precision", "recall", "f1")),
            )
            for row in rows
        ],
        head,
    )


def evaluate(
    data: Dataset, answerer: Answerer, split: str, out: Path, *, more: Sequence[Cases] = ()
) -> dict[str, Any]:
    """Writes report.json and report.md on a split (and `more` cases); prints and gives it."""
    rows = report(answerer, [*cases_of(data, split), *more], taught_by(data))
    made = {"release": answerer.release.name, "dataset": data.fingerprint, "tasks": rows}
    out.mkdir(parents=True, exist_ok=True)
    text = lines(rows)
    (out / "report.json").write_text(json.dumps(made, indent=2, ensure_ascii=False))
    (out / "report.md").write_text(f"# {answerer.release.name}\n\n```\n{text}\n```\n")
    print(text)
    print(f"report: {out / 'report.md'}")
    return made


def taught_by(data: Dataset) -> dict[str, list[str]]:
    """The answers of train by task."""
    table = data.table("train")
    return {task.name: rows_of(table, task)["answer"].to_pylist() for task in data.tasks}
