"""Validation of a release's own stages: which recall it states, and how sure its answers are.

Publishing runs the stages as they will be used (quantised, in their order) over validation
sentences: the recall up to the skip threshold with its lower bound, and the calibration of the
answers that reach a reader.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill.answer import Answer
from raydistill.calibration import Calibration, judged
from raydistill.errors import AnswerError
from raydistill.intervals import clopper_pearson
from raydistill.pipeline import Stage
from raydistill.proof.compare import scored
from raydistill.proof.cost import Config as CostConfig
from raydistill.proof.judge import Judged, sentences
from raydistill.release import Release
from raydistill.stages.extract import Said
from raydistill.task import Task


@dataclass(frozen=True, slots=True)
class Validated:
    """What the stages did on validation; `calibration` is None where answers were too few."""

    recall: dict[str, Any]
    calibration: Calibration | None


def validated(
    rows: pa.Table, task: Task, stages: Mapping[str, Stage], said: Sequence[Said]
) -> Validated:
    """Recall and calibration over rows of a dataset; `said` is the extractor's word on each.

    `stages` are those before it, in their order, by the names that their recall is told under; the
    last of them is `end_to_end`.
    """
    ids: list[str] = rows["id"].to_pylist()
    table, reach = sentences(rows), dict[str, set[str]]()
    for name, stage in stages.items():
        table = stage(table)
        reach[name] = set(table["id"].to_pylist())
    truths = [task.parse(answer) for answer in rows["answer"].to_pylist()]
    recall = _recall(ids, truths, reach)
    groups = rows["group"].to_pylist()
    seen = [
        (one.score, one.tokens, scored(task, truth, one.answer).exact, group)
        for id, truth, one, group in zip(ids, truths, said, groups, strict=True)
        if id in reach["end_to_end"]
        and one.score is not None
        and not isinstance(one.answer, AnswerError)
    ]
    if not seen:
        return Validated(recall, None)
    scores, tokens, agreed, where = zip(*seen, strict=True)
    return Validated(recall, Calibration.of(scores, tokens, agreed, where))


def _recall(
    ids: Sequence[str], truths: Sequence[Answer], reach: Mapping[str, set[str]]
) -> dict[str, Any]:
    """Sentences with an event that are left after each stage; exact bounds."""
    positive = [id for id, truth in zip(ids, truths, strict=True) if truth.records]
    out: dict[str, Any] = {"sentences": len(ids), "with_events": len(positive)}
    for name, some in reach.items():
        found = sum(id in some for id in positive)
        low, high = clopper_pearson(found, len(positive))
        value = found / max(1, len(positive))
        out[name] = {"value": value, "low": low, "high": high}
    out["kept"] = len(reach["end_to_end"]) / max(1, len(ids))
    return out


DIAL = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_POINTS = 41


def dial(
    probability: Sequence[float], agreed: Sequence[bool], *, student: float, question: float
) -> dict[str, list[dict[str, float]]]:
    """What abstaining costs, and how far answers then agree: a `curve`, and `settings` to choose.

    Answers below the setting go to the teacher, who agrees with himself: `agreement` is of all
    answers then, `kept` of the student's own. `cost` is in US$ a filing: `student` without
    questions, and `question` more where every answer is asked again.
    """
    order = np.argsort(np.asarray(probability), kind="stable")
    right = np.asarray(agreed, np.float64)[order]
    sure = np.asarray(probability, np.float64)[order]
    count = len(order)
    if not count:
        return {"curve": [], "settings": []}

    def point(asked: int, below: float) -> dict[str, float]:
        kept = right[asked:]
        return {
            "below": below,
            "asked": asked / count,
            "kept": float(kept.mean()) if len(kept) else 1.0,
            "agreement": (asked + float(kept.sum())) / count,
            "cost": student + question * asked / count,
        }

    starts = [min(count - 1, int(share * count)) for share in np.linspace(0, 1, _POINTS)]
    return {
        "curve": [point(at, float(sure[at])) for at in starts],
        "settings": [point(int(np.searchsorted(sure, one)), one) for one in DIAL],
    }


def reported(
    seen: Judged, opened: Release, costs: Mapping[str, Any], config: CostConfig
) -> dict[str, Any]:
    """Calibration on companies that neither training nor the map has seen, and the abstain dial.

    `kind` is null for a release without a map: its own certainty is shown in its place.
    """
    spec = opened.manifest.extra.get("calibration")
    known = seen.likely if spec else seen.certainty
    ids = [id for id in seen.sample.ids if id in known]
    probability = np.array([known[id] for id in ids], np.float64)
    agreed = [seen.cascade[id].exact for id in ids]
    reach = config.sentences_per_filing * config.mix.kept
    return {
        "kind": spec["kind"] if spec else None,
        "validation": spec["judged"] if spec else None,
        "test": judged(probability, np.asarray(agreed, np.float64)) if ids else None,
        **dial(
            probability.tolist(),
            agreed,
            student=costs["student"]["usd_per_filing"],
            question=costs["teacher"]["usd_per_question"] * reach,
        ),
    }
