"""evaluate: how far a release agrees with the teacher on companies kept back, and where events are lost.

The waterfall follows every teacher event through prefilter, skip and extract. Agreement is counted on
whole records, all fields, both ways: an invented record costs precision, an omitted one recall.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill import dataset, release
from raydistill.answer import Answer
from raydistill.chunk import SENTENCES
from raydistill.errors import AnswerError, SetupError
from raydistill.intervals import bootstrap
from raydistill.pipeline import Guard, steps
from raydistill.progress import table
from raydistill.release import Release
from raydistill.score import Scored, failed, tally
from raydistill.stages.extract import Extract
from raydistill.task import Task


@dataclass(kw_only=True, slots=True)
class Config:
    """What evaluate reads. `slices` is Parquet of (id, slice); agreement is given for each slice."""

    root: str = "runs"
    dataset: str
    release: str
    out: str
    split: str = "test"
    slices: str | None = None
    threads: int = 2


@dataclass(frozen=True, slots=True)
class Judged:
    """The scores of every row of a split: by the extractor alone, and by the whole cascade."""

    rows: pa.Table
    alone: dict[str, Scored]
    cascade: dict[str, Scored]
    kept: dict[str, set[str]]


def run(config: Config) -> dict[str, Any]:
    """Writes report.json to `config.out` and prints its tables; gives the report."""
    data = dataset.open_(Path(config.dataset))
    opened = release.verify(Path(config.release), expected=data.task)
    rows = data.table(config.split)
    if not len(rows):
        raise SetupError(
            f"the {config.split} split is empty", todo="raise split.test or add companies"
        )
    judged = judge(rows, opened, threads=config.threads)
    report = _report(judged, _slices(config, rows))
    report |= {"release": opened.name, "dataset": data.fingerprint, "split": config.split}
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / "report.json.tmp"
    temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False))
    temporary.rename(out / "report.json")
    _print(report)
    return report


def judge(rows: pa.Table, opened: Release, *, threads: int) -> Judged:
    """Scores every row against the teacher, and says which rows each stage keeps."""
    task = opened.task
    texts = dict(zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True))
    truths = {
        id: task.parse(answer)
        for id, answer in zip(rows["id"].to_pylist(), rows["answer"].to_pylist(), strict=True)
    }
    running = Guard()(_sentences(rows))
    kept: dict[str, set[str]] = {}
    stages = steps(opened, threads=threads)
    for step in stages:
        running = step.stage(running)
        if step.count:
            kept[step.count] = set(running["id"].to_pylist())
    answers: dict[str, Answer | AnswerError] = {}
    for row in running.select(["id", "answer", "error"]).to_pylist():
        answers[row["id"]] = _answer(task, row)
    cascade = {id: _scored(task, truth, answers.get(id, Answer())) for id, truth in truths.items()}
    extract = stages[-1].stage
    assert isinstance(extract, Extract)
    positives = [id for id, truth in truths.items() if truth.records]
    found = extract.answers([texts[id] for id in positives])
    alone = {
        id: _scored(task, truths[id], answer)
        for id, (answer, _) in zip(positives, found, strict=True)
    }
    return Judged(rows, alone, cascade, kept)


def _sentences(rows: pa.Table) -> pa.Table:
    count = len(rows)
    columns = {
        "filing_id": rows["group"],
        "id": rows["id"],
        "position": pa.nulls(count, pa.int32()),
        "text": rows["text"],
        "error": pa.nulls(count, pa.string()),
    }
    return pa.table(columns).cast(SENTENCES)


def _answer(task: Task, row: dict[str, Any]) -> Answer | AnswerError:
    return AnswerError(row["error"]) if row["error"] else task.parse(row["answer"])


def _scored(task: Task, truth: Answer, answer: Answer | AnswerError) -> Scored:
    if isinstance(answer, AnswerError):
        return failed(task.fields, truth.records, answer.code)
    return task.score(truth, answer)


def _slices(config: Config, rows: pa.Table) -> dict[str, str]:
    if config.slices is None:
        return {}
    found = pq.read_table(config.slices, columns=["id", "slice"])
    return dict(zip(found["id"].to_pylist(), found["slice"].to_pylist(), strict=True))


def _report(judged: Judged, slices: dict[str, str]) -> dict[str, Any]:
    groups = dict(zip(judged.rows["id"].to_pylist(), judged.rows["group"].to_pylist(), strict=True))
    names = sorted({slices[id] for id in judged.alone if id in slices})
    parts = {"all": list(judged.alone)} | {
        name: [id for id in judged.alone if slices.get(id) == name] for name in names
    }
    negatives = [id for id, one in judged.cascade.items() if one.truth == 0]
    invented = sum(judged.cascade[id].answer for id in negatives)
    return {
        "rows": len(judged.rows),
        "extractor": {name: _part(ids, judged.alone, groups) for name, ids in parts.items()},
        "cascade": {name: _part(ids, judged.cascade, groups) for name, ids in parts.items()},
        "waterfall": {name: _waterfall(ids, judged) for name, ids in parts.items()},
        "invented_per_1000": 1000 * invented / max(1, len(negatives)),
        "negatives": len(negatives),
        "skip_agreement": tally(judged.cascade.values()).skip_agreement,
    }


def _part(ids: list[str], scores: dict[str, Scored], groups: dict[str, str]) -> dict[str, Any]:
    """A slice's tally; `agreement_low` and `_high` bound whole-record F1 (bootstrap over companies)."""
    some = [scores[id] for id in ids]
    low, high = bootstrap(
        [groups[id] for id in ids],
        [2 * one.matched for one in some],
        [one.truth + one.answer for one in some],
    )
    return {**tally(some).to_dict(), "agreement_low": low, "agreement_high": high}


def _waterfall(ids: list[str], judged: Judged) -> dict[str, int]:
    """Teacher events left after each stage; `found` are aligned with an event of the student."""
    events = {id: judged.cascade[id].truth for id in ids}
    kept = {
        name: sum(n for id, n in events.items() if id in left) for name, left in judged.kept.items()
    }
    found = sum(len(judged.cascade[id].pairs) for id in ids)
    return {"teacher": sum(events.values()), **kept, "found": found}


def _print(report: dict[str, Any]) -> None:
    lines: list[tuple[str, ...]] = []
    for name, part in report["extractor"].items():
        fall = report["waterfall"][name]
        recall = fall["found"] / max(1, fall["teacher"])
        lines.append(
            (
                name,
                f"{part['truth']:,}",
                f"{part['f1']:.1%}",
                f"{part['agreement_low']:.1%}-{part['agreement_high']:.1%}",
                f"{part['precision']:.1%}",
                f"{part['recall']:.1%}",
                f"{fall['candidates']:,}",
                f"{fall['kept']:,}",
                f"{fall['found']:,}",
                f"{recall:.1%}",
            )
        )
    head = ("slice", "events", "agreement", "95 %", "precision", "recall")
    print(table(lines, (*head, "prefilter", "skip", "extract", "event recall")))
    fields = report["extractor"]["all"]["fields"]
    print(
        table(
            [(name, f"{one['agreement']:.1%}") for name, one in fields.items()], ("field", "equal")
        )
    )
    print(
        f"skip/extract agreement {report['skip_agreement']:.1%}, invented events per 1,000 sentences"
        f" without one: {report['invented_per_1000']:.2f}"
    )
