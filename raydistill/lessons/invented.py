"""Invented names: copies of sentences in which the names that answers copy are words never seen.

A student that has met "Redridge" a hundred times learns to copy Redridge, not to copy. With names
made of random pieces it learns to point at whatever stands there, which is what it meets at a
company that no teacher has read about.
"""

import random
import re
from collections.abc import Iterable, Sequence

import pyarrow as pa

from raydistill.answer import Answer, Record
from raydistill.errors import AnswerError
from raydistill.task import Task

_NAME = re.compile(r"[A-Z][a-z]{2,}")
_LOWER = re.compile(r"\b[a-z]{3,}\b")
_KEPT = re.compile(
    "January|February|March|April|May|June|July|August|September|October|November|December"
    "|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
)
_ONSETS = (
    *("b", "br", "c", "ch", "cl", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kr", "l"),
    *("m", "n", "p", "pl", "qu", "r", "s", "sh", "sk", "st", "t", "th", "tr", "v", "w", "z"),
)
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "io", "ou")
_CODAS = ("", "", "l", "n", "r", "s", "t", "x", "ck", "ld", "nd", "rn", "st", "th")


def common(texts: Iterable[str]) -> frozenset[str]:
    """Words that also stand in lower case: "Company" and "Board" are no names."""
    return frozenset(word for text in texts for word in _LOWER.findall(text))


def copies(table: pa.Table, task: Task, *, number: int, seed: int) -> pa.Table:
    """`number` copies of each row whose answer copies a name, each with names of its own.

    Columns other than `id`, `text` and `answer` stay as they are; ids get `~n1`, `~n2`, ...
    """
    texts: list[str] = table["text"].to_pylist()
    plain = common(texts)
    pieces = sorted(word for word in plain if 3 <= len(word) <= 6)
    rows: list[int] = []
    made: dict[str, list[str]] = {"id": [], "text": [], "answer": []}
    ids, answers = table["id"].to_pylist(), table["answer"].to_pylist()
    for at, (id, text, answer) in enumerate(zip(ids, texts, answers, strict=True)):
        for copy in range(1, number + 1):
            dice = random.Random(f"{seed} {id} {copy}")
            changed = _renamed(text, task.parse(answer, text), task, plain, pieces, dice)
            if changed is not None:
                rows.append(at)
                for name, value in zip(made, (f"{id}~n{copy}", *changed), strict=True):
                    made[name].append(value)
    out = table.take(pa.array(rows, pa.int64()))
    for name, values in made.items():
        place = out.schema.get_field_index(name)
        out = out.set_column(place, out.schema.field(name), pa.array(values, pa.string()))
    return out


def _renamed(
    text: str,
    truth: Answer,
    task: Task,
    plain: frozenset[str],
    pieces: Sequence[str],
    dice: random.Random,
) -> tuple[str, str] | None:
    """The sentence and its answer under other names; None where there is no name to change."""
    spans = [value for record in truth.records for value in _spans(record, task)]
    found = {word for value in spans for word in _NAME.findall(value)}
    names = sorted(
        word for word in found if word.lower() not in plain and not _KEPT.fullmatch(word)
    )
    if not names:
        return None
    new = {name: _word(pieces, dice) for name in names}
    pattern = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(names)})(?![a-z])")

    def swapped(value: str) -> str:
        return pattern.sub(lambda match: new[match[0]], value)

    records: list[Record] = []
    for record in truth.records:
        spelled = {name: swapped(value) for name, value in _spans_by_name(record, task).items()}
        records.append(record | spelled)
    try:
        return swapped(text), task.render(task.answer(records, swapped(text)))
    except AnswerError:
        return None


def _spans_by_name(record: Record, task: Task) -> dict[str, str]:
    kinds = {field.name for field in task.fields if field.kind == "span"}
    return {name: str(value) for name, value in record.items() if name in kinds and value}


def _spans(record: Record, task: Task) -> list[str]:
    return list(_spans_by_name(record, task).values())


def _word(pieces: Sequence[str], dice: random.Random) -> str:
    """A name of two everyday words, or of syllables."""
    if pieces and dice.random() < 0.5:
        return (dice.choice(pieces) + dice.choice(pieces)).capitalize()
    syllables = dice.choice((2, 2, 3))
    parts = (dice.choice(_ONSETS) + dice.choice(_VOWELS) for _ in range(syllables))
    return ("".join(parts) + dice.choice(_CODAS)).capitalize()
