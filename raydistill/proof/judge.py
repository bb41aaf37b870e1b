"""Judging: one pass of a release over labelled rows, with everything a report is made of.

The stages are those of backfill. What the skip classifier says is kept of every sentence that it is
asked about, also of those its threshold drops: other thresholds can be drawn from one pass.
"""

import math
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import compute

from raydistill.answer import Answer
from raydistill.chunk import SENTENCES
from raydistill.errors import AnswerError
from raydistill.pipeline import Cascade
from raydistill.proof.compare import Answers, Sample, sample, scored, scores
from raydistill.release import Release
from raydistill.score import Scored
from raydistill.stages.extract import Extract
from raydistill.stages.routed import Routed
from raydistill.stages.skip import Skip

pc: Any = compute  # made at import, so that a type checker cannot know them


@dataclass(frozen=True, slots=True)
class Judged:
    """The answers and scores of every row of a sample: by the extractor alone, and by the cascade.

    `alone` covers the rows in which the teacher has records, whatever the stages before would do.
    `kept` holds the rows left after `candidates` (prefilter), `glanced` (where the release has a
    glance) and `kept` (skip). `certainty` is the probability that the extractor gives its whole
    answer, `likely` that of agreement, calibrated. `seconds` and `rows` are by stage.
    """

    sample: Sample
    answers: dict[str, Answer | AnswerError]
    cascade: dict[str, Scored]
    alone: dict[str, Scored]
    kept: dict[str, set[str]]
    skip_scores: dict[str, float]
    sure: set[str]
    certainty: dict[str, float]
    likely: dict[str, float]
    seconds: dict[str, float]
    rows: dict[str, int]


def judge(rows: pa.Table, opened: Release, *, threads: int) -> Judged:
    """Runs a release over rows of a dataset and scores it against their answers."""
    taken = sample(rows, opened.task)
    cascade = Cascade(opened, threads=threads)
    prefilter, glance, skip, extract = (step.stage for step in cascade.steps)
    assert isinstance(skip, Skip)
    assert isinstance(extract, Extract | Routed)
    threshold, skip.threshold = skip.threshold, 0.0
    seconds: dict[str, float] = {}
    counts: dict[str, int] = {}
    table = cascade.guarded(sentences(rows))
    prefilter(table)  # compiles patterns as rows need them, which is no part of the rate
    left: dict[str, set[str]] = {}
    sure: set[str] = set()
    for name, stage in (("prefilter", prefilter), ("glance", glance), ("skip", skip)):
        counts[name] = len(table)
        began = time.perf_counter()
        table = stage(table)
        seconds[name] = time.perf_counter() - began
        left[name] = set(table["id"].to_pylist())
        if name == "glance" and "skip_score" in table.column_names:
            sure = set(table.filter(pc.is_valid(table["skip_score"]))["id"].to_pylist())
    told = zip(table["id"].to_pylist(), table["skip_score"].to_pylist(), strict=True)
    skip_scores = {id: score for id, score in told if score is not None and id not in sure}
    stays = pc.fill_null(pc.greater_equal(table["skip_score"], threshold), True)
    table = table.filter(stays)
    counts["extract"] = len(table)
    began = time.perf_counter()
    answered = extract(table)
    seconds["extract"] = time.perf_counter() - began
    answers, certainty, likely = _answers(answered, opened, taken)
    positives = [id for id, truth in taken.truths.items() if truth.records]
    alone = _alone(extract, taken, positives, answers)
    return Judged(
        sample=taken,
        answers=answers,
        cascade={id: scored(opened.task, taken.truths[id], answers[id]) for id in taken.ids},
        alone=scores(opened.task, taken.truths, alone),
        kept={
            "candidates": left["prefilter"],
            **({"glanced": left["glance"]} if "glance" in opened.manifest.thresholds else {}),
            "kept": set(table["id"].to_pylist()),
        },
        skip_scores=skip_scores,
        sure=sure,
        certainty=certainty,
        likely=likely,
        seconds=seconds,
        rows=counts,
    )


def sentences(rows: pa.Table) -> pa.Table:
    """A dataset's rows as a chunk without markers."""
    count = len(rows)
    columns = {
        "filing_id": rows["group"],
        "id": rows["id"],
        "position": pa.nulls(count, pa.int32()),
        "text": rows["text"],
        "error": pa.nulls(count, pa.string()),
    }
    return pa.table(columns).cast(SENTENCES)


def _answers(
    answered: pa.Table, opened: Release, taken: Sample
) -> tuple[dict[str, Answer | AnswerError], dict[str, float], dict[str, float]]:
    """The cascade's answer to every row (none where it was dropped), and how certain it is."""
    answers: dict[str, Answer | AnswerError] = {id: Answer() for id in taken.ids}
    certainty: dict[str, float] = {}
    likely: dict[str, float] = {}
    names = ["id", "answer", "error", "score", "agreement_probability"]
    for row in answered.select(names).to_pylist():
        answers[row["id"]] = (
            AnswerError(row["error"]) if row["error"] else opened.task.parse(row["answer"])
        )
        if row["score"] is not None:
            certainty[row["id"]] = math.exp(min(0.0, row["score"]))
        if row["agreement_probability"] is not None:
            likely[row["id"]] = row["agreement_probability"]
    return answers, certainty, likely


def _alone(
    extract: Extract | Routed, taken: Sample, ids: list[str], known: Answers
) -> dict[str, Answer | AnswerError]:
    """The extractor's answer to each of these rows, dropped or not."""
    texts = taken.text_of()
    # A row the cascade kept has its answer; an empty one may mean that it was dropped.
    missing = [id for id in ids if known[id] == Answer()]
    found = extract.answers([texts[id] for id in missing])
    fresh = {id: one.answer for id, one in zip(missing, found, strict=True)}
    return {id: fresh.get(id, known[id]) for id in ids}
