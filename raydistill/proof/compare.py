"""Comparisons: several answerers over the same rows, side by side, with intervals and tests.

An answerer is a name and its answer to each row: the release, its high-precision master, a second
reading by the teacher, a human's, a model without training, a rule. Companies are the unit of every
interval; McNemar's test asks whether two answerers differ on whole rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.intervals import bootstrap, mcnemar, paired_bootstrap
from raydistill.score import Scored, failed, tally
from raydistill.task import Task

Answers: TypeAlias = Mapping[str, Answer | AnswerError]
Scores: TypeAlias = Mapping[str, Scored]
Part: TypeAlias = Callable[[Scored], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows that are compared, column by column; `truths` are the teacher's answers."""

    ids: list[str]
    groups: list[str]
    texts: list[str]
    truths: dict[str, Answer]
    forms: list[str | None]
    years: list[int | None]

    def group_of(self) -> dict[str, str]:
        """The company of each row."""
        return dict(zip(self.ids, self.groups, strict=True))

    def text_of(self) -> dict[str, str]:
        """The sentence of each row."""
        return dict(zip(self.ids, self.texts, strict=True))


def sample(rows: pa.Table, task: Task) -> Sample:
    """The sample of a dataset's rows (dataset.SCHEMA)."""
    columns = {name: rows[name].to_pylist() for name in rows.column_names}
    count = len(rows)
    truths = {
        id: task.parse(answer) for id, answer in zip(columns["id"], columns["answer"], strict=True)
    }
    return Sample(
        columns["id"],
        columns["group"],
        columns["text"],
        truths,
        columns.get("form", [None] * count),
        columns.get("year", [None] * count),
    )


def scored(task: Task, truth: Answer, answer: Answer | AnswerError) -> Scored:
    """One score; an answer that did not parse keeps its code."""
    if isinstance(answer, AnswerError):
        return failed(task.fields, truth.records, answer.code)
    return task.score(truth, answer)


def scores(task: Task, truths: Mapping[str, Answer], answers: Answers) -> dict[str, Scored]:
    """The score of every row that `answers` speaks of."""
    return {id: scored(task, truths[id], answer) for id, answer in answers.items() if id in truths}


# What is measured of a score: its share of the numerator and of the denominator.
MEASURES: dict[str, Part] = {
    "f1": lambda one: (2 * one.matched, one.truth + one.answer),
    "precision": lambda one: (one.matched, one.answer),
    "recall": lambda one: (one.matched, one.truth),
    "found": lambda one: (len(one.pairs), one.truth),
    "agreement": lambda one: (one.exact, 1),
    "recall_only": lambda one: (one.recall_only if one.truth else 0.0, one.truth > 0),
}


def measured(
    some: Sequence[Scored], groups: Sequence[str], part: Part, *, draws: int = 1000
) -> dict[str, float]:
    """A rate with its 95 % interval over companies: `value`, `low`, `high`."""
    pairs = [part(one) for one in some]
    above, below = [one for one, _ in pairs], [one for _, one in pairs]
    whole = float(sum(below))
    low, high = bootstrap(groups, above, below, draws=draws)
    return {"value": sum(above) / whole if whole else 0.0, "low": low, "high": high}


def side(some: Scores, group_of: Mapping[str, str], *, draws: int = 1000) -> dict[str, Any]:
    """One answerer's row of the comparison: rates with intervals, and every kind of mistake."""
    ids = list(some)
    picked, groups = [some[id] for id in ids], [group_of[id] for id in ids]
    total = tally(picked)
    rates = {name: measured(picked, groups, part, draws=draws) for name, part in MEASURES.items()}
    without = [one for one in picked if one.truth == 0]
    invented = measured(
        without,
        [group_of[id] for id in ids if some[id].truth == 0],
        lambda one: (1000 * one.answer, 1),
        draws=draws,
    )
    return {
        "rows": len(ids),
        "events": total.truth,
        "answered": total.answer,
        **rates,
        "invented_per_1000": invented,
        "rows_without_events": len(without),
        "omitted": total.omitted,
        "invented": total.invented,
        "wrong_value": total.wrong_value,
        "skip_agreement": total.skip_agreement,
        "whole_record": total.matched / max(1, total.matched + total.wrong_value),
        "errors": total.errors,
        "fields": {name: one.agreement for name, one in total.fields.items()},
    }


def versus(
    ours: Scores, theirs: Scores, group_of: Mapping[str, str], *, draws: int = 1000
) -> dict[str, Any]:
    """Ours against theirs on the rows both answered: the paired difference of F1, and McNemar.

    `only_ours` and `only_theirs` count rows that the one alone has exactly right.
    """
    ids = [id for id in ours if id in theirs]
    groups = [group_of[id] for id in ids]
    f1 = MEASURES["f1"]
    columns: list[tuple[list[float], list[float]]] = []
    for some in (ours, theirs):
        pairs = [f1(some[id]) for id in ids]
        columns.append(([one for one, _ in pairs], [one for _, one in pairs]))
    low, high = paired_bootstrap(groups, columns[0], columns[1], draws=draws)
    values = [sum(above) / max(1.0, sum(below)) for above, below in columns]
    only_ours = sum(ours[id].exact and not theirs[id].exact for id in ids)
    only_theirs = sum(theirs[id].exact and not ours[id].exact for id in ids)
    return {
        "rows": len(ids),
        "ours": values[0],
        "theirs": values[1],
        "difference": values[0] - values[1],
        "low": low,
        "high": high,
        "only_ours": only_ours,
        "only_theirs": only_theirs,
        "p": mcnemar(only_ours, only_theirs),
    }
