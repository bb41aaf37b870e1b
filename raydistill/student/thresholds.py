"""Thresholds: from which score on a classifier's sentences are kept, and whom they go to."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.calibration import Floats, threshold_for
from raydistill.errors import SetupError
from raydistill.intervals import clopper_pearson
from raydistill.specialists import Specialists
from raydistill.student.masters import Skip


def thresholds(
    student: Path, rows: pa.Table, *, recall: float, threads: int, classes: Sequence[Sequence[int]]
) -> dict[str, float]:
    """The highest `threshold` with the wished recall on these rows of validation, and its bound.

    `classes` are those of each row where the classifier tells specialists apart, else empty; then
    it gives their `route`, too. Bounds are lower ones, 95 %.
    """
    keep = np.asarray(rows["keep"])
    if not keep.any():
        raise SetupError(
            "no events in the validation split", todo="raise split.val or add companies"
        )
    shares = np.array(Skip(student, threads=threads).shares(rows["text"].to_pylist()))
    scores = shares[:, 1:].sum(1)
    threshold = threshold_for(scores[keep], recall)
    kept = scores >= threshold
    found = int(kept[keep].sum())
    low, _ = clopper_pearson(found, int(keep.sum()), 0.95)
    return {
        "threshold": float(threshold),
        "recall": found / int(keep.sum()),
        "recall_low": low,
        "kept": float(kept.mean()),
        **(_route(shares, kept, classes, recall) if classes else {}),
    }


def _route(
    shares: Floats, kept: NDArray[np.bool_], classes: Sequence[Sequence[int]], recall: float
) -> dict[str, float]:
    """The share from which a specialist is asked although another's is larger.

    It keeps `recall` of the pairs of a kept sentence and a specialist with records in it. `asked`
    is the mean number of specialists a kept sentence goes to; `shares` are (sentences, classes).
    """
    pairs = [(at, one) for at in np.flatnonzero(kept).tolist() for one in classes[at] if one]
    at, wanted = np.array(pairs, np.int64).reshape(-1, 2).T
    threshold = min(0.5, threshold_for(shares[at, wanted], recall))  # above, there is no second
    asked = Specialists.asked(shares, threshold)
    return {
        "route": float(threshold),
        "route_recall": float(asked[at, wanted - 1].mean()),
        "asked": float(asked[kept].sum(1).mean()),
    }
