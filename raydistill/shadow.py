"""shadow: student and teacher over the same sentences, until it is sure whether one can replace the
other.

Rows come in an order that a keyed hash draws, so that what was seen is a fair sample of all. Two
rates are watched by confidence sequences: agreement, over sentences in which either side has an
event, and sentences without an event for which the student invents one. Go needs both right, no-go
one wrong.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from raydistill import dataset, plots, release
from raydistill.answer import Answer
from raydistill.errors import AnswerError, SetupError
from raydistill.pipeline import Cascade
from raydistill.proof import cost
from raydistill.proof.compare import MEASURES, Sample, measured, sample, scored
from raydistill.proof.cost import Config as CostConfig
from raydistill.proof.judge import sentences
from raydistill.proof.report import replaced, template
from raydistill.proof.sequential import ConfidenceSequence, Side
from raydistill.score import Scored, tally
from raydistill.task import Task

Reply: TypeAlias = Answer | AnswerError
Student: TypeAlias = Callable[[pa.Table], Sequence[Reply]]
WORDS = {"go": "go", "nogo": "no-go", "undecided": "undecided"}


@dataclass(kw_only=True, slots=True)
class BarConfig:
    """What the student must reach: agreement at least, sentences with an invention at most.

    No verdict before `least` sentences with an event on either side: fewer convince nobody.
    """

    agreement: float = 0.95
    invented_per_1000: float = 5.0
    alpha: float = 0.05
    least: int = 50

    def __post_init__(self) -> None:
        if not (0 < self.agreement < 1 and 0 < self.alpha < 1 and self.invented_per_1000 > 0):
            raise SetupError(
                f"bar.agreement={self.agreement}, bar.alpha={self.alpha}",
                expected="both between 0 and 1, and bar.invented_per_1000 above 0",
            )


@dataclass(kw_only=True, slots=True)
class Config:
    """What shadow reads: the teacher's stored rows of a dataset, `rows` of them at most."""

    root: str = "runs"
    dataset: str
    release: str
    out: str
    split: str = "test"
    rows: int = 100_000
    batch: int = 500
    seed: int = 0
    threads: int = 2
    bar: BarConfig = field(default_factory=BarConfig)
    cost: CostConfig = field(default_factory=CostConfig)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished comparison: the verdict (go, nogo, undecided), why, and what was seen."""

    verdict: str
    reasons: list[str]
    sample: Sample
    scores: dict[str, Scored]
    available: int
    steps: list[dict[str, float]]
    agreement: dict[str, float]
    invented: dict[str, float]


def run(config: Config) -> dict[str, Any]:
    """Writes shadow.html and shadow.json to `config.out`, prints the verdict; gives the figures."""
    data = dataset.open_(Path(config.dataset))
    opened = release.verify(Path(config.release), expected=data.task)
    rows = data.table(config.split)
    if not len(rows):
        raise SetupError(f"the {config.split} split is empty", todo="choose another split")
    student = CascadeStudent(opened, threads=config.threads)
    outcome = shadow(
        rows, data.task, student, config.bar, rows_at_most=config.rows, batch=config.batch,
        seed=config.seed,
    )  # fmt: skip
    made = figures(outcome, data.task, config.bar)
    made |= {"release": opened.name, "dataset": data.fingerprint, "split": config.split}
    made["cost"] = _costs(config, outcome, student, data.task)
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    replaced(folder / "shadow.html", page(made))
    replaced(folder / "shadow.json", json.dumps(made, indent=2, ensure_ascii=False))
    print(f"{WORDS[outcome.verdict]}: " + "; ".join(outcome.reasons))
    print(f"{made['rows']:,} of {made['available']:,} sentences read; page: {folder}/shadow.html")
    return made


class CascadeStudent:
    """A release as a student: the answer to every row, none where a stage drops it."""

    def __init__(self, opened: release.Release, *, threads: int) -> None:
        self.cascade = Cascade(opened, threads=threads)
        self.task = opened.task
        self.seconds: dict[str, float] = dict.fromkeys(cost.STAGES, 0.0)
        self.rows: dict[str, int] = dict.fromkeys(cost.STAGES, 0)

    def __call__(self, rows: pa.Table) -> list[Reply]:
        """The student's answer to each row of a dataset, in order."""
        table = self.cascade.guarded(sentences(rows))
        if not self.rows["prefilter"]:  # patterns are compiled as rows need them
            self.cascade.steps[0].stage(table)
        for stage, step in zip(cost.STAGES, self.cascade.steps, strict=True):
            self.rows[stage] += len(table)
            began = time.perf_counter()
            table = step.stage(table)
            self.seconds[stage] += time.perf_counter() - began
        found: dict[str, Reply] = {}
        for row in table.select(["id", "answer", "error"]).to_pylist():
            found[row["id"]] = (
                AnswerError(row["error"]) if row["error"] else self.task.parse(row["answer"])
            )
        return [found.get(id, Answer()) for id in rows["id"].to_pylist()]


def shadow(
    rows: pa.Table,
    task: Task,
    student: Student,
    bar: BarConfig,
    *,
    rows_at_most: int = 100_000,
    batch: int = 500,
    seed: int = 0,
) -> Outcome:
    """Compares until it is sure, or until the rows are spent.

    The error probability `bar.alpha` is shared by the two rates, so that both hold together.
    """
    limit = bar.invented_per_1000 / 1000
    agreement = ConfidenceSequence(bar.alpha / 2, marks=[bar.agreement])
    invented = ConfidenceSequence(bar.alpha / 2, marks=[limit])
    taken: list[pa.Table] = []
    scores: dict[str, Scored] = {}
    steps: list[dict[str, float]] = []
    verdict = "undecided"
    for piece in _drawn(rows, rows_at_most, batch, seed):
        taken.append(piece)
        some = _scores(piece, task, student)
        scores |= some
        agreement.add([one.exact for one in some.values() if _eventful(one)])
        invented.add([one.answer > 0 for one in some.values() if one.truth == 0])
        steps.append(
            {
                "rows": agreement.count,
                "value": agreement.mean,
                "low": agreement.low,
                "high": agreement.high,
            }
        )
        if agreement.count >= bar.least:
            verdict = _verdict(agreement.side(bar.agreement), invented.side(limit))
        if verdict != "undecided":
            break
    return Outcome(
        verdict=verdict,
        reasons=_reasons(agreement, invented, bar),
        sample=sample(pa.concat_tables(taken), task),
        scores=scores,
        available=min(len(rows), rows_at_most),
        steps=steps,
        agreement=_interval(agreement),
        invented=_interval(invented),
    )


def _drawn(rows: pa.Table, most: int, batch: int, seed: int) -> Iterator[pa.Table]:
    """The rows in the order of a keyed hash, in batches."""
    keys = np.array([dataset.share(id, seed) for id in rows["id"].to_pylist()])
    order = np.argsort(keys, kind="stable")[:most]
    for at in range(0, len(order), batch):
        yield rows.take(pa.array(order[at : at + batch]))


def _scores(piece: pa.Table, task: Task, student: Student) -> dict[str, Scored]:
    truths = [task.parse(answer) for answer in piece["answer"].to_pylist()]
    ids = piece["id"].to_pylist()
    return {
        id: scored(task, truth, answer)
        for id, truth, answer in zip(ids, truths, student(piece), strict=True)
    }


def _eventful(one: Scored) -> bool:
    """Whether either side has an event, or the student failed: the other rows agree for nothing."""
    return one.truth > 0 or one.answer > 0 or one.error is not None


def _verdict(agreement: Side, invented: Side) -> str:
    if agreement is Side.above and invented is Side.below:
        return "go"
    wrong = agreement is Side.below or invented is Side.above
    return "nogo" if wrong else "undecided"


def _interval(sequence: ConfidenceSequence) -> dict[str, float]:
    return {
        "value": sequence.mean,
        "low": sequence.low,
        "high": sequence.high,
        "rows": sequence.count,
    }


def _reasons(
    agreement: ConfidenceSequence, invented: ConfidenceSequence, bar: BarConfig
) -> list[str]:
    where = {
        Side.above: "surely at or above",
        Side.below: "surely below",
        Side.unknown: "not yet surely on one side of",
    }
    limit = bar.invented_per_1000 / 1000
    return [
        f"agreement {agreement.mean:.1%} ({agreement.low:.1%} to {agreement.high:.1%}),"
        f" {where[agreement.side(bar.agreement)]} {bar.agreement:.1%}",
        f"sentences with an invention {1000 * invented.mean:.2f} per 1,000"
        f" ({1000 * invented.low:.2f} to {1000 * invented.high:.2f}),"
        f" {where[invented.side(limit)]} {bar.invented_per_1000:g}",
    ]


def figures(outcome: Outcome, task: Task, bar: BarConfig) -> dict[str, Any]:
    """The outcome as JSON, with the usual scores and their intervals over companies beside it."""
    groups = outcome.sample.group_of()
    ids = list(outcome.scores)
    some = [outcome.scores[id] for id in ids]
    where = [groups[id] for id in ids]
    total = tally(some)
    return {
        "task": task.name,
        "verdict": outcome.verdict,
        "word": WORDS[outcome.verdict],
        "reasons": outcome.reasons,
        "rows": len(ids),
        "available": outcome.available,
        "companies": len(set(where)),
        "agreement": outcome.agreement,
        "invented": outcome.invented,
        "bar": {
            "agreement": bar.agreement,
            "invented_per_1000": bar.invented_per_1000,
            "alpha": bar.alpha,
        },
        "f1": measured(some, where, MEASURES["f1"]),
        "recall": measured(some, where, MEASURES["recall"]),
        "precision": measured(some, where, MEASURES["precision"]),
        "events": total.truth,
        "answered": total.answer,
        "omitted": total.omitted,
        "extra": total.invented,
        "wrong_value": total.wrong_value,
        "errors": total.errors,
        "steps": outcome.steps,
    }


def _costs(config: Config, outcome: Outcome, student: CascadeStudent, task: Task) -> dict[str, Any]:
    taken = outcome.sample
    rates = cost.rates(
        student.seconds,
        student.rows,
        threads=config.threads,
        texts=taken.texts[:1000],
        prompts=[task.prompt(text) for text in taken.texts[:1000]],
        answers=[task.render(taken.truths[id]) for id in taken.ids[:1000]],
    )
    return cost.account(rates, config.cost)


def page(made: Mapping[str, Any]) -> str:
    """The go / no-go page as one HTML document."""
    drawn = plots.running(made["steps"], made["bar"]["agreement"])
    return template("shadow.html.j2").render(made=made, drawn=drawn)
