"""Intervals: how sure a measured rate is, when sentences of one company are not independent.

A filing's sentences share their author, so the company is the unit that is drawn again, never the
sentence: intervals over sentences would look two or three times as sure as they are.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

_CHUNK = 4_000_000  # drawn group numbers held at once: 32 MB

Floats = NDArray[np.float64]


def bootstrap(
    groups: Sequence[Hashable],
    numerators: Sequence[float] | Floats,
    denominators: Sequence[float] | Floats,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval (low, high) of sum(numerators) / sum(denominators), 0..1.

    One entry a row; rows of one group (company) are drawn together. With fewer than two groups,
    or nothing to divide by, nothing is known: (0.0, 1.0).
    """
    sums = _by_group(groups, numerators, denominators)
    ratios = _ratios(sums, draws, seed)
    return _percentiles(ratios[0], level, nothing=(0.0, 1.0))


def paired_bootstrap(
    groups: Sequence[Hashable],
    one: tuple[Sequence[float] | Floats, Sequence[float] | Floats],
    other: tuple[Sequence[float] | Floats, Sequence[float] | Floats],
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """The interval of the difference of two ratios measured on the same rows, -1..1.

    `one` and `other` are (numerators, denominators); each draw takes the same groups for both, so
    that hard companies are hard for both. An interval that holds 0 shows no difference.
    """
    ratios = _ratios(_by_group(groups, *one, *other), draws, seed)
    return _percentiles(ratios[0] - ratios[1], level, nothing=(-1.0, 1.0))


def _by_group(groups: Sequence[Hashable], *columns: Sequence[float] | Floats) -> Floats:
    """Sums of each column by group: float64 of shape (groups, columns)."""
    places: dict[Hashable, int] = {}
    index = np.fromiter((places.setdefault(g, len(places)) for g in groups), np.int64, len(groups))
    sums = [np.bincount(index, np.asarray(column, np.float64), len(places)) for column in columns]
    return np.stack(sums, axis=1).astype(np.float64)


def _ratios(sums: Floats, draws: int, seed: int) -> Floats:
    """Each draw's ratios, shape (columns / 2, draws); nan where a draw has nothing to divide by."""
    count = len(sums)
    if count < 2:
        return np.full((sums.shape[1] // 2, draws), np.nan)
    random = np.random.default_rng(seed)
    totals = np.empty((draws, sums.shape[1]))
    step = max(1, _CHUNK // count)
    for start in range(0, draws, step):
        part = min(step, draws - start)
        drawn = random.integers(0, count, (part, count))
        for column in range(sums.shape[1]):
            totals[start : start + part, column] = sums[drawn, column].sum(axis=1)
    above, below = totals[:, 0::2].T, totals[:, 1::2].T
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _percentiles(
    values: Floats, level: float, *, nothing: tuple[float, float]
) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return nothing
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval (low, high) of a rate seen `k` times in `n` independent trials."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return low, high


def mcnemar(b: int, c: int) -> float:
    """The exact two-sided p-value that two answerers differ.

    `b` and `c` count the rows that only the one, and only the other, has right.
    """
    from scipy.special import bdtr

    if b + c == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5)))
