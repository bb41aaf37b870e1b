"""Answers: the records found in one sentence, and where in the sentence each value stands."""

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


def occurrences(value: str, text: str) -> list[int]:
    """The places of `value` in `text`, by first character: whole words first, then inside words."""
    whole: list[int] = []
    inside: list[int] = []
    at = text.find(value) if value else -1
    while at >= 0:
        (whole if _is_whole(text, at, at + len(value)) else inside).append(at)
        at = text.find(value, at + 1)
    return whole + inside


def _is_whole(text: str, start: int, end: int) -> bool:
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    return not (is_word(before) and is_word(text[start])) and not (
        is_word(after) and is_word(text[end - 1])
    )


def is_word(character: str) -> bool:
    """Whether a character belongs to a word; "" does not."""
    return character.isalnum() or character == "_"


def locate(value: str, text: str) -> tuple[int, int] | None:
    """Characters (start, end) of the first of `value`'s occurrences in `text`, or None."""
    places = occurrences(value, text)
    return (places[0], places[0] + len(value)) if places else None


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
