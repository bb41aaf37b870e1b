"""Batches of rows of like length, cut by what they cost when padded."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST = 256  # tokens, below which a batch is not cut: a call costs as much as some sentences
_SLACK = 1.1  # what padding adds to a batch of like lengths


def evened(total: int, threads: int, most: int) -> int:
    """The budget of a batch, `most` at most, at which every thread has as many batches to do."""
    rounds = max(1, -(-total // (threads * most)))
    return min(most, max(LEAST, int(_SLACK * total / (threads * rounds))))


def alike(lengths: NDArray[Any]) -> list[NDArray[Any]]:
    """The rows of each length there is, the shortest first."""
    order = np.argsort(lengths, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1)


def runs(order: NDArray[Any], costs: NDArray[Any], budget: int) -> list[NDArray[Any]]:
    """Cost-sorted rows in runs whose dearest row times their count fits `budget`.

    A row that alone costs more is a run of its own.
    """
    out: list[NDArray[Any]] = []
    start = 0
    for at in range(len(order)):
        if at > start and int(costs[order[at]]) * (at - start + 1) > budget:
            out.append(order[start:at])
            start = at
    if start < len(order):
        out.append(order[start:])
    return out
