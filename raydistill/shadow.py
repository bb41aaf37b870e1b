"""shadow: student and teacher over the same sentences, until it is sure whether one can replace the
other.

Sentences are those of a dataset or of the teacher's tables; his answers are stored, or a live
endpoint's. They come in an order that a keyed hash draws, so that what was seen is a fair sample of
all. Two rates are watched by confidence sequences: agreement, over sentences in which either side
has an event, and sentences without an event for which the student invents one. Go needs both right,
no-go one wrong.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import compute

from raydistill import dataset, plots, release
from raydistill.answer import Answer
from raydistill.endpoint import EndpointConfig
from raydistill.errors import AnswerError, SetupError
from raydistill.pipeline import Cascade
from raydistill.progress import Progress
from raydistill.proof import cost, drawn
from raydistill.proof.compare import MEASURES, Sample, measured, sample, scored
from raydistill.proof.cost import Config as CostConfig
from raydistill.proof.drawn import Drawn
from raydistill.proof.judge import sentences
from raydistill.proof.live import LiveTeacher
from raydistill.proof.report import replaced, template
from raydistill.proof.sequential import ConfidenceSequence, Side
from raydistill.score import Scored, tally
from raydistill.source import SourceConfig, dsn
from raydistill.task import Task

pc: Any = compute  # its functions are made at run time: no type checker sees them

Reply: TypeAlias = Answer | AnswerError
Student: TypeAlias = Callable[[pa.Table], Sequence[Reply]]
Teacher: TypeAlias = Callable[[pa.Table], pa.Table]
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


class Sentences(Enum):
    """Where the sentences come from: a dataset's split, or the teacher's tables (`source`)."""

    dataset = "dataset"
    source = "source"


class TeacherKind(Enum):
    """Whose answers are the teacher's: those stored beside the sentences, or a live endpoint's."""

    stored = "stored"
    endpoint = "endpoint"


@dataclass(kw_only=True, slots=True)
class Config:
    """What shadow reads: `rows` sentences at most, from `split` or from `filings` of `source`."""

    root: str = "runs"
    dataset: str | None = None
    release: str
    out: str
    sentences: Sentences = Sentences.dataset
    teacher: TeacherKind = TeacherKind.stored
    source: SourceConfig = field(default_factory=SourceConfig)
    endpoint: EndpointConfig = field(
        default_factory=lambda: EndpointConfig(url="http://127.0.0.1:8000/v1", model="teacher")
    )
    split: str = "test"
    filings: int = 200
    rows: int = 100_000
    batch: int = 500
    seed: int = 0
    threads: int = 2
    bar: BarConfig = field(default_factory=BarConfig)
    cost: CostConfig = field(default_factory=CostConfig)

    def __post_init__(self) -> None:
        if min(self.filings, self.rows, self.batch) < 1:
            raise SetupError(
                f"filings={self.filings}, rows={self.rows}, batch={self.batch}",
                expected="at least 1 each",
            )


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished comparison: the verdict (go, nogo, undecided), why, and what was seen.

    `unanswered` counts sentences to which the teacher himself gave no valid answer, by code.
    """

    verdict: str
    reasons: list[str]
    sample: Sample
    scores: dict[str, Scored]
    available: int
    steps: list[dict[str, float]]
    agreement: dict[str, float]
    invented: dict[str, float]
    unanswered: dict[str, int]


def run(config: Config, *, key: str | None = None) -> dict[str, Any]:
    """Writes shadow.html and shadow.json to `config.out`, prints the verdict; gives the figures.

    `key` is a live endpoint's.
    """
    opened = release.verify(Path(config.release))
    rows, told = _rows(config, opened)
    live: LiveTeacher | None = None
    if config.teacher is TeacherKind.endpoint:
        live = LiveTeacher(config.endpoint, opened.task, key)
        told["teacher"] = f"{config.endpoint.model}, live"
    student = CascadeStudent(opened, threads=config.threads)
    outcome = shadow(rows, opened.task, student, config.bar, teacher=live)
    made = figures(outcome, opened.task, config.bar)
    made |= {"release": opened.name, **told}
    made["cost"] = _costs(config, outcome, student, opened.task, live)
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    replaced(folder / "shadow.html", page(made))
    replaced(folder / "shadow.json", json.dumps(made, indent=2, ensure_ascii=False))
    print(f"{WORDS[outcome.verdict]}: " + "; ".join(outcome.reasons))
    print(f"{made['rows']:,} of {made['available']:,} sentences read; page: {folder}/shadow.html")
    return made


def _rows(config: Config, opened: release.Release) -> tuple[Drawn, dict[str, Any]]:
    """The rows to compare on, and how the page calls them and their teacher."""
    if config.sentences is Sentences.source:
        rows = drawn.of_source(
            dsn(config.source), config.source, opened.task, filings=config.filings,
            most=config.rows, batch=config.batch, seed=config.seed,
            answered=config.teacher is TeacherKind.stored,
        )  # fmt: skip
        table = config.source.sentences.table
        said = f"answers stored in {config.source.events.table}"
        return rows, {"origin": f"{config.filings:,} filings of {table}", "teacher": said}
    if config.dataset is None:
        raise SetupError("sentences=dataset without a dataset", todo="set dataset=")
    data = dataset.open_(Path(config.dataset))
    if data.task.shape != opened.task.shape:
        raise SetupError(
            f"{config.dataset} is of task {data.task.name} ({data.task.shape})",
            expected=f"task {opened.task.name} ({opened.task.shape})",
            todo="choose another dataset= or release=",
        )
    table = data.table(config.split)
    if not len(table):
        raise SetupError(f"the {config.split} split is empty", todo="choose another split")
    rows = drawn.of_table(table, most=config.rows, batch=config.batch, seed=config.seed)
    origin = f"dataset {data.fingerprint}, split {config.split}"
    return rows, {"origin": origin, "teacher": "answers of the dataset"}


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
    rows: Drawn, task: Task, student: Student, bar: BarConfig, *, teacher: Teacher | None = None
) -> Outcome:
    """Compares until it is sure, or until the rows are spent; `teacher` answers rows that lack it.

    The error probability `bar.alpha` is shared by the two rates, so that both hold together.
    Raises SetupError where the teacher answers nothing at all.
    """
    limit = bar.invented_per_1000 / 1000
    agreement = ConfidenceSequence(bar.alpha / 2, marks=[bar.agreement])
    invented = ConfidenceSequence(bar.alpha / 2, marks=[limit])
    taken: list[pa.Table] = []
    scores: dict[str, Scored] = {}
    steps: list[dict[str, float]] = []
    unanswered: Counter[str] = Counter()
    progress, read = Progress("shadow", rows.available, "sentences"), 0
    verdict = "undecided"
    for piece in rows.batches:
        read += len(piece)
        answered = piece if teacher is None else teacher(piece)
        unanswered.update(answered["code"].drop_null().to_pylist())
        answered = answered.filter(pc.is_valid(answered["answer"]))
        if not len(answered):
            _refuse_silence(scores, unanswered)
            continue
        taken.append(answered)
        some = _scores(answered, task, student)
        scores |= some
        agreement.add([one.exact for one in some.values() if _eventful(one)])
        invented.add([one.answer > 0 for one in some.values() if one.truth == 0])
        steps.append({"rows": agreement.count, **_interval(agreement)})
        progress.update(read, f"agreement {agreement.low:.1%} to {agreement.high:.1%}")
        if agreement.count >= bar.least:
            verdict = _verdict(agreement.side(bar.agreement), invented.side(limit))
        if verdict != "undecided":
            break
    _refuse_silence(scores, unanswered)
    return Outcome(
        verdict=verdict,
        reasons=_reasons(agreement, invented, bar),
        sample=sample(pa.concat_tables(taken), task),
        scores=scores,
        available=rows.available,
        steps=steps,
        agreement=_interval(agreement),
        invented=_interval(invented),
        unanswered=dict(unanswered),
    )


def _refuse_silence(scores: Mapping[str, Scored], unanswered: Mapping[str, int]) -> None:
    if not scores:
        codes = ", ".join(f"{code} {count}" for code, count in unanswered.items())
        raise SetupError(
            f"the teacher answered none of the first sentences ({codes or 'there are none'})",
            expected="answers in the task's JSON form",
            todo="check endpoint=, or the teacher's tables",
        )


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
        "unanswered": outcome.unanswered,
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


def _costs(
    config: Config,
    outcome: Outcome,
    student: CascadeStudent,
    task: Task,
    live: LiveTeacher | None,
) -> dict[str, Any]:
    taken = outcome.sample
    rates = cost.rates(
        student.seconds,
        student.rows,
        threads=config.threads,
        texts=taken.texts[:1000],
        prompts=[task.prompt(text) for text in taken.texts[:1000]],
        answers=[task.render(taken.truths[id]) for id in taken.ids[:1000]],
        asked=live.asked if live else None,
    )
    return cost.account(rates, config.cost)


def page(made: Mapping[str, Any]) -> str:
    """The go / no-go page as one HTML document."""
    plot = plots.running(made["steps"], made["bar"]["agreement"])
    return template("shadow.html.j2").render(made=made, drawn=plot)
