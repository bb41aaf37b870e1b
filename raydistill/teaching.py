"""Teaching: what a student is taught of a dataset, and how far it agrees with its teacher."""

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from raydistill.dataset import Dataset
from raydistill.errors import SetupError
from raydistill.lessons.taught import taught
from raydistill.questions import mixture
from raydistill.specialists import Specialists
from raydistill.student.examples import Examples, classification, extraction
from raydistill.student.fit import FitConfig
from raydistill.student.masters import Scorer, writer
from raydistill.student.pointer import pointing
from raydistill.student.shape import Kind, Shape
from raydistill.student.start import Start, refuse_unfaithful
from raydistill.target import decoded


class Wanted(Protocol):
    """The part of train's Config that is read here."""

    student: Shape
    fit: FitConfig
    target: str
    negatives: float
    invented: int
    joined: float
    weights: dict[str, float]
    only: list[str]
    specialists: dict[str, list[str]]
    max_dropped: float
    max_cut: float


def specialists(config: Wanted, data: Dataset) -> Specialists | None:
    """Whom the classifier is to tell apart. Raises SetupError on what cannot be."""
    if not config.specialists:
        return None
    if config.student.kind is not Kind.encoder or config.only or data.others:
        what = "several tasks" if data.others else "only=" if config.only else "an extractor"
        raise SetupError(
            f"specialists= with {what}",
            expected="a skip classifier of one task's whole dataset: student=skip_s or another",
            todo="set specialists= for the classifier, only= for each of its extractors",
        )
    return Specialists.of(data.task, config.specialists)


def classes_of(config: Wanted, data: Dataset, rows: pa.Table) -> list[list[int]] | None:
    """The classes of these rows, None where there are but two: nothing and something."""
    parts = specialists(config, data)
    if parts is None:
        return None
    return [parts.classes(data.task.parse(one)) for one in rows["answer"].to_pylist()]


def agreement(config: Wanted, data: Dataset, begun: Start) -> float:
    """How far the student as it stands agrees with the teacher on a sample of validation, 0..1.

    For an extractor the share of sentences, as many with an event as without, whose whole answer is
    the teacher's; for a classifier the mean of its accuracy on either.
    """
    if data.others:
        return mixture.agreement(
            data,
            begun.model,
            begun.tokenizer,
            begun.frame,
            kind=config.target,
            size=config.student,
            rows=config.fit.validate_rows,
            places=begun.places,
        )
    rows = data.table("val")
    keep = np.asarray(rows["keep"])
    half = max(1, config.fit.validate_rows // 2)
    some = np.sort(np.concatenate([np.flatnonzero(keep)[:half], np.flatnonzero(~keep)[:half]]))
    rows, keep = rows.take(pa.array(some)), keep[some]
    texts = rows["text"].to_pylist()
    if begun.target is None:
        scorer = Scorer(begun.model, begun.tokenizer, begun.frame, config.student)
        right = (np.array(scorer.scores(texts)) >= 0.5) == keep
        return float(np.mean([right[keep == one].mean() for one in np.unique(keep)]))
    # A validation costs what it may: answers longer than a few events are wrong here anyway.
    size = replace(config.student, max_output=min(config.student.max_output, 160))
    encoded = begun.tokenizer.encode(texts)
    slots = begun.places[data.task.name] if begun.places else None
    asked = writer(begun.model, begun.tokenizer, begun.frame, size, slots)
    written = asked.tokens(encoded)
    hits = [
        decoded(begun.target, tokens, one.source) == data.task.parse(answer, text)
        for tokens, one, answer, text in zip(
            written, encoded, rows["answer"].to_pylist(), texts, strict=True
        )
    ]
    return float(np.mean(hits))


def examples_of(config: Wanted, data: Dataset, begun: Start, *, tell: bool) -> Examples:
    """What the student learns from; rows that it cannot take are refused above a share."""
    shape = config.student
    if data.others:
        return _mixture(config, data, begun)
    if begun.target is None:
        rows = data.table("train")
        classes_of(config, data, data.table("val"))  # whose types want an owner, too
        examples = classification(
            rows,
            begun.tokenizer,
            max_input=shape.max_input,
            frame=begun.frame,
            classes=classes_of(config, data, rows),
        )
        _refuse(examples.cut, len(rows), config.max_cut, "cut", "student.max_input, or max_cut")
        return examples
    lessons = taught(
        data,
        negatives=config.negatives,
        copies=config.invented,
        joined=config.joined,
        seed=config.fit.seed,
    )
    if tell:
        print(f"train: {lessons.told()}", flush=True)
    first = lessons.rows.slice(0, 200)
    pairs = zip(first["text"].to_pylist(), first["answer"].to_pylist(), strict=True)
    refuse_unfaithful(begun, data.task, list(pairs), config.target)
    made: dict[str, Any] = {"max_input": shape.max_input, "frame": begun.frame}
    what = (lessons.rows, data.task, begun.target)
    if begun.places is not None:
        examples = pointing(*what, begun.tokenizer, places=begun.places, **made)
    else:
        examples = extraction(*what, begun.tokenizer, max_output=shape.max_output, **made)
    todo = "student.max_input or student.max_output, or max_dropped"
    _refuse(examples.dropped, len(lessons.rows), config.max_dropped, "dropped", todo)
    return examples


def _mixture(config: Wanted, data: Dataset, begun: Start) -> Examples:
    """The examples of several tasks, each as often as `weights` says."""
    if begun.target is None:
        raise SetupError(
            "a classifier of a dataset with several tasks",
            expected="student=seq2seq_s or another that writes answers",
            todo="set student=",
        )
    examples = mixture.examples(
        data,
        begun.tokenizer,
        begun.frame,
        kind=config.target,
        weights=config.weights,
        size=config.student,
        places=begun.places,
        seed=config.fit.seed,
    )
    todo = "student.max_input or student.max_output, or max_dropped"
    rows = len(examples) + examples.dropped
    _refuse(examples.dropped, rows, config.max_dropped, "dropped", todo)
    return examples


def _refuse(count: int, rows: int, most: float, what: str, todo: str) -> None:
    if count > most * rows:
        raise SetupError(
            f"{count} of {rows} rows are longer than the student takes, and are {what}",
            expected=f"at most {most:.0%}",
            todo=f"raise {todo}",
        )
