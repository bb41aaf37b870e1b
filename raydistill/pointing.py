"""Pointing: the likeliest phrase of a sentence, of the logits of its first and its last token.

Of dates and amounts only phrases count that can be read; how likely one is, is told among these
alone.
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
from raydistill.target import Source, whole

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
NEVER = -math.inf
_LONGEST = 64  # tokens of a span


@dataclass(frozen=True, slots=True)
class Phrases:
    """The likeliest phrase of each source: its first and last token, None where there is none; its
    log-probability and the next one's (sources,), NEVER where there is none."""

    places: list[tuple[int, int] | None]
    best: Doubles
    second: Doubles


def likeliest(field: Field, points: Floats, sources: Sequence[Source]) -> Phrases:
    """The likeliest phrase that a field can be read from in each source.

    `points` (sources, 2, tokens) are logits of a phrase's first and last token.
    """
    find = _spans if isinstance(field, Span) else _readings
    return find(field, points, sources)


def _spans(field: Field, points: Floats, sources: Sequence[Source]) -> Phrases:
    """The likeliest span of each source; `points` are logits (sources, 2, tokens)."""
    most = points.shape[-1]
    lengths = np.array([min(most, len(source.offsets)) for source in sources])
    found = np.full((4, len(sources)), np.nan)
    first, last = np.where(np.arange(most) < lengths[:, None, None], points, -np.inf).swapaxes(0, 1)
    short = lengths <= _LONGEST  # by itself, whatever stands beside it in the batch
    for find, rows in ((_of_ends, short & (lengths > 0)), (_of_pairs, ~short)):
        if rows.any():
            width = int(lengths[rows].max())
            with np.errstate(invalid="ignore"):  # where no logit is finite nothing is likely
                found[:, rows] = find(first[rows, :width], last[rows, :width])
    none = np.isnan(found[2])  # no token, or no logit that is finite
    found[2:, none] = NEVER
    pairs = zip(*np.nan_to_num(found[:2]).astype(int).tolist(), none.tolist(), strict=True)
    return Phrases([None if no else (start, end) for start, end, no in pairs], found[2], found[3])


def _of_ends(first: Floats, last: Floats) -> tuple[NDArray[Any], ...]:
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


def _of_pairs(first: Floats, last: Floats) -> tuple[NDArray[Any], ...]:
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


def _readings(field: Field, points: Floats, sources: Sequence[Source]) -> Phrases:
    """The likeliest of the phrases in each source that `field` can be read from."""
    known: dict[int, list[tuple[int, int]]] = {}  # a sentence stands here for each record
    places: list[tuple[int, int] | None] = []
    told: list[tuple[float, float]] = []
    for (first, last), source in zip(points.tolist(), sources, strict=True):
        found = known.get(id(source))
        if found is None:
            found = known[id(source)] = _found(field, source, min(len(first), len(source.offsets)))
        logits = [first[start] + last[end] for start, end in found]
        if len(found) < 2:
            places.append(found[0] if found else None)
            told.append((0.0 if found else NEVER, NEVER))
            continue
        at = max(range(len(found)), key=logits.__getitem__)
        top = logits[at]
        best = -math.log(sum(math.exp(one - top) for one in logits))
        second = max(one for i, one in enumerate(logits) if i != at)
        places.append(found[at])
        told.append((best, best + second - top))
    both = np.array(told).reshape(-1, 2)
    return Phrases(places, both[:, 0], both[:, 1])


def _found(field: Field, source: Source, length: int) -> list[tuple[int, int]]:
    """The phrases within the first `length` tokens that `field` can be read from, in order."""
    places = {_tokens(source, *place, length) for place in field.mentions(source.text)}
    return sorted(one for one in places if one and _readable(field, source, one))


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
