"""Slots: the compact target for students that answer in one pass.

A pointer student does not write an answer token by token. It has places for a few records, and in
each of them for every field a class (null, a frequent value, "pointed at") and two pointers at
words of the sentence. Places are read as the compact target's own tokens, so parsing, offsets and
errors are those of every other student. What can only be spelled is not taught, and not answered.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from raydistill.errors import AnswerError, SetupError
from raydistill.fields import Date, Field, Number, Span
from raydistill.target import CLOSE, NEXT, NONE, NULL, OPEN, Compact, Single, Source, Target, whole

Floats = NDArray[np.float32]
IGNORE = -100
_POINTED = "<pointed>"
_LONGEST = 64  # tokens of a span


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
    """Places for `count` records of a task's fields, as labels and from logits.

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
            tokens = [NULL] * field.nullable + target.singles(field) + [_POINTED] * pointing
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

    def answer(self, classes: Floats, points: Floats, source: Source) -> "Chosen":
        """The likeliest answer of logits: `classes` (count, classes), `points` (count, points,
        tokens)."""
        out = Chosen([], 0.0, np.inf)
        for slot in range(self.count):
            there = _shares(classes[slot, self.begin.classes : self.begin.classes + 2])
            present = bool(there[1] > there[0])
            out.add([NEXT] if present and out.tokens else [], there)
            if not present:
                break
            for head in self.heads:
                shares = _shares(classes[slot, head.start : head.start + len(head.tokens)])
                _choose(out, head, shares, points[slot], source)
        if not out.tokens:
            out.tokens.append(NONE)
        return out


@dataclass(slots=True)
class Chosen:
    """Output tokens, their log-probability, and by how much the closest choice was won."""

    tokens: list[str]
    score: float
    margin: float

    def add(self, tokens: list[str], shares: Floats) -> None:
        """Says `tokens`, the likeliest of log-probabilities `shares`."""
        self.tokens += tokens
        best = float(shares.max())
        self.score += best
        if len(shares) > 1:
            self.margin = min(self.margin, best - float(np.partition(shares, -2)[-2]))


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


def _shares(logits: Floats) -> Floats:
    """Log-probabilities of logits (..., n) along the last axis."""
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def _choose(out: Chosen, head: Head, shares: Floats, points: Floats, source: Source) -> None:
    """Says the likeliest value of one field."""
    if head.point < 0 or int(shares.argmax()) != len(head.tokens) - 1:
        out.add([head.tokens[int(shares.argmax())]], shares)
        return
    pairs, likely = _phrases(head, points, source)
    if not len(likely) and len(shares) == 1:
        out.add([NULL], shares)  # an answer that no task takes: there is nothing to point at
        return
    both = np.concatenate([shares[:-1], shares[-1] + likely])
    best = int(both.argmax()) - len(shares) + 1
    if best < 0:
        out.add([head.tokens[best + len(shares) - 1]], both)
    else:
        first, last = pairs(best)
        out.add([f"<p{first}>", f"<p{last}>"], both)


def _phrases(
    head: Head, points: Floats, source: Source
) -> tuple[Callable[[int], tuple[int, int]], Floats]:
    """The phrases that a field can be read from: first and last token of one, and how likely each
    is."""
    length = min(points.shape[-1], len(source.offsets))
    if not length:
        return lambda at: (at, at), np.zeros(0, np.float32)
    first, last = points[head.point : head.point + 2, :length]
    if isinstance(head.field, Span):
        pairs = np.where(_inside(length), np.add.outer(first, last), np.float32(-np.inf))
        return lambda at: (at // length, at % length), _shares(pairs.ravel())
    places = {_tokens(source, *place, length) for place in head.field.mentions(source.text)}
    found = sorted(one for one in places if one and _readable(head.field, source, one))
    likely = np.array([first[start] + last[end] for start, end in found], np.float32)
    return found.__getitem__, _shares(likely) if found else likely


@lru_cache(maxsize=512)
def _inside(length: int) -> NDArray[np.bool_]:
    """Which pairs of tokens are a first and a last one."""
    pairs = np.triu(np.ones((length, length), bool))
    return pairs & ~np.triu(pairs, _LONGEST)


def _tokens(source: Source, start: int, end: int, length: int) -> tuple[int, int] | None:
    """The first and last of `length` tokens that share characters with (start, end)."""
    within = [
        at for at in range(length) if source.offsets[at][0] < end and source.offsets[at][1] > start
    ]
    return (within[0], within[-1]) if within else None


def _readable(field: Field, source: Source, pair: tuple[int, int]) -> bool:
    start, end = whole(source.text, source.offsets[pair[0]][0], source.offsets[pair[1]][1])
    try:
        return field.read(source.text[start:end], source.text) is not None
    except AnswerError:
        return False
