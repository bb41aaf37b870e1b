"""Choosing: the likeliest answer in a pointer student's places, as the compact target's tokens.

Classes are chosen here and phrases in pointing.py, for all rows of a batch at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydistill.pointing import NEVER, Doubles, Floats, likeliest
from raydistill.slots import POINTED, Head, Slots
from raydistill.target import NEXT, NONE, NULL, Source

Place = tuple[int, int]  # of a batch: a row, and a place for a record in it


@dataclass(frozen=True, slots=True)
class Chosen:
    """Output tokens, their log-probability, and by how much the closest choice was won."""

    tokens: list[str]
    score: float
    margin: float


class _Classes:
    """The classes of every head in all rows and places: log-probabilities, and the best of each.

    Heads lie one behind another; whether there is a record at all is the first of them.
    """

    def __init__(self, slots: Slots, logits: Floats) -> None:
        sizes = np.array([2, *(len(head.tokens) for head in slots.heads)])
        self.ends = np.cumsum(sizes)
        self.starts = self.ends - sizes
        block = logits[:, : slots.count, slots.begin.classes : slots.end.classes]
        self.shares = block - np.repeat(self._most(block), sizes, -1)
        totals = np.add.reduceat(np.exp(self.shares), self.starts, -1)
        self.shares -= np.repeat(np.log(totals), sizes, -1)
        self.at = np.stack([self.of(head).argmax(-1) for head in range(len(sizes))], -1)
        self.best = self._most(self.shares)
        others = self.shares.copy()
        np.put_along_axis(others, self.at + self.starts, -np.inf, -1)
        self.second = self._most(others)

    def of(self, head: int) -> Floats:
        """The log-probabilities (rows, places, classes) of one head."""
        return self.shares[..., self.starts[head] : self.ends[head]]

    def _most(self, block: Floats) -> Floats:
        return np.maximum.reduceat(block, self.starts, -1)


def answers(
    slots: Slots, classes: Floats, points: Floats, sources: Sequence[Source]
) -> list[Chosen]:
    """The likeliest answer of each row.

    `classes` (rows, places, classes) and `points` (rows, places, points, tokens) are logits; a
    row's points begin at its sentence's first token.
    """
    made = _Classes(slots, classes)
    there = np.logical_and.accumulate(made.at[..., 0] == 1, 1)
    pointed = [
        _pointed(made, number, head, there, points[:, : slots.count], sources)
        if head.tokens[-1] == POINTED else {}
        for number, head in enumerate(slots.heads, 1)
    ]  # fmt: skip
    scores, margins = _told(made, there)
    at = made.at.tolist()
    places = there.sum(1).tolist()
    return [
        Chosen(_tokens_of(slots, at[row][: places[row]], pointed, row), scores[row], margins[row])
        for row in range(len(sources))
    ]


def _told(made: _Classes, there: NDArray[np.bool_]) -> tuple[list[float], list[float]]:
    """The log-probability of each row's choices, and the smallest margin among them.

    Whether there is a record is said in every place up to the first without one; the rest in places
    with one.
    """
    said = np.repeat(there[..., None], made.best.shape[-1], -1)
    said[:, 1:, 0] = there[:, :-1]
    said[:, 0, 0] = True
    best = made.best.astype(np.float64)
    with np.errstate(invalid="ignore"):  # where nothing can be said both are -inf
        won = best - made.second
    return (
        np.where(said, best, 0).sum((1, 2)).tolist(),
        np.fmin.reduce(np.where(said, won, np.inf), (1, 2)).tolist(),
    )


def _tokens_of(
    slots: Slots, places: list[list[int]], pointed: list[dict[Place, list[str]]], row: int
) -> list[str]:
    """The tokens of a row, of whose `places` with a record each head's class is given."""
    out: list[str] = []
    for slot, classes in enumerate(places):
        if out:
            out.append(NEXT)
        for head, phrases, choice in zip(slots.heads, pointed, classes[1:], strict=True):
            out += phrases.get((row, slot)) or head.tokens[choice : choice + 1]
    return out or [NONE]


def _pointed(
    made: _Classes,
    number: int,
    head: Head,
    there: NDArray[np.bool_],
    points: Floats,
    sources: Sequence[Source],
) -> dict[Place, list[str]]:
    """What a head says in the places where pointing is its likeliest class: the likeliest phrase of
    its field, whose tokens are given, or a class where none is as likely, which `made` is told."""
    rows, places = np.nonzero(there & (made.at[..., number] == len(head.tokens) - 1))
    if not len(rows):
        return {}
    some = [sources[row] for row in rows.tolist()]
    found = likeliest(head.field, points[rows, places, head.point : head.point + 2], some)
    own = made.of(number)[rows, places].astype(np.float64)
    share, classes = own[:, -1], own[:, :-1]  # of pointing, and of what else there is to say
    told, next_told = share + found.best, share + found.second
    at, top, rest = _best_two(classes)
    wins = told > top
    made.at[rows, places, number] = at
    made.best[rows, places, number] = np.where(wins, told, top)
    made.second[rows, places, number] = np.where(
        wins, np.maximum(top, next_told), np.maximum(rest, told)
    )
    phrases = zip(rows.tolist(), places.tolist(), found.places, wins.tolist(), strict=True)
    said = {
        (row, place): [f"<p{phrase[0]}>", f"<p{phrase[1]}>"]
        for row, place, phrase, won in phrases
        if won and phrase
    }
    if not classes.shape[1]:  # without a phrase nothing can be said: an answer that no task takes
        nothing = rows[~wins], places[~wins], number
        made.best[nothing] = share[~wins]
        for row, place in zip(*(one.tolist() for one in nothing[:2]), strict=True):
            said[row, place] = [NULL]
    return said


def _best_two(classes: Doubles) -> tuple[NDArray[np.int64], Doubles, Doubles]:
    """Of each row (rows, classes) the likeliest class, its log-probability, and the next one's."""
    if not classes.shape[1]:
        none = np.full(len(classes), NEVER)
        return np.zeros(len(classes), np.int64), none, none
    every, at = np.arange(len(classes)), classes.argmax(1)
    top = classes[every, at]
    others = classes.copy()
    others[every, at] = NEVER
    return at, top, others.max(1)
