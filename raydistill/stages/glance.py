"""A glance before the skip classifier: a linear model over hashed token pairs, 100 times cheaper.

It reads the same token ids, so that what it lets pass costs no second tokenising. Its threshold
loses at most a stated share of the events; a release holds one only where it drops enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

FILE = "glance.safetensors"
BITS = 18  # of the table that tokens and pairs of tokens are hashed into

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Glance:
    """Weights (2 ** BITS,) and the score below which a sentence is dropped."""

    weights: Floats
    threshold: float

    @classmethod
    def load(cls, folder: Path) -> "Glance | None":
        """The glance of a skip folder; None where it has none."""
        if not (folder / FILE).is_file():
            return None
        found = load_file(str(folder / FILE))
        return cls(found["weights"], float(found["threshold"][0]))

    def save(self, folder: Path) -> None:
        """Writes FILE."""
        threshold = np.array([self.threshold], np.float32)
        save_file({"weights": self.weights, "threshold": threshold}, str(folder / FILE))

    def keep(self, ids: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
        """Which sentences (token ids) the classifier should see."""
        return self.scores(ids) >= self.threshold

    def scores(self, ids: Sequence[Sequence[int]]) -> Floats:
        """The log-odds (sentences,) that a sentence holds an event."""
        rows, columns, values = features(ids)
        summed = np.bincount(rows, weights=self.weights[columns] * values, minlength=len(ids))
        return summed.astype(np.float32)


def features(ids: Sequence[Sequence[int]]) -> tuple[Ints, Ints, Floats]:
    """Row, column and value of each token and each pair of neighbours; a long row weighs no more.

    Column 0 is a constant for each row.
    """
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    flat = np.fromiter(chain.from_iterable(ids), np.int64, int(lengths.sum()))
    row = np.repeat(np.arange(len(ids)), lengths)
    together = row[1:] == row[:-1]
    single = _hashed(flat, np.full(len(flat), -1))
    pairs = _hashed(flat[:-1][together], flat[1:][together])
    scale = (1.0 / np.sqrt(np.maximum(lengths, 1))).astype(np.float32)
    rows = np.concatenate([np.arange(len(ids)), row, row[1:][together]])
    columns = np.concatenate([np.zeros(len(ids), np.int64), single, pairs])
    values = np.concatenate([np.ones(len(ids), np.float32), scale[row], scale[row[1:][together]]])
    return rows, columns, values


def _hashed(first: Ints, second: Ints) -> Ints:
    """Columns 1 to 2 ** BITS - 1 of pairs of ids."""
    mixed: Any = first.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= (second + 1).astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return 1 + ((mixed >> np.uint64(40)) % np.uint64(2**BITS - 1)).astype(np.int64)


def learn(ids: Sequence[Sequence[int]], positive: NDArray[np.bool_], *, seed: int = 0) -> Glance:
    """A glance that drops nothing yet, taught on sentences (token ids) with and without events."""
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    rows, columns, values = features(ids)
    matrix = sparse.csr_matrix((values, (rows, columns)), shape=(len(ids), 2**BITS))
    model = LogisticRegression(
        C=20.0, class_weight="balanced", solver="liblinear", fit_intercept=False, random_state=seed
    )
    model.fit(matrix, positive)
    return Glance(np.asarray(model.coef_[0], np.float32), float("-inf"))


def cut(scores: Floats, positive: NDArray[np.bool_], *, recall: float) -> float:
    """The highest threshold that keeps `recall` of the positives."""
    ordered = np.sort(scores[positive])
    if not len(ordered):
        return float("-inf")
    return float(ordered[int((1 - recall) * len(ordered))])


def taught(
    train: Sequence[Sequence[int]],
    keep: NDArray[np.bool_],
    held_out: Sequence[Sequence[int]],
    held_out_keep: NDArray[np.bool_],
    *,
    recall: float,
) -> tuple[Glance, dict[str, float]]:
    """A glance that keeps `recall` of the held-out events, and what it keeps of either kind."""
    made = learn(train, keep)
    scores = made.scores(held_out)
    made = Glance(made.weights, cut(scores, held_out_keep, recall=recall))
    seen = scores >= made.threshold
    return made, {
        "recall": float(seen[held_out_keep].mean()),
        "others_kept": float(seen[~held_out_keep].mean()),
        "events": int(held_out_keep.sum()),
    }
