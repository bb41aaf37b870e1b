"""Stability: how far one counted distribution has moved from another."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

HEAD = 30  # values that are told apart; rarer ones are one bin
Counts = Mapping[Any, float]


def psi(expected: Counts, actual: Counts) -> float:
    """The population stability index of two counted distributions: 0 for equal ones.

    Counts are smoothed by a half: a value that is new, or gone, weighs and does not end it all.
    """
    keys = set(expected) | set(actual)
    if not keys:
        return 0.0
    left, right = sum(expected.values()) + len(keys) / 2, sum(actual.values()) + len(keys) / 2
    total = 0.0
    for key in keys:
        p, q = (expected.get(key, 0) + 0.5) / left, (actual.get(key, 0) + 0.5) / right
        total += (q - p) * math.log(q / p)
    return total


def binned(expected: Counts, actual: Counts, head: int = HEAD) -> tuple[Counts, Counts]:
    """Both distributions over the `head` most frequent values of the first; the rest are one."""
    kept = set(sorted(expected, key=lambda one: -expected[one])[:head])

    def gathered(some: Counts) -> Counts:
        out: Counter[Hashable] = Counter()
        for key, count in some.items():
            out[key if key in kept else "(rare or new)"] += int(count)
        return out

    return gathered(expected), gathered(actual)


def moved(before: Counts, now: Counts, most: int = 5) -> list[tuple[str, float, float]]:
    """Values by how far their share moved: value, share before, share now."""
    whole, total = max(1, sum(before.values())), max(1, sum(now.values()))
    shares = [
        (str(key), before.get(key, 0) / whole, now.get(key, 0) / total)
        for key in set(before) | set(now)
    ]
    return sorted(shares, key=lambda one: (-abs(one[1] - one[2]), one[0]))[:most]
