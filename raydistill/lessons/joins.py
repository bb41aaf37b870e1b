"""Joined lessons: two sentences with an event each, said in one, and both answers.

Sentences that state several events are rare among a teacher's and the hardest for a student: it has
to find which subject, amount and date belong to which event. Any two sentences that state one each
teach that.
"""

import random
from collections.abc import Sequence

import pyarrow as pa

from raydistill.answer import Answer, Record
from raydistill.errors import AnswerError
from raydistill.lessons.invented import common
from raydistill.task import Task

_WORDS = (", and ", ", while ", "; ", "; also, ", "; in addition, ", "; furthermore, ")
_THIRD = 0.15  # of the joined sentences take a third one


def joined(table: pa.Table, task: Task, *, share: float, seed: int) -> pa.Table:
    """Lessons to add: `share` (0..1) of the rows with one record each, two or three to a sentence.

    Columns are the table's; those other than `id`, `text` and `answer` are the first sentence's.
    Ids are the parts' with `+` between. Sentences whose records cannot be told apart are left out.
    """
    texts, ids = table["text"].to_pylist(), table["id"].to_pylist()
    plain = common(texts)
    dice = random.Random(f"{seed} joins")
    answers = table["answer"].to_pylist()
    parsed = [task.parse(answer, text) for text, answer in zip(texts, answers, strict=True)]
    rows = [at for at, answer in enumerate(parsed) if len(answer.records) == 1]
    dice.shuffle(rows)
    rows = rows[: int(len(rows) * share)]
    firsts: list[int] = []
    made: dict[str, list[str]] = {"id": [], "text": [], "answer": []}
    while len(rows) > 2:
        parts = [rows.pop() for _ in range(3 if dice.random() < _THIRD else 2)]
        said = _said([(texts[at], parsed[at]) for at in parts], task, plain, dice)
        if said is not None:
            firsts.append(parts[0])
            for name, value in zip(made, ("+".join(ids[at] for at in parts), *said), strict=True):
                made[name].append(value)
    out = table.take(pa.array(firsts, pa.int64()))
    for name, values in made.items():
        place = out.schema.get_field_index(name)
        out = out.set_column(place, out.schema.field(name), pa.array(values, pa.string()))
    return out


def _said(
    parts: Sequence[tuple[str, Answer]], task: Task, plain: frozenset[str], dice: random.Random
) -> tuple[str, str] | None:
    """The sentence of several, and its answer; None where that cannot be written."""
    text, records = "", list[Record]()
    for number, (one, answer) in enumerate(parts):
        places = answer.offsets[0]
        if number:
            text += dice.choice(_WORDS)
            first = one.split(maxsplit=1)[0] if one.strip() else ""
            if first.lower() in plain or len(first) < 3:
                one = one[:1].lower() + one[1:]
        last = number == len(parts) - 1
        if not last and one.endswith(".") and all(end < len(one) for _, end in places.values()):
            one = one[:-1]
        spans = {name: one[start:end] for name, (start, end) in places.items()}
        records.append(answer.records[0] | spans)
        text += one
    try:
        return text, task.render(task.answer(records, text))
    except AnswerError:
        return None
