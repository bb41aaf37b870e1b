"""Choosing: the likeliest answer in a pointer student's places, as the compact target's tokens.

Of dates and amounts only phrases are chosen that can be read; how likely one is, is told among
these alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from raydistill.errors import AnswerError
from raydistill.fields import Field, Span
from raydistill.slots import POINTED, Head, Slots
from raydistill.target import NEXT, NONE, NULL, Source, whole

Floats = NDArray[np.float32]
_LONGEST = 64  # tokens of a span


@dataclass(slots=True)
class Chosen:
    """Output tokens, their log-probability, and by how much the closest choice was won."""

    tokens: list[str]
    score: float
    margin: float

    def add(self, tokens: list[str], best: float, second: float) -> None:
        """Says `tokens`, whose log-probability is `best`; the next was `second`."""
        self.tokens += tokens
        self.score += best
        self.margin = min(self.margin, best - second)


class _Choices:
    """The classes of one head in all rows and places: shares, the best and the two largest."""

    def __init__(self, logits: Floats) -> None:
        self.shares = _shares(logits)
        self.best: list[list[int]] = self.shares.argmax(-1).tolist()
        pairs = self.shares
        if pairs.shape[-1] == 1:  # nothing else could be said
            pairs = np.concatenate([np.full_like(pairs, -np.inf), pairs], -1)
        self.top: list[list[list[float]]] = np.partition(pairs, -2, -1)[..., -2:].tolist()


def answers(
    slots: Slots, classes: Floats, points: Floats, sources: Sequence[Source]
) -> list[Chosen]:
    """The likeliest answer of each row.

    `classes` (rows, places, classes) and `points` (rows, places, points, tokens) are logits; a
    row's points begin at its sentence's first token.
    """
    first = slots.begin.classes
    there = _Choices(classes[:, : slots.count, first : first + 2])
    heads = [
        (head, _Choices(classes[:, : slots.count, head.start : head.start + len(head.tokens)]))
        for head in slots.heads
    ]
    out: list[Chosen] = []
    for row, source in enumerate(sources):
        said = Chosen([], 0.0, np.inf)
        for slot in range(slots.count):
            present = there.best[row][slot] == 1
            second, best = there.top[row][slot]
            said.add([NEXT] if present and said.tokens else [], best, second)
            if not present:
                break
            for head, choices in heads:
                at = choices.best[row][slot]
                if head.tokens[at] == POINTED:
                    _point(said, head, choices.shares[row, slot], points[row, slot], source)
                else:
                    second, best = choices.top[row][slot]
                    said.add([head.tokens[at]], best, second)
        if not said.tokens:
            said.tokens.append(NONE)
        out.append(said)
    return out


def _shares(logits: Floats) -> Floats:
    """Log-probabilities of logits (..., n) along the last axis."""
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def _point(said: Chosen, head: Head, shares: Floats, points: Floats, source: Source) -> None:
    """Says the likeliest phrase of a field, or a class of `shares` where none is as likely."""
    phrase, likely = _phrases(head, points, source)
    classes = len(shares) - 1  # the last one is "pointed at"
    both = np.concatenate([shares[:-1], shares[-1] + likely])
    if not len(both):  # an answer that no task takes: there is nothing to say
        said.add([NULL], float(shares[-1]), -np.inf)
        return
    at = int(both.argmax())
    best, both[at] = float(both[at]), -np.inf
    if at < classes:
        said.add([head.tokens[at]], best, float(both.max()))
    else:
        said.add([f"<p{place}>" for place in phrase(at - classes)], best, float(both.max()))


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
