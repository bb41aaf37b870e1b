"""Choosing: the likeliest answer in a pointer student's places, as the compact target's tokens.

Of dates and amounts only phrases are chosen that can be read; how likely one is, is told among
these alone. What can be, is counted for all rows of a batch at once.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill.errors import AnswerError
from raydistill.fields import Field, Span
from raydistill.slots import POINTED, Head, Slots
from raydistill.target import NEXT, NONE, NULL, Source, whole

Floats = NDArray[np.float32]
_LONGEST = 64  # tokens of a span
_NEVER = -math.inf

Place = tuple[int, int]  # of a batch: a row, and a place for a record in it


@dataclass(frozen=True, slots=True)
class Chosen:
    """Output tokens, their log-probability, and by how much the closest choice was won."""

    tokens: list[str]
    score: float
    margin: float


@dataclass(frozen=True, slots=True)
class _Said:
    """What one head says in one place: tokens, their log-probability and that of the next best."""

    tokens: Sequence[str]
    best: float
    second: float


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
        _pointed(head, made.of(number), there & (made.at[..., number] == len(head.tokens) - 1),
                 points[:, : slots.count], sources)
        if head.tokens[-1] == POINTED else {}
        for number, head in enumerate(slots.heads, 1)
    ]  # fmt: skip
    for number, phrases in enumerate(pointed, 1):
        for place, one in phrases.items():
            made.best[(*place, number)], made.second[(*place, number)] = one.best, one.second
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
    slots: Slots, places: list[list[int]], pointed: list[dict[Place, _Said]], row: int
) -> list[str]:
    """The tokens of a row, of whose `places` with a record each head's class is given."""
    out: list[str] = []
    for slot, classes in enumerate(places):
        if out:
            out.append(NEXT)
        for head, phrases, choice in zip(slots.heads, pointed, classes[1:], strict=True):
            one = phrases.get((row, slot)) if phrases else None
            if one is None:
                out.append(head.tokens[choice])
            else:
                out += one.tokens
    return out or [NONE]


def _pointed(
    head: Head, shares: Floats, where: NDArray[np.bool_], points: Floats, sources: Sequence[Source]
) -> dict[Place, _Said]:
    """What a head says in the places `where` pointing is its likeliest class: the likeliest phrase
    of its field, or a class where none is as likely."""
    rows, places = np.nonzero(where)
    if not len(rows):
        return {}
    some = [sources[row] for row in rows.tolist()]
    find = _spans if isinstance(head.field, Span) else _readings
    found = find(head.field, points[rows, places, head.point : head.point + 2], some)
    own = shares[rows, places]
    lists = zip(
        rows.tolist(),
        places.tolist(),
        found,
        own[:, :-1].tolist(),
        own[:, -1].tolist(),
        strict=True,
    )
    return {
        (row, place): _likelier(head, one, rest, share) for row, place, one, rest, share in lists
    }


@dataclass(frozen=True, slots=True)
class _Phrase:
    """The likeliest phrase: first and last token, its log-probability, and the next one's."""

    place: tuple[int, int]
    best: float
    second: float


def _likelier(head: Head, phrase: _Phrase | None, classes: list[float], share: float) -> _Said:
    """The phrase, or the class that is likelier; `share` is the log-probability of pointing."""
    at = max(range(len(classes)), key=classes.__getitem__, default=-1)
    best = classes[at] if classes else _NEVER
    if phrase is None:
        if not classes:  # an answer that no task takes: there is nothing to say
            return _Said([NULL], share, _NEVER)
        second = max((one for i, one in enumerate(classes) if i != at), default=_NEVER)
        return _Said([head.tokens[at]], best, second)
    told = share + phrase.best
    if told > best:
        first, last = phrase.place
        return _Said([f"<p{first}>", f"<p{last}>"], told, max(best, share + phrase.second))
    second = max((one for i, one in enumerate(classes) if i != at), default=_NEVER)
    return _Said([head.tokens[at]], best, max(second, told))


def _spans(field: Field, points: Floats, sources: Sequence[Source]) -> list[_Phrase | None]:
    """The likeliest span of each source; `points` are logits (sources, 2, tokens)."""
    most = points.shape[-1]
    lengths = np.array([min(most, len(source.offsets)) for source in sources])
    if not lengths.any():
        return [None] * len(sources)
    most = int(lengths.max())
    first, last = np.where(
        np.arange(most) < lengths[:, None, None], points[..., :most], -np.inf
    ).swapaxes(0, 1)
    find = _likeliest if most <= _LONGEST else _likeliest_of_pairs
    with np.errstate(invalid="ignore"):  # of a sentence without tokens nothing is likely
        found = find(first, last)
    lists = zip(*(one.tolist() for one in (*found, lengths)), strict=True)
    return [
        _Phrase((start, end), best, second)
        if length and not math.isnan(best)
        else None  # NaN: no logit is finite
        for start, end, best, second, length in lists
    ]


def _likeliest(first: Floats, last: Floats) -> tuple[NDArray[Any], ...]:
    """The likeliest pair of a first and a last token of each row (rows, tokens), where every pair
    is short enough: its tokens, its log-probability and that of the next.

    What ends at a token is told from all that begin up to it, so no pair is looked at by itself.
    """
    every = np.arange(len(first))
    ends = np.maximum.accumulate(first, 1) + last
    end = ends.argmax(1)
    top = ends[every, end]
    total = np.logaddexp.reduce(np.logaddexp.accumulate(first, 1) + last, 1)
    before = np.where(np.arange(first.shape[1]) <= end[:, None], first, -np.inf)
    start = before.argmax(1)
    before[every, start] = ends[every, end] = -np.inf
    second = np.maximum(ends.max(1), before.max(1) + last[every, end])
    return start, end, top - total, second - total


def _likeliest_of_pairs(first: Floats, last: Floats) -> tuple[NDArray[Any], ...]:
    """The same where pairs may be too long: each is looked at."""
    most, every = first.shape[1], np.arange(len(first))
    pairs = np.where(_inside(most), first[:, :, None] + last[:, None, :], -np.inf)
    pairs = pairs.reshape(len(first), -1)
    at = pairs.argmax(1)
    top = pairs[every, at]
    best = -np.log(np.exp(pairs - top[:, None]).sum(1))
    pairs[every, at] = -np.inf
    return (*np.divmod(at, most), best, best + pairs.max(1) - top)


@lru_cache(maxsize=512)
def _inside(length: int) -> NDArray[np.bool_]:
    """Which pairs of tokens are a first and a last one."""
    pairs = np.triu(np.ones((length, length), bool))
    return pairs & ~np.triu(pairs, _LONGEST)


def _readings(field: Field, points: Floats, sources: Sequence[Source]) -> list[_Phrase | None]:
    """The likeliest of the phrases in each source that `field` can be read from."""
    return [_reading(field, *one) for one in zip(points.tolist(), sources, strict=True)]


def _reading(field: Field, points: list[list[float]], source: Source) -> _Phrase | None:
    first, last = points
    length = min(len(first), len(source.offsets))
    places = {_tokens(source, *place, length) for place in field.mentions(source.text)}
    found = sorted(one for one in places if one and _readable(field, source, one))
    if not found:
        return None
    logits = [first[start] + last[end] for start, end in found]
    at = max(range(len(found)), key=logits.__getitem__)
    top = logits[at]
    best = -math.log(sum(math.exp(one - top) for one in logits))
    second = max((one for i, one in enumerate(logits) if i != at), default=_NEVER)
    return _Phrase(found[at], best, best + second - top)


def _tokens(source: Source, start: int, end: int, length: int) -> tuple[int, int] | None:
    """The first and last of `length` tokens that share characters with (start, end)."""
    first = bisect_right(source.offsets, start, 0, length, key=_END)
    last = bisect_left(source.offsets, end, first, length, key=_START) - 1
    return (first, last) if first <= last else None


_START, _END = itemgetter(0), itemgetter(1)  # of a token's characters, which never go back


def _readable(field: Field, source: Source, pair: tuple[int, int]) -> bool:
    start, end = whole(source.text, source.offsets[pair[0]][0], source.offsets[pair[1]][1])
    try:
        return field.read(source.text[start:end], source.text) is not None
    except AnswerError:
        return False
