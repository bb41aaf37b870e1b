"""Near-duplicates: texts that share most of their three-word runs, found in bounded memory.

A text is a MinHash signature of its runs; texts that agree in a whole band of it are compared.
Bands are sorted one at a time, so memory is some 150 bytes a text and no text is kept. Similarity
is the share of agreeing signature places, an estimate of the Jaccard index (+- 0.04 at 0.8).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import rensa

BANDS, BAND = 20, 5  # a pair at 0.8 is met with 99.96 %, one at 0.5 with 47 % (and then refused)
PLACES = BANDS * BAND
SHINGLE = 3
_SEED = 1
_MinHash: Any = rensa.__dict__["RMinHash"]  # the package has no types
_ROUNDS = 16
_WINDOW = 2000  # neighbours compared in a run of equal bands: longer runs are one template's
_PAIRS = 1 << 18  # compared at once: 50 MB

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]


def shingles(text: str) -> list[str]:
    """The runs of three words of a text, case apart; a shorter text is one run."""
    words = text.casefold().split()
    return [" ".join(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))]


def signatures(texts: Sequence[str]) -> tuple[Bytes, Keys]:
    """One byte for each place (n x PLACES), and a hash for each band (BANDS x n)."""
    if not texts:
        return np.empty((0, PLACES), np.uint8), np.empty((BANDS, 0), np.uint64)
    parts: list[npt.NDArray[np.uint32]] = []
    for at in range(0, len(texts), 8192):
        sets = [shingles(text) for text in texts[at : at + 8192]]
        matrix = _MinHash.digest_matrix_from_token_sets(sets, PLACES, _SEED)
        parts.append(np.array(matrix.to_rows(), np.uint32))
    whole = np.concatenate(parts)
    band = np.zeros((len(texts), BANDS), np.uint64)
    with np.errstate(over="ignore"):
        for at in range(BAND):
            band = (band ^ whole[:, at::BAND]) * np.uint64(0x9E3779B97F4A7C15)
            band ^= band >> np.uint64(29)
    return (whole & 0xFF).astype(np.uint8), np.ascontiguousarray(band.T)


def similarity(one: Bytes, other: Bytes) -> npt.NDArray[np.float64]:
    """The estimated Jaccard index of pairs of signatures; a byte agrees by chance once in 256."""
    same = (one == other).mean(axis=1)
    return (same - 1 / 256) / (1 - 1 / 256)


def near(
    bands: Callable[[int], Keys],
    signature: Bytes,
    priority: Ints,
    part: npt.NDArray[np.int8],
    *,
    threshold: float,
    within: bool = True,
) -> Ints:
    """For each row the earlier row that it is near to, for which it is dropped; -1: it stays.

    `bands(k)` gives band k's hash of every row; `priority` lists all rows, those to keep first.
    `within=False` compares rows of different `part` only. A row that was dropped drops no other.
    """
    pairs: list[npt.NDArray[np.int64]] = []
    for band in range(BANDS):
        values = bands(band)[priority]
        order = np.argsort(values, kind="stable")  # stable: each run keeps the priority
        rows, values = priority[order], values[order]
        alone = _alone(values)
        rows, values = rows[~alone], values[~alone]
        for _ in range(_ROUNDS if len(rows) else 0):
            first = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
            head = rows[np.repeat(first, np.diff(np.r_[first, len(rows)]))]
            hit = _near(rows, head, signature, part, threshold, within)
            pairs.append(np.stack([rows[hit], head[hit]]))
            left = ~hit
            left[first] = False
            rows, values = rows[left], values[left]
            if not len(rows):
                break
    return _dropped(np.concatenate([np.empty((2, 0), np.int64), *pairs], axis=1), priority)


def _dropped(pairs: Ints, priority: Ints) -> Ints:
    """For each row the earlier row it is near to, or -1; rows are judged in their order."""
    near = np.full(len(priority), -1, np.int64)
    rank = np.empty(len(priority), np.int64)
    rank[priority] = np.arange(len(priority))
    pairs = np.unique(pairs, axis=1)
    pairs = pairs[:, np.lexsort((rank[pairs[1]], rank[pairs[0]]))]
    for row, earlier in pairs.T.tolist():
        if near[row] < 0 and near[earlier] < 0:
            near[row] = earlier
    return near


def straddling(
    bands: Callable[[int], Keys],
    signature: Bytes,
    kept: Ints,
    part: npt.NDArray[np.int8],
    *,
    threshold: float,
) -> set[tuple[int, int]]:
    """Pairs of `kept` rows in different parts that are near: every pair in a band is compared."""
    pairs: set[tuple[int, int]] = set()
    for band in range(BANDS):
        values = bands(band)[kept]
        order = np.argsort(values, kind="stable")
        rows, values = kept[order], values[order]
        keep = ~_alone(values)
        rows, values = rows[keep], values[keep]
        for gap in range(1, min(len(rows), _WINDOW)):
            here = np.flatnonzero(values[gap:] == values[:-gap])
            if not len(here):
                break
            one, other = rows[here], rows[here + gap]
            hit = _near(other, one, signature, part, threshold, within=False)
            pairs.update(zip(one[hit].tolist(), other[hit].tolist(), strict=True))
    return pairs


def _alone(values: Keys) -> Bools:
    """Which of the sorted values occur once."""
    differs = values[1:] != values[:-1] if len(values) else np.empty(0, np.bool_)
    return np.r_[True, differs][: len(values)] & np.r_[differs, True][: len(values)]


def _near(
    rows: Ints, heads: Ints, signature: Bytes, part: npt.NDArray[np.int8], threshold: float,
    within: bool,
) -> Bools:  # fmt: skip
    use = rows != heads
    if not within:
        use &= part[rows] != part[heads]
    at = np.flatnonzero(use)
    hit = np.zeros(len(rows), np.bool_)
    for start in range(0, len(at), _PAIRS):
        here = at[start : start + _PAIRS]
        hit[here] = similarity(signature[rows[here]], signature[heads[here]]) >= threshold
    return hit
