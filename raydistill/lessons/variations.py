"""Variations: sentences with other names, amounts and dates, and the answers that follow them.

A student that has seen one sentence with ten companies learns the sentence, not the company. What
the answer says stays as it was, but for spans, which are read off the new sentence at their old
places, and dates, which move with the sentence's. A change that an answer cannot follow for sure is
not made.
"""

import random
from collections.abc import Sequence
from itertools import islice, pairwise

import pyarrow as pa

from raydistill.answer import Answer, Record, occurrences
from raydistill.dataset import share as share_of
from raydistill.errors import AnswerError, SetupError
from raydistill.fields import Value
from raydistill.lessons.mentions import FINDERS, Change, Edit, Names, names
from raydistill.task import Task

_POOL = 100_000  # sentences that other names are taken from


def varied(
    table: pa.Table, task: Task, share: float, seed: int, kinds: Sequence[str] = tuple(FINDERS)
) -> pa.Table:
    """Varied copies of a `share` (0..1) of the rows, in the table's schema: rows to add to train.

    `table` has `id`, `text` and `answer`; all other columns are copied. Ids get `~v`. Other names
    come from the table's own sentences, so give it training rows only. `kinds` are of FINDERS.
    """
    if not 0 <= share <= 1:
        raise SetupError(f"variations of {share}", expected="a share of rows from 0 to 1")
    if unknown := set(kinds) - set(FINDERS):
        raise SetupError(f"variations {', '.join(sorted(unknown))}", expected=", ".join(FINDERS))
    ids = table["id"].to_pylist()
    at = [i for i, id in enumerate(ids) if share_of(f"{id}~v", seed) < share]
    chosen = table.take(pa.array(at, pa.int64()))
    sentences = (text for batch in table.to_batches() for text in batch["text"].to_pylist() if text)
    pool = names(islice(sentences, _POOL))
    texts: list[str] = []
    answers: list[str] = []
    kept: list[int] = []
    rows = zip(*(chosen[name].to_pylist() for name in ("id", "text", "answer")), strict=True)
    for place, (id, text, answer) in enumerate(rows):
        made = variation(text, answer, task, pool, f"{seed}:{id}", kinds)
        if made is not None:
            kept.append(place)
            texts.append(made[0])
            answers.append(made[1])
    out = chosen.take(pa.array(kept, pa.int64()))
    new = {"id": [f"{ids[at[place]]}~v" for place in kept], "text": texts, "answer": answers}
    for name, values in new.items():
        index = out.schema.get_field_index(name)
        kind = out.schema.field(name)
        out = out.set_column(index, kind, pa.array(values, kind.type))
    return out


def variation(
    text: str, answer: str, task: Task, pool: Names, key: str, kinds: Sequence[str] = tuple(FINDERS)
) -> tuple[str, str] | None:
    """Another sentence and its answer, decided by `key`; None where nothing can be changed."""
    try:
        truth = task.parse(answer, text)
    except AnswerError:
        return None
    dice = random.Random(key)
    new_text = text
    for kind in kinds:
        change = FINDERS[kind](new_text, pool, dice)
        followed = _followed(new_text, truth, task, change) if change else None
        if followed is not None:
            new_text, truth = followed
    return (new_text, task.render(truth)) if new_text != text else None


def _followed(text: str, truth: Answer, task: Task, change: Change) -> tuple[str, Answer] | None:
    """The sentence and the answer after a change; None where the answer cannot follow it."""
    edits = sorted(change.edits, key=lambda one: one.start)
    if any(a.end > b.start for a, b in pairwise(edits)):
        return None
    new_text = _applied(text, edits, 0, len(text))
    records: list[Record] = []
    for record in truth.records:
        new = dict(record)
        for field in task.fields:
            if record[field.name] is None:
                continue
            moved = _moved(field.kind, record[field.name], text, edits, change)
            if moved is None:
                return None
            new[field.name] = moved
        records.append(new)
    try:
        answer = task.answer(records, new_text)
    except AnswerError:
        return None
    return (new_text, answer) if list(answer.records) == records else None


def _moved(kind: str, value: Value, text: str, edits: Sequence[Edit], change: Change) -> Value:
    """A field's value after a change; None where that cannot be said."""
    if kind == "span":
        return _span(str(value), text, edits)
    if kind == "date":
        return _date(str(value), text, change)
    if kind in ("text", "number"):  # it may be made of what was changed
        return None if any(text[e.start : e.end] in str(value) for e in edits) else value
    return value


def _applied(text: str, edits: Sequence[Edit], start: int, end: int) -> str:
    """Characters start..end of the text with the edits that lie within them."""
    out: list[str] = []
    at = start
    for one in edits:
        if start <= one.start and one.end <= end:
            out += [text[at : one.start], one.new]
            at = one.end
    return "".join([*out, text[at:end]])


def _span(value: str, text: str, edits: Sequence[Edit]) -> str | None:
    """The value as the new text has it; None where that cannot be said.

    Every place of the value must come out the same, and none may cut an edit in two.
    """
    places = occurrences(value, text)
    if not places:  # free text: it may speak of what was changed
        return None if any(text[e.start : e.end] in value for e in edits) else value
    results: set[str] = set()
    for start in places:
        end = start + len(value)
        if any(e.start < end < e.end or e.start < start < e.end for e in edits):
            return None
        results.add(_applied(text, edits, start, end))
    return results.pop() if len(results) == 1 else None


def _date(value: str, text: str, change: Change) -> str | None:
    """The date after the change; None where the sentence's dates moved and it is not among them."""
    if change.dates:
        return change.dates.get(value)
    if change.coarse and len(value) > 4:
        return None
    if not change.years:
        return value
    year = value[:4]
    moved = sum(text[e.start : e.end] == year for e in change.edits)
    if not moved or moved != text.count(year):
        return None
    return f"{int(year) + change.years:04d}{value[4:]}"
