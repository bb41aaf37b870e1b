"""Disagreements: the rows to look at first, with both answers marked in the sentence."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from raydistill.answer import Answer, Record, occurrences
from raydistill.errors import AnswerError
from raydistill.proof.compare import Answers, Sample, Scores
from raydistill.score import Scored
from raydistill.task import Task


def worst(
    task: Task,
    sample: Sample,
    answers: Answers,
    scores: Scores,
    certainty: Mapping[str, float],
    *,
    most: int = 50,
) -> list[dict[str, Any]]:
    """The `most` worst rows: both sides sure of themselves, and far apart."""
    groups, texts = sample.group_of(), sample.text_of()
    ranked = sorted(
        (id for id, one in scores.items() if not one.exact),
        key=lambda id: (-_weight(scores[id], sample.truths[id], certainty.get(id)), id),
    )
    return [
        {
            "id": id,
            "group": groups[id],
            "kind": kind(scores[id]),
            "certainty": certainty.get(id),
            **row(task, texts[id], sample.truths[id], answers.get(id, Answer()), scores[id]),
        }
        for id in ranked[:most]
    ]


def kind(one: Scored) -> str:
    """What went wrong in a row: its error's code, or the graver of its mistakes."""
    if one.error:
        return one.error
    if one.invented and one.omitted:
        return "another event"
    return "invented" if one.invented else "omitted" if one.omitted else "wrong value"


def _weight(one: Scored, truth: Answer, certainty: float | None) -> float:
    said = [record.get("confidence") for record in truth.records]
    numbers = [value for value in said if isinstance(value, int)]
    teacher = min(numbers) / 10 if numbers else 0.8
    student = 0.5 if certainty is None else certainty
    return (1 - one.partial) * (0.2 + teacher) * (0.2 + student)


def row(
    task: Task, text: str, truth: Answer, answer: Answer | AnswerError, one: Scored
) -> dict[str, Any]:
    """A sentence cut into marked pieces, and two answers with the fields in which they differ."""
    said = () if isinstance(answer, AnswerError) else answer.records
    spans = [field.name for field in task.fields if field.kind == "span"]
    partner = dict(one.pairs)
    records: list[dict[str, Any]] = []
    for i, record in enumerate(truth.records):
        other = said[partner[i]] if i in partner else None
        records.append(_sides(task, record, other))
    found = {j for _, j in one.pairs}
    records += [_sides(task, None, record) for j, record in enumerate(said) if j not in found]
    return {
        "pieces": marked(text, _places(text, truth.records, spans), _places(text, said, spans)),
        "records": records,
        "error": answer.code if isinstance(answer, AnswerError) else None,
    }


def _sides(task: Task, truth: Record | None, answer: Record | None) -> dict[str, Any]:
    fields = [
        {
            "name": field.name,
            "teacher": None if truth is None else truth[field.name],
            "student": None if answer is None else answer[field.name],
            "equal": truth is not None
            and answer is not None
            and field.equal(truth[field.name], answer[field.name]),
        }
        for field in task.fields
    ]
    return {"teacher": truth is not None, "student": answer is not None, "fields": fields}


def _places(
    text: str, records: Sequence[Mapping[str, Any]], spans: Sequence[str]
) -> list[tuple[int, int]]:
    places: list[tuple[int, int]] = []
    for record in records:
        for name in spans:
            value = record[name]
            if isinstance(value, str) and (found := occurrences(value, text)):
                places.append((found[0], found[0] + len(value)))
    return places


def marked(
    text: str, teacher: Sequence[tuple[int, int]], student: Sequence[tuple[int, int]]
) -> list[dict[str, str]]:
    """The text in pieces, each of them `teacher`'s, `student`'s, of `both` or of neither (``)."""
    cuts = sorted({0, len(text), *(at for place in (*teacher, *student) for at in place)})
    pieces: list[dict[str, str]] = []
    for start, end in pairwise(cuts):
        ours = any(a <= start and end <= b for a, b in teacher)
        theirs = any(a <= start and end <= b for a, b in student)
        mark = "both" if ours and theirs else "teacher" if ours else "student" if theirs else ""
        pieces.append({"text": text[start:end], "mark": mark})
    return pieces
