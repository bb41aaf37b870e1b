"""Slices: where a release agrees with its teacher and where it does not.

A row belongs to one part of each kind (form, years, length, ...). Event types are counted record by
record, since a sentence may state events of several.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raydistill.errors import AnswerError
from raydistill.fields import Field
from raydistill.intervals import bootstrap
from raydistill.proof.compare import MEASURES, Answers, Sample, Scores, measured
from raydistill.task import Task

LENGTHS = ((120, "up to 120 characters"), (240, "121-240"), (480, "241-480"))
TYPES = 25  # the most frequent; the rest are one part


def rows_by(
    sample: Sample, *, known: set[str], named: Mapping[str, str] | None = None
) -> dict[str, dict[str, list[str]]]:
    """The rows of each part, by kind. `known` are companies that training has seen."""
    kinds: dict[str, Callable[[int], str | None]] = {
        "form": lambda at: sample.forms[at] or "not said",
        "years": lambda at: _years(sample.years[at]),
        "length": lambda at: _length(sample.texts[at]),
        "company": lambda at: (
            "seen in training" if sample.groups[at] in known else "never seen in training"
        ),
        "teacher's confidence": lambda at: _confidence(sample, sample.ids[at]),
        "named": lambda at: (named or {}).get(sample.ids[at]),
    }
    out: dict[str, dict[str, list[str]]] = {}
    for kind, name in kinds.items():
        parts: dict[str, list[str]] = {}
        for at, id in enumerate(sample.ids):
            if (part := name(at)) is not None:
                parts.setdefault(part, []).append(id)
        if parts:
            out[kind] = {part: parts[part] for part in _ordered(parts)}
    return out


def _ordered(parts: Mapping[str, list[str]]) -> list[str]:
    order = [name for _, name in LENGTHS]
    return sorted(parts, key=lambda name: (order.index(name) if name in order else 99, name))


def _years(year: int | None) -> str:
    return "not said" if year is None else f"{year // 5 * 5}-{year // 5 * 5 + 4}"


def _length(text: str) -> str:
    return next((name for most, name in LENGTHS if len(text) <= most), "over 480")


def _confidence(sample: Sample, id: str) -> str | None:
    """The lowest confidence among the teacher's events of a row; None where it has none."""
    said = [record.get("confidence") for record in sample.truths[id].records]
    numbers = [one for one in said if isinstance(one, int)]
    if not numbers:
        return None
    lowest = min(numbers)
    return "9-10, sure" if lowest >= 9 else "7-8" if lowest >= 7 else "1-6, unsure"


def parts(
    by: Mapping[str, Mapping[str, Sequence[str]]],
    scores: Scores,
    group_of: Mapping[str, str],
    *,
    draws: int = 500,
) -> list[dict[str, Any]]:
    """One line a part: F1 and recall with intervals, rows, events; none where events are none."""
    lines: list[dict[str, Any]] = []
    for kind, some in by.items():
        for part, ids in some.items():
            picked, groups = [scores[id] for id in ids], [group_of[id] for id in ids]
            events = sum(one.truth for one in picked)
            if not events:
                continue
            line: dict[str, Any] = {"kind": kind, "part": part, "rows": len(ids), "events": events}
            for name in ("f1", "recall"):
                line[name] = measured(picked, groups, MEASURES[name], draws=draws)
            lines.append(line)
    return lines


def event_types(
    task: Task,
    sample: Sample,
    answers: Answers,
    scores: Scores,
    *,
    draws: int = 500,
) -> list[dict[str, Any]]:
    """One line a value of the task's first field: events; precision, recall, F1 of records."""
    first = task.fields[0].name
    cells: dict[str, dict[str, Counter[str]]] = {}

    def count(kind: str, value: object, group: str) -> None:
        cells.setdefault(str(value), {}).setdefault(kind, Counter())[group] += 1

    group_of = sample.group_of()
    for id, one in scores.items():
        group, truth = group_of[id], sample.truths[id]
        for record in truth.records:
            count("truth", record[first], group)
        answer = answers.get(id)
        if answer is None or isinstance(answer, AnswerError):
            continue
        for record in answer.records:
            count("answer", record[first], group)
        for i, j in one.pairs:
            if whole(task.fields, truth.records[i], answer.records[j]):
                count("matched", truth.records[i][first], group)
    ranked = sorted(cells.items(), key=lambda item: -_sum(item[1], "truth"))
    return [_type_line(name, found, draws) for name, found in ranked if _sum(found, "truth")][
        :TYPES
    ]


def whole(fields: Sequence[Field], truth: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Whether two records are equal in every field."""
    return all(field.equal(truth[field.name], answer[field.name]) for field in fields)


def _sum(found: Mapping[str, Counter[str]], kind: str) -> int:
    return found.get(kind, Counter()).total()


def _type_line(name: str, found: Mapping[str, Counter[str]], draws: int) -> dict[str, Any]:
    truth, answer = _sum(found, "truth"), _sum(found, "answer")
    matched = _sum(found, "matched")
    groups = sorted({group for counter in found.values() for group in counter})
    above = [2 * found.get("matched", Counter())[one] for one in groups]
    below = [
        found.get("truth", Counter())[one] + found.get("answer", Counter())[one] for one in groups
    ]
    low, high = bootstrap(groups, above, below, draws=draws)
    return {
        "part": name,
        "events": truth,
        "companies": len(groups),
        "precision": matched / answer if answer else 0.0,
        "recall": matched / truth if truth else 0.0,
        "f1": {"value": 2 * matched / (truth + answer), "low": low, "high": high},
    }
