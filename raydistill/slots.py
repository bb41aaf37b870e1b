"""Slots: the compact target for students that answer in one pass.

A pointer student does not write an answer token by token. It has places for a few records, and in
each of them for every field a class (null, a frequent value, "pointed at") and two pointers at
words of the sentence. Places are read as the compact target's own tokens (choosing.py), so parsing,
offsets and errors are those of every other student. What can only be spelled is not taught, and not
answered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raydistill.errors import SetupError
from raydistill.fields import Date, Field, Number, Span
from raydistill.target import CLOSE, NEXT, NONE, NULL, OPEN, Compact, Single, Target

IGNORE = -100
POINTED = "<pointed>"


@dataclass(frozen=True, slots=True)
class Offset:
    """Where classes and pointers of a place begin or end."""

    classes: int
    points: int


@dataclass(frozen=True, slots=True)
class Head:
    """One field's part of a place: its classes as tokens, and where their logits begin.

    `point` is the number of its first pointer, the second being the next; -1 where it has none.
    """

    field: Field
    tokens: tuple[str, ...]
    start: int
    point: int


class Slots:
    """Places for `count` records of a task's fields, and an answer's labels in them.

    A place has logits from class number `begin.classes` up to `end.classes` (present or not, then
    every field's) and pointers from `begin.points` up to `end.points`: a student of several tasks
    has theirs one behind another. Its labels are `width` numbers: present, a class a field, a token
    a pointer.
    """

    def __init__(self, target: Compact, count: int, begin: "Offset | None" = None) -> None:
        if count < 1:
            raise SetupError(f"student.records={count}", expected="at least 1")
        self.count, self.begin = count, begin or Offset(0, 0)
        self.heads: list[Head] = []
        classes, points = self.begin.classes + 2, self.begin.points
        for field in target.fields:
            pointing = isinstance(field, Span | Date | Number)
            tokens = [NULL] * field.nullable + target.singles(field) + [POINTED] * pointing
            if not tokens:
                raise SetupError(
                    f"the field {field.name}, which has no list of values and no place in a text",
                    expected="for a pointer student: choices, frequent values, or a span",
                    todo="set student=seq2seq_s, or build the dataset with its frequent values",
                )
            self.heads.append(Head(field, tuple(tokens), classes, points if pointing else -1))
            classes, points = classes + len(tokens), points + 2 * pointing
        self.end = Offset(classes, points)
        self.width = 1 + len(self.heads) + points - self.begin.points

    def labels(self, tokens: Sequence[str]) -> list[int]:
        """The labels of an answer's tokens; IGNORE where there is nothing to learn from."""
        out = [IGNORE] * (self.count * self.width)
        records = [] if list(tokens) == [NONE] else _records(tokens)
        for slot in range(min(self.count, len(records) + 1)):
            at = slot * self.width
            out[at] = int(slot < len(records))
            if slot < len(records):
                self._label(_Walk(records[slot]), out, at + 1)
        return out

    def untaught(self, labels: Sequence[Sequence[int]]) -> float:
        """The share of values that can only be spelled, in labels of many answers."""
        places = np.array(labels).reshape(-1, self.width)
        values = places[places[:, 0] == 1, 1 : 1 + len(self.heads)]
        return float((values == IGNORE).mean()) if values.size else 0.0

    def _label(self, walk: "_Walk", out: list[int], at: int) -> None:
        for number, head in enumerate(self.heads):
            value = walk.value()
            if len(value) == 2 and head.point >= 0 and value[0].startswith("<p"):
                out[at + number] = len(head.tokens) - 1
                for side in (0, 1):
                    pointer = len(self.heads) + head.point - self.begin.points + side
                    out[at + pointer] = int(value[side][2:-1])
            elif len(value) == 1 and value[0] in head.tokens:
                out[at + number] = head.tokens.index(value[0])


def slots_of(target: Target, count: int, begin: Offset | None = None) -> Slots:
    """The places of a target's answers: `count`, or one where its task has one record.

    Raises SetupError for a target without classes and pointers.
    """
    if isinstance(target, Single):
        target, count = target.inner, 1
    if not isinstance(target, Compact):
        raise SetupError(
            "a pointer student with target=literal or json",
            expected="target=compact: it chooses and points, and spells nothing",
            todo="set target=compact, or another student=",
        )
    return Slots(target, count, begin)


def in_turn(targets: Mapping[str, Target], count: int) -> dict[str, Slots]:
    """The places of several tasks, by name, one behind another."""
    out: dict[str, Slots] = {}
    end = None
    for name, target in targets.items():
        out[name] = slots_of(target, count, end)
        end = out[name].end
    return out


def _records(tokens: Sequence[str]) -> list[list[str]]:
    """An answer's tokens, record by record."""
    out: list[list[str]] = [[]]
    for token in tokens:
        if token == NEXT:
            out.append([])
        else:
            out[-1].append(token)
    return out


class _Walk:
    """The values of one record's tokens, in turn."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens, self.at = tokens, 0

    def value(self) -> list[str]:
        start, token = self.at, self.tokens[self.at]
        self.at += 1
        if token == OPEN:
            self.at = self.tokens.index(CLOSE, self.at) + 1
        elif token[:2] == "<p" and token[2:-1].isdigit():
            self.at += 1
        elif token[:2] == "<y" and token[2:-1].isdigit():
            while self.at < len(self.tokens) and self.tokens[self.at][:2] in ("<m", "<d"):
                self.at += 1
        return list(self.tokens[start : self.at])
