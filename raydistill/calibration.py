"""Calibration: a student's log-probability of its answer becomes the probability that it agrees.

Students are sure of themselves where they should not be. A map from (log-probability, tokens) to
the share of whole answers that agree with the teacher's is fitted on one half of validation's
companies and judged on the other. Using a map needs numpy alone; fitting one needs scikit-learn.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill.errors import SetupError
from raydistill.intervals import clopper_pearson

Floats = NDArray[np.float64]

LEAST = 40  # answers in either half, below which a probability would be a guess
ISOTONIC = 1000  # answers, below which steps fitted to them are noise
_FOLDS = 5
_BINS = 10
_EDGE = 12.0  # log-odds beyond which 32-bit scores say nothing


class Calibration:
    """A fitted map; `spec` is what `spec()` gives, plain JSON.

    `platt` is a logistic curve over the log-odds of the student's own probability and the logarithm
    of its tokens; `isotonic` puts a rising line of steps over that curve.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        try:
            self.kind = str(spec["kind"])
            self.weights = np.asarray(spec["weights"], np.float64)
            self.bias = float(spec["bias"])
            steps = spec.get("steps") or {"at": [], "probability": []}
            self.at = np.asarray(steps["at"], np.float64)
            self.steps = np.asarray(steps["probability"], np.float64)
            if self.weights.shape != (2,) or self.at.shape != self.steps.shape:
                raise ValueError("weights and steps do not fit")
        except (KeyError, TypeError, ValueError) as problem:
            raise SetupError(
                f"the calibration cannot be read: {problem!r}", todo="publish the release again"
            ) from None
        self.judged: dict[str, Any] = dict(spec.get("judged", {}))
        self._spec = dict(spec)

    def spec(self) -> dict[str, Any]:
        """The map and how it was judged, as plain JSON."""
        return self._spec

    def probability(self, scores: Sequence[float] | Floats, tokens: Sequence[int]) -> Floats:
        """Probabilities, 0..1, that whole answers agree; float64 of shape (answers,).

        `scores` are natural logarithms of the answers' probabilities, `tokens` their lengths.
        """
        odds = features(scores, tokens) @ self.weights + self.bias
        if self.kind == "isotonic":
            return np.interp(odds, self.at, self.steps)
        return 1 / (1 + np.exp(-odds))

    @classmethod
    def of(
        cls,
        scores: Sequence[float],
        tokens: Sequence[int],
        agreed: Sequence[bool],
        groups: Sequence[Hashable],
    ) -> "Calibration | None":
        """The map of these answers; None where they are too few, or all right, or all wrong.

        One entry an answer; `groups` are companies, and each lies in one half only.
        """
        if not len(scores):
            return None
        x, y = features(scores, tokens), np.asarray(agreed, np.float64)
        first = halves(groups)
        if min(first.sum(), (~first).sum()) < LEAST or len(set(y[first].tolist())) < 2:
            return None
        kind = _better(x[first], y[first])
        made = _fitted(kind, x[first], y[first]) | {"answers": int(first.sum())}
        some, lengths = np.asarray(scores)[~first], np.asarray(tokens)[~first]
        found = cls(made).probability(some, lengths.tolist())
        return cls(made | {"judged": judged(found, y[~first])})


def threshold_for(scores: NDArray[Any], recall: float) -> float:
    """The highest threshold that keeps at least `recall` of these scores of true events."""
    return float(np.sort(scores)[int((1 - recall) * len(scores) + 1e-9)])


def features(scores: Sequence[float] | Floats, tokens: Sequence[int]) -> Floats:
    """What is known of answers, shape (answers, 2): log-odds of the score, logarithm of tokens."""
    score = np.minimum(np.asarray(scores, np.float64), -1e-6)  # rounding may put it above 0
    odds = np.clip(score - np.log(-np.expm1(score)), -_EDGE, _EDGE)
    return np.stack([odds, np.log(np.maximum(1, np.asarray(tokens, np.float64)))], axis=1)


def halves(groups: Sequence[Hashable]) -> NDArray[np.bool_]:
    """Which entries belong to the first of two halves; groups stay whole, largest first.

    A single group is cut by every second entry: nothing else is left to do.
    """
    sizes: dict[Hashable, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    if len(sizes) < 2:
        return np.arange(len(groups)) % 2 == 0
    totals, where = [0, 0], dict[Hashable, bool]()
    for group in sorted(sizes, key=lambda one: (-sizes[one], str(one))):
        side = int(totals[1] < totals[0])
        totals[side] += sizes[group]
        where[group] = side == 0
    return np.array([where[group] for group in groups])


def _fitted(kind: str, x: Floats, y: Floats) -> dict[str, Any]:
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression

    # One answer of each kind more than there are: no finite sample proves a probability of 0 or 1.
    mean = x.mean(axis=0, keepdims=True)
    curve = LogisticRegression(C=10.0, max_iter=1000)
    curve.fit(np.concatenate([x, mean, mean]), np.concatenate([y, [0.0, 1.0]]))
    weights, bias = curve.coef_[0], float(np.ravel(curve.intercept_)[0])
    if weights[0] <= 0:  # the student's certainty says nothing, or lies: its mean rate remains
        weights = np.zeros(2)
        bias = float(np.log((y.sum() + 1) / (len(y) - y.sum() + 1)))
    made: dict[str, Any] = {"kind": kind, "weights": weights.tolist(), "bias": bias}
    if kind == "isotonic":
        edge = 1 / (len(y) + 2)
        steps = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
        steps.fit(x @ weights + bias, y)
        made["steps"] = {
            "at": steps.X_thresholds_.tolist(),
            "probability": steps.y_thresholds_.tolist(),
        }
    return made


def _better(x: Floats, y: Floats) -> str:
    """`isotonic` where there are answers enough for it and it does better on folds left out."""
    if len(y) < ISOTONIC:
        return "platt"
    fold = np.arange(len(y)) % _FOLDS
    losses = dict.fromkeys(("platt", "isotonic"), 0.0)
    for kind in losses:
        for out in range(_FOLDS):
            kept = fold != out
            one = Calibration(_fitted(kind, x[kept], y[kept]))
            odds = x[~kept] @ one.weights + one.bias
            known = np.interp(odds, one.at, one.steps) if one.at.size else 1 / (1 + np.exp(-odds))
            known = np.clip(known, 1e-6, 1 - 1e-6)
            right = y[~kept]
            losses[kind] -= float((right * np.log(known) + (1 - right) * np.log1p(-known)).sum())
    return min(losses, key=lambda kind: losses[kind])


def judged(probability: Floats, agreed: Floats, *, seed: int = 0) -> dict[str, Any]:
    """How honest probabilities are: `ece` on `answers` answers, and what chance alone would give.

    `ece` is the mean distance between probability and agreement over bins of equal count;
    `ece_of_chance` its mean for probabilities that are exactly right, which is not 0 in a sample.
    `brier` is the mean squared error, `brier_of_rate` that of always saying the mean rate.
    """
    random = np.random.default_rng(seed)
    bins = binned(probability, agreed)
    chance = [
        _ece(binned(probability, (random.random(len(agreed)) < probability).astype(np.float64)))
        for _ in range(100)
    ]
    rate = float(agreed.mean())
    return {
        "answers": len(agreed),
        "agreed": rate,
        "ece": _ece(bins),
        "ece_of_chance": float(np.mean(chance)),
        "brier": float(((probability - agreed) ** 2).mean()),
        "brier_of_rate": rate * (1 - rate),
        "bins": bins,
    }


def binned(probability: Floats, agreed: Floats, *, bins: int = _BINS) -> list[dict[str, float]]:
    """Answers in bins of equal count by probability: mean probability, agreement, its interval."""
    order = np.argsort(probability, kind="stable")
    out: list[dict[str, float]] = []
    for rows in np.array_split(order, min(bins, max(1, len(order)))):
        if len(rows):
            right = int(agreed[rows].sum())
            low, high = clopper_pearson(right, len(rows))
            out.append(
                {
                    "answers": len(rows),
                    "probability": float(probability[rows].mean()),
                    "agreed": right / len(rows),
                    "low": low,
                    "high": high,
                }
            )
    return out


def _ece(bins: Sequence[Mapping[str, float]]) -> float:
    count = sum(one["answers"] for one in bins)
    gaps = sum(one["answers"] * abs(one["probability"] - one["agreed"]) for one in bins)
    return gaps / max(1, count)
