"""Answers: the records found in one sentence, and where in the sentence each value stands."""

import re
from dataclasses import dataclass
from typing import TypeAlias

from raydistill.fields import Field, Value

Record: TypeAlias = dict[str, Value]
Offsets: TypeAlias = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Answer:
    """0..n records in the task's field order; `offsets[i]` gives characters (start, end) by field.

    Two answers are equal when their records are: offsets only say where values were found.
    """

    records: tuple[Record, ...] = ()
    offsets: tuple[Offsets, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answer) and self.records == other.records

    def __hash__(self) -> int:
        return hash(tuple(tuple(record.items()) for record in self.records))


def locate(value: str, text: str) -> tuple[int, int] | None:
    """Where `value` first stands in `text` as whole words, else at all, else None."""
    whole = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text)
    if whole:
        return whole.span()
    start = text.find(value)
    return (start, start + len(value)) if start >= 0 else None


def located(records: list[Record], fields: tuple[Field, ...], text: str | None) -> Answer:
    """The answer of these records, with the offsets of every span that stands in `text`."""
    if text is None:
        return Answer(tuple(records), tuple({} for _ in records))
    offsets: list[Offsets] = []
    for record in records:
        places: Offsets = {}
        for field in fields:
            value = record[field.name]
            if field.kind == "span" and isinstance(value, str):
                place = locate(value, text)
                if place:
                    places[field.name] = place
        offsets.append(places)
    return Answer(tuple(records), tuple(offsets))
