"""Students of known quality: the true answers of a table, some of them spoiled."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.task import Task

SKEWED = {"positive": "negative", "negative": "neutral", "neutral": "positive"}


def noisy(
    task: Task, wrong: float, invented: float = 0.0, *, seed: int = 0
) -> Callable[[pa.Table], list[Answer | AnswerError]]:
    """A student that gives the teacher's answer, wrong in `wrong` of the rows with events and
    inventing an event in `invented` of those without."""
    random = np.random.default_rng(seed)

    def student(rows: pa.Table) -> list[Answer | AnswerError]:
        out: list[Answer | AnswerError] = []
        for text, answer in zip(rows["text"].to_pylist(), rows["answer"].to_pylist(), strict=True):
            truth = task.parse(answer, text)
            if truth.records:
                out.append(_spoiled(truth, random.random()) if random.random() < wrong else truth)
            else:
                extra = random.random() < invented
                out.append(task.answer([INVENTED], text) if extra else truth)
        return out

    return student


INVENTED: Mapping[str, Any] = {
    "event_type": "issued_press_release",
    "subject": "the Company",
    "object": None,
    "magnitude_class": "minor",
    "timing": "definitive",
    "sentiment": "neutral",
    "materiality": "immaterial",
    "confidence": 7,
    "date_confidence": 0,
    "event_date": None,
}


def _spoiled(truth: Answer, dice: float) -> Answer | AnswerError:
    """Nothing, an error, or another sentiment in the first record."""
    if dice < 0.2:
        return Answer()
    if dice < 0.3:
        return AnswerError("cut_short")
    first = dict(truth.records[0])
    first["sentiment"] = SKEWED[str(first["sentiment"])]
    return Answer((first, *truth.records[1:]), truth.offsets)
