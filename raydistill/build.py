"""build: teacher rows become a dataset.

Positives are the teacher's events by sentence; negatives are sentences of filings that the teacher
has finished and found nothing in: hard ones pass the learned prefilter, easy ones do not. Companies
never straddle splits.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill import dataset, keywords, postgres
from raydistill.answer import Answer
from raydistill.dataset import SCHEMA, SPLITS, Dataset, share, split_of
from raydistill.errors import AnswerError, SetupError
from raydistill.fields import Text
from raydistill.progress import table
from raydistill.source import SourceConfig, TableConfig, dsn
from raydistill.stages.prefilter import Prefilter
from raydistill.task import Task
from raydistill.tasks import TASKS
from raydistill.tokenizer import Tokenizer


@dataclass(kw_only=True, slots=True)
class SplitConfig:
    """Shares of companies in val and test; `holdout` names a file of companies that are all test."""

    val: float = 0.1
    test: float = 0.2
    holdout: str | None = None


@dataclass(kw_only=True, slots=True)
class Config:
    """What build reads and how it mixes. `negatives` is rows without an event for each with one."""

    root: str = "runs"
    source: SourceConfig
    out: str
    task: str = "filing_events"
    split: SplitConfig = field(default_factory=SplitConfig)
    confidence: int = 0
    negatives: float = 2.0
    hard: float = 0.7
    recall: float = 0.995
    head: int = 4000
    vocabulary: int = 8000
    positions: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise SetupError(
                f"task={self.task}", expected=" | ".join(sorted(TASKS)), todo="set task=NAME"
            )
        if not 0 <= self.hard <= 1 or self.negatives < 0:
            raise SetupError(
                f"hard={self.hard}, negatives={self.negatives}",
                expected="hard in 0..1 and negatives of at least 0",
            )


@dataclass(slots=True)
class Teacher:
    """What the teacher said, read in one snapshot."""

    filings: dict[str, dict[str, Any]]
    answers: dict[str, Answer]
    texts: dict[str, str]
    filing_of: dict[str, str]
    rejects: Counter[str]


def run(config: Config) -> Dataset:
    """Builds the dataset of `config`; prints what is in it."""
    task = TASKS[config.task]
    database = dsn(config.source)
    with postgres.snapshot(database, config.source.events.table) as snapshot:
        teacher = _teacher(database, config, task, snapshot)
        _refuse_empty(teacher, config)
        positives = _positives(teacher, task)
        candidates = _candidates(database, config, teacher, snapshot, len(positives))
    learned = _keywords(positives, candidates, config)
    negatives = _negatives(candidates, learned.keywords, len(positives), config)
    rows = pa.concat_tables([positives, negatives])
    splits = _split(rows, config)
    train = splits["train"]
    task = _with_heads(task, teacher, train, config)
    tokenizer = _tokenizer(task, train, config)

    def fill(folder: Path) -> dict[str, Any]:
        for name in SPLITS:
            (folder / name).mkdir()
            pq.write_table(splits[name], folder / name / "00000.parquet")
        learned.write(folder / "keywords.txt")
        return _manifest(config, teacher, splits, learned)

    made = dataset.write(Path(config.out), fill, task=task, tokenizer=tokenizer)
    _print(made, learned)
    return made


def _read(database: str, config: TableConfig, snapshot: str) -> Iterable[pa.RecordBatch]:
    for one in postgres.ranges(database, config.table):
        yield from postgres.read_range(
            database, config.table, config.columns, one, snapshot=snapshot, where=config.where
        )


def _teacher(database: str, config: Config, task: Task, snapshot: str) -> Teacher:
    """Filings and, by sentence, the teacher's answers in the task's one form."""
    source = config.source
    fields = {one.name: one.name for one in task.fields}
    source.events.columns = {**fields, **source.events.columns}
    for one in (source.filings, source.sentences, source.events):
        postgres.check_columns(database, one.table, list(one.columns.values()))
    filings: dict[str, dict[str, Any]] = {}
    for batch in _read(database, source.filings, snapshot):
        filings |= {str(row["filing_id"]): row for row in batch.to_pylist()}
    records: dict[str, list[dict[str, Any]]] = {}
    teacher = Teacher(filings, {}, {}, {}, Counter())
    for batch in _read(database, source.events, snapshot):
        for row in batch.to_pylist():
            if str(row["filing_id"]) not in filings:
                teacher.rejects["unknown_filing"] += 1
                continue
            id = str(row["id"])
            records.setdefault(id, []).append(row)
            teacher.texts[id], teacher.filing_of[id] = row["text"], str(row["filing_id"])
    for id, found in records.items():
        if min(int(row.get("confidence") or 0) for row in found) < config.confidence:
            teacher.rejects["low_confidence"] += 1
            continue
        try:
            teacher.answers[id] = task.answer(found, teacher.texts[id])
        except AnswerError as problem:
            teacher.rejects[problem.code] += 1
    return teacher


def _refuse_empty(teacher: Teacher, config: Config) -> None:
    if not teacher.answers:
        raise SetupError(
            f"{config.source.events.table} gives no answer ({dict(teacher.rejects) or 'no rows'})",
            expected="the teacher's events",
            todo="fill the table, or correct source.events.table and source.events.where",
        )


def _row(
    id: str, text: str, answer: str, keep: bool, task: str, filing: dict[str, Any]
) -> dict[str, Any]:
    filed = filing.get("filed_at")
    return {
        "id": id,
        "group": str(filing["group"]),
        "task": task,
        "text": text,
        "answer": answer,
        "weight": 1.0,
        "keep": keep,
        "form": filing.get("form"),
        "year": filed.year if filed else None,
    }


def _positives(teacher: Teacher, task: Task) -> pa.Table:
    rows = [
        _row(id, teacher.texts[id], task.render(answer), True, task.name,
             teacher.filings[teacher.filing_of[id]])
        for id, answer in sorted(teacher.answers.items())
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _candidates(
    database: str, config: Config, teacher: Teacher, snapshot: str, positives: int
) -> pa.Table:
    """A keyed sample of sentences of finished filings in which the teacher found nothing.

    About ten times the negatives that are wanted, so that hard ones can be chosen among them.
    """
    finished = {
        id: row for id, row in teacher.filings.items() if row.get("teacher_done_at") is not None
    }
    wanted = int(positives * config.negatives * 10) + 1000
    empty = TASKS[config.task].render(Answer())
    total = _sentence_count(database, config)
    rate = min(1.0, wanted / max(1, total))
    rows: list[dict[str, Any]] = []
    for batch in _read(database, config.source.sentences, snapshot):
        for row in batch.to_pylist():
            id, filing = str(row["id"]), finished.get(str(row["filing_id"]))
            if filing is None or id in teacher.filing_of or share(id, config.seed) >= rate:
                continue
            if row["text"]:
                rows.append(_row(id, row["text"], empty, False, config.task, filing))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _sentence_count(database: str, config: Config) -> int:
    name = config.source.sentences.table
    query = postgres.sql("SELECT count(*) FROM {t}", t=postgres.identifier(name))
    return int(postgres.fetch(database, query)[0][0])


def _keywords(positives: pa.Table, candidates: pa.Table, config: Config) -> Any:
    """The prefilter learned on every company that is not kept back for test."""
    rows = pa.concat_tables([positives, candidates])
    splits = _split(rows, config)
    learn = pa.concat_tables([splits["train"], splits["val"]])
    return keywords.learn(
        learn["text"].to_pylist(),
        np.asarray(learn["keep"]),
        learn["group"].to_pylist(),
        recall=config.recall,
        seed=config.seed,
    )


def _negatives(candidates: pa.Table, words: list[str], positives: int, config: Config) -> pa.Table:
    """The stated number of negatives, hard ones first; easy ones fill what hard ones lack."""
    wanted = int(positives * config.negatives)
    hard = np.asarray(Prefilter(words).mask(candidates["text"]))
    order = np.argsort([share(id, config.seed + 1) for id in candidates["id"].to_pylist()])
    hards, easies = order[hard[order]], order[~hard[order]]
    count = min(len(hards), int(wanted * config.hard))
    chosen = np.concatenate([hards[:count], easies[: wanted - count]])
    return candidates.take(pa.array(np.sort(chosen)))


def _split(rows: pa.Table, config: Config) -> dict[str, pa.Table]:
    """The rows of each split, in an order that the seed alone decides."""
    kept = _holdout(config)
    splits = config.split
    test = 0.0 if kept is not None else splits.test
    groups = rows["group"].to_pylist()
    where = {
        group: "test"
        if kept is not None and group in kept
        else split_of(group, seed=config.seed, val=splits.val, test=test)
        for group in set(groups)
    }
    ids = rows["id"].to_pylist()
    order = sorted(range(len(ids)), key=lambda at: share(ids[at], config.seed))
    out: dict[str, list[int]] = {name: [] for name in SPLITS}
    for at in order:
        out[where[groups[at]]].append(at)
    return {name: rows.take(pa.array(chosen, pa.int64())) for name, chosen in out.items()}


def _holdout(config: Config) -> set[str] | None:
    if config.split.holdout is None:
        return None
    file = Path(config.split.holdout)
    if not file.is_file():
        raise SetupError(f"split.holdout={file} is missing", expected="one company a line")
    return set(file.read_text().split())


def _with_heads(task: Task, teacher: Teacher, train: pa.Table, config: Config) -> Task:
    """The task with the train split's frequent values of open fields as single tokens."""
    ids = set(train["id"].to_pylist())
    heads: dict[str, list[str]] = {}
    for one in task.fields:
        if isinstance(one, Text):
            found = Counter(
                str(record[one.name])
                for id, answer in teacher.answers.items()
                if id in ids
                for record in answer.records
            )
            common = [(value, n) for value, n in found.most_common(config.head) if n > 1]
            heads[one.name] = [value for value, _ in sorted(common, key=lambda p: (-p[1], p[0]))]
    return task.with_vocabulary(heads)


def _tokenizer(task: Task, train: pa.Table, config: Config) -> Tokenizer:
    # The compact target's tokens do not depend on how it spells.
    target = task.target("compact", positions=config.positions, spell=list, unspell="".join)
    return Tokenizer.learn(train["text"].to_pylist(), target.tokens(), vocabulary=config.vocabulary)


def _manifest(
    config: Config, teacher: Teacher, splits: dict[str, pa.Table], learned: Any
) -> dict[str, Any]:
    counts = {
        name: {
            "rows": len(rows),
            "events": sum(rows["keep"].to_pylist()),
            "companies": len(set(rows["group"].to_pylist())),
        }
        for name, rows in splits.items()
    }
    return {
        "counts": counts,
        "rejects": dict(teacher.rejects),
        "seed": config.seed,
        "filters": {"confidence": config.confidence, "where": config.source.events.where},
        "negatives": {"ratio": config.negatives, "hard": config.hard},
        "prefilter": {"keywords": len(learned.keywords), "claim": learned.claim},
        "source": {
            "events": config.source.events.table,
            "sentences": config.source.sentences.table,
        },
        "positions": config.positions,
    }


def _print(made: Dataset, learned: Any) -> None:
    rows = [
        (name, f"{c['rows']:,}", f"{c['events']:,}", f"{c['companies']:,}")
        for name, c in made.manifest["counts"].items()
    ]
    print(table(rows, ("split", "sentences", "with events", "companies")))
    if made.manifest["rejects"]:
        print("rejected:", ", ".join(f"{k} {v}" for k, v in made.manifest["rejects"].items()))
    print(f"prefilter: {len(learned.keywords)} keywords, {learned.claim}")
    print(f"dataset: {made.folder} ({made.fingerprint})")
