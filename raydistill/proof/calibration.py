"""Validation of a release's own stages: which recall it states, and how sure its answers are.

Publishing runs the stages as they will be used (quantised, in their order) over validation
sentences: the recall of prefilter and skip threshold with its lower bound, and the calibration of
the answers that reach a reader.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill.answer import Answer
from raydistill.calibration import Calibration
from raydistill.errors import AnswerError
from raydistill.intervals import clopper_pearson
from raydistill.pipeline import Stage
from raydistill.proof.compare import scored
from raydistill.proof.judge import sentences
from raydistill.stages.extract import Said
from raydistill.task import Task


@dataclass(frozen=True, slots=True)
class Validated:
    """What the stages did on validation; `calibration` is None where answers were too few."""

    recall: dict[str, Any]
    calibration: Calibration | None


def validated(
    rows: pa.Table, task: Task, prefilter: Stage, skip: Stage, said: Sequence[Said]
) -> Validated:
    """Recall and calibration over rows of a dataset; `said` is the extractor's word on each."""
    ids: list[str] = rows["id"].to_pylist()
    candidates = prefilter(sentences(rows))
    reach = [set(one["id"].to_pylist()) for one in (candidates, skip(candidates))]
    truths = [task.parse(answer) for answer in rows["answer"].to_pylist()]
    recall = _recall(ids, truths, reach)
    groups = rows["group"].to_pylist()
    seen = [
        (one.score, one.tokens, scored(task, truth, one.answer).exact, group)
        for id, truth, one, group in zip(ids, truths, said, groups, strict=True)
        if id in reach[1] and one.score is not None and not isinstance(one.answer, AnswerError)
    ]
    if not seen:
        return Validated(recall, None)
    scores, tokens, agreed, where = zip(*seen, strict=True)
    return Validated(recall, Calibration.of(scores, tokens, agreed, where))


def _recall(ids: Sequence[str], truths: Sequence[Answer], reach: list[set[str]]) -> dict[str, Any]:
    """Sentences with an event that pass the prefilter, then the skip threshold; exact bounds."""
    positive = [id for id, truth in zip(ids, truths, strict=True) if truth.records]
    out: dict[str, Any] = {"sentences": len(ids), "with_events": len(positive)}
    for name, some in zip(("prefilter", "end_to_end"), reach, strict=True):
        found = sum(id in some for id in positive)
        low, high = clopper_pearson(found, len(positive))
        value = found / max(1, len(positive))
        out[name] = {"value": value, "low": low, "high": high}
    out["kept"] = len(reach[1]) / max(1, len(ids))
    return out


def cost_curve(
    probability: Sequence[float], agreed: Sequence[bool], *, teacher: float, points: int = 41
) -> list[dict[str, float]]:
    """What abstaining below each probability costs, and how far the rest then agrees.

    Answers below the dial go to the teacher, who agrees with himself: `agreement` is of all answers
    then, `kept` of the student's own. `cost` is in multiples of the student's work on one answer;
    `teacher` says how many of those a question to the teacher costs.
    """
    order = np.argsort(np.asarray(probability), kind="stable")
    right = np.asarray(agreed, np.float64)[order]
    sure = np.asarray(probability, np.float64)[order]
    count = len(order)
    out: list[dict[str, float]] = []
    for share in np.linspace(0, 1, points):
        asked = min(count - 1, int(share * count))
        kept = right[asked:]
        out.append(
            {
                "below": float(sure[asked]),
                "asked": asked / count,
                "kept": float(kept.mean()),
                "agreement": (asked + float(kept.sum())) / count,
                "cost": 1 + teacher * asked / count,
            }
        )
    return out
