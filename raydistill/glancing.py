"""Learns the glance from a dataset's candidates, and says what recall validation shows.

The threshold is the lower of two: what keeps the recall asked for on validation, and even odds.
Validation alone would set it too high, since companies of other splits are harder than its own.
Where the glance is so sure that the classifier would keep next to all, the classifier is not asked.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from raydistill.calibration import threshold_for
from raydistill.intervals import clopper_pearson
from raydistill.stages.glance import BITS, Glance, features
from raydistill.stages.pieces import pieces

LEARN_ROWS = 200_000  # of either kind: 25 s, and 300 MB of features
PAYS = 0.2  # of the candidates without events that it must drop to be worth its place
# Of the sentences that pass it, the share of which it must be sure to spare the classifier them.
SPARES = 0.2

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Learned:
    """A glance and what it keeps of validation: `recall` of `events` sentences with events, with
    its lower bound (95 %, exact), and the share `passes` of the sentences without."""

    glance: Glance
    recall: float
    recall_low: float
    events: int
    passes: float

    def left_out(self, shown: float) -> str:
        """Why it is of no use; empty where it is. `shown` is the recall to be shown."""
        if self.recall_low < shown:
            return f"validation does not show a recall of {shown:.2%}"
        if 1 - self.passes < PAYS:
            return "it would not pay"
        return ""

    def told(self) -> dict[str, Any]:
        """What stands in the release's metrics."""
        return {
            "threshold": self.glance.threshold,
            "recall": self.recall,
            "recall_low": self.recall_low,
            "events": self.events,
            "passes": self.passes,
        }

    def __str__(self) -> str:
        return (
            f"keeps {self.recall:.2%} (at least {self.recall_low:.2%}) of {self.events:,}"
            f" validation sentences with events, {self.passes:.1%} of those without"
        )


def learned(train: pa.Table, held_out: pa.Table, *, recall: float) -> Learned | None:
    """A glance taught on one table of (text, keep), its threshold chosen on the other.

    None where either has not both kinds of sentences.
    """
    keep, truth = (np.asarray(one["keep"].to_pylist(), np.bool_) for one in (train, held_out))
    if not (0 < keep.sum() < len(keep) and 0 < truth.sum() < len(truth)):
        return None
    weights, bias = fitted(train["text"], keep)
    scores = Glance(weights, bias, 0.0).scores(held_out["text"])
    threshold = min(0.0, threshold_for(scores[truth], recall))
    found, events = int((scores[truth] >= threshold).sum()), int(truth.sum())
    return Learned(
        glance=Glance(weights, bias, threshold),
        recall=found / events,
        recall_low=clopper_pearson(found, events)[0],
        events=events,
        passes=float((scores[~truth] >= threshold).mean()),
    )


@dataclass(frozen=True)
class Sure:
    """From which score on the glance is sure: of those `sentences` of validation, the share
    `spared` of what passes it, the classifier keeps the share `kept` (at least `low`, 95 %)."""

    threshold: float
    kept: float
    low: float
    sentences: int
    spared: float

    def told(self) -> dict[str, float]:
        """What stands in the release's metrics."""
        return {
            "sure": self.threshold,
            "sure_kept": self.kept,
            "sure_kept_low": self.low,
            "spared": self.spared,
        }

    def __str__(self) -> str:
        return (
            f"sure of {self.spared:.1%} of what passes it, of which skip would keep {self.kept:.2%}"
            f" (at least {self.low:.2%}): skip is not asked"
        )


def sure(scores: Floats, kept: Bools, *, shown: float, least: float) -> Sure | None:
    """The lowest score from which on validation shows that the classifier keeps `shown` of all.

    `scores` are the glance's of the sentences that pass it, `kept` what the classifier does with
    them. No score below `least` is one. None where so few would be spared that it does not pay.
    """
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(kept[order])
    # Only where the next score is lower: sentences of one score are told apart by nothing.
    ends = np.flatnonzero(np.append(np.diff(scores[order]) < 0, True) & (scores[order] >= least))
    for at in ends[::-1].tolist():
        low = clopper_pearson(int(found[at]), at + 1)[0]
        if low >= shown:
            spared = (at + 1) / len(scores)
            share = float(found[at] / (at + 1))
            made = Sure(float(scores[order[at]]), share, low, at + 1, spared)
            return made if spared >= SPARES else None
    return None


def fitted(texts: "pa.ChunkedArray", keep: Bools) -> tuple[NDArray[np.float32], float]:
    """Weights and bias of a logistic regression; both kinds of sentences weigh the same."""
    from sklearn.linear_model import LogisticRegression

    rows = np.sort(np.concatenate([_some(keep), _some(~keep)]))
    matrix = _matrix(texts.take(pa.array(rows)))
    model = LogisticRegression(
        C=20.0, class_weight="balanced", solver="liblinear", random_state=0, max_iter=200
    )
    model.fit(matrix, keep[rows])
    return np.asarray(model.coef_[0], np.float32), float(np.ravel(model.intercept_)[0])


def _some(kind: Bools) -> NDArray[np.int64]:
    """LEARN_ROWS rows of a kind at most, evenly from all of them."""
    rows = np.flatnonzero(kind)
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), LEARN_ROWS)).astype(np.int64)]


def _matrix(texts: "pa.ChunkedArray") -> Any:
    """The features of each sentence: a sparse matrix (sentences, 2 ** BITS)."""
    parts: list[Any] = []
    for _, piece in pieces(texts):
        found = features(piece)
        rows = np.concatenate([found.rows, found.pair_rows])
        columns = np.concatenate([found.columns, found.pair_columns])
        values = found.scale[rows].astype(np.float32)
        parts.append(sparse.csr_matrix((values, (rows, columns)), shape=(len(piece), 2**BITS)))
    return sparse.vstack(parts, format="csr")
