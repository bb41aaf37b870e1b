"""The waterfall: how many teacher events each stage of the cascade keeps, and what keeping costs.

The skip threshold is drawn as a curve: recall against sentences extracted.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill import keywords
from raydistill.intervals import bootstrap
from raydistill.proof.compare import Sample, Scores

Floats = NDArray[np.float64]
POINTS = 25


def waterfall(
    ids: Sequence[str],
    kept: Mapping[str, set[str]],
    scores: Scores,
    group_of: Mapping[str, str],
    *,
    draws: int = 500,
) -> dict[str, Any]:
    """Teacher events left after each stage; `found` are aligned with an event of the student's,
    `right` are equal to it in every field. `rates` gives each as a share with its interval."""
    events = [scores[id].truth for id in ids]
    groups = [group_of[id] for id in ids]
    left: dict[str, list[int]] = {
        name: [n if id in some else 0 for id, n in zip(ids, events, strict=True)]
        for name, some in kept.items()
    }
    left["found"] = [len(scores[id].pairs) for id in ids]
    left["right"] = [scores[id].matched for id in ids]
    total = sum(events)
    rates: dict[str, dict[str, float]] = {}
    for name, counts in left.items():
        low, high = bootstrap(groups, counts, events, draws=draws)
        rates[name] = {"value": sum(counts) / max(1, total), "low": low, "high": high}
    return {
        "teacher": total,
        **{name: sum(counts) for name, counts in left.items()},
        "rates": rates,
    }


def skip_curve(
    sample: Sample,
    skip_scores: Mapping[str, float],
    scores: Scores,
    threshold: float,
    sure: Collection[str] = (),
) -> dict[str, Any]:
    """What other skip thresholds would keep: share of sentences extracted, and of events.

    Shares are of all rows and of all teacher events of the sample; the prefilter's losses stay, and
    so do the `sure` sentences about which the classifier is not asked.
    """
    events = {id: scores[id].truth for id in sample.ids}
    total, rows = max(1, sum(events.values())), max(1, len(sample.ids))
    order = sorted(skip_scores, key=lambda id: -skip_scores[id])
    values = np.array([skip_scores[id] for id in order])
    found = np.cumsum([events[id] for id in order])
    surely = sum(events[id] for id in sure)
    points: list[dict[str, float]] = []
    for one in _thresholds(values, threshold):
        count = int((values >= one).sum())
        recall = (surely + (float(found[count - 1]) if count else 0.0)) / total
        extracted = (count + len(sure)) / rows
        points.append({"threshold": float(one), "extracted": extracted, "events": recall})
    return {"threshold": threshold, "points": points}


def _thresholds(values: Floats, chosen: float) -> Sequence[float]:
    if not len(values):
        return []
    marks = np.quantile(values, np.linspace(0, 1, POINTS))
    return sorted({0.0, chosen, *(round(float(one), 6) for one in marks)})


def prefilter_losses(words: Sequence[str], sample: Sample, *, most: int = 12) -> dict[str, Any]:
    """Sentences with events that no keyword lets through, and what each keyword is worth.

    `needed` keywords are the only way in for some events; `idle` ones let in sentences that no
    other keyword does and none of them has an event.
    """
    positive = np.array([bool(sample.truths[id].records) for id in sample.ids])
    found = keywords.losses(words, sample.texts, positive)
    table = found.by_keyword.to_pylist()
    needed = sorted((row for row in table if row["events_alone"]), key=lambda r: -r["events_alone"])
    idle = [row for row in table if not row["events_alone"] and row["others_alone"]]
    lost: list[dict[str, Any]] = []
    for at in found.lost[:most]:
        id = sample.ids[int(at)]
        first = next(iter(sample.truths[id].records[0].values()))
        lost.append({"id": id, "text": sample.texts[int(at)], "event": first})
    return {
        "lost": len(found.lost),
        "positives": int(positive.sum()),
        "examples": lost,
        "needed": needed[:most],
        "idle": sorted(idle, key=lambda r: -r["others_alone"])[:most],
    }
