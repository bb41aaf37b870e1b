"""Reading for build: teacher rows and silent sentences, spilled by text under one snapshot.

A read that breaks off is done again from its start, in a new snapshot and an empty folder: there is
no half-read dataset, and never a gap.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from raydistill import pgread, postgres
from raydistill.errors import SetupError
from raydistill.lessons import spill
from raydistill.lessons.parts import ReadLeftOut, ReadSentences, ReadTeacher
from raydistill.lessons.plan import Plan
from raydistill.lessons.rows import FileRows, Rows, TableRows, write_filings
from raydistill.lessons.spill import Keys
from raydistill.postgres import ConnectionLost
from raydistill.progress import Progress
from raydistill.source import SourceConfig, TableConfig, answer_columns, dsn
from raydistill.tasks import TASKS

ATTEMPTS = 3
_WAIT_S = 5.0
BUCKET_ROWS = 75_000  # some 30 MB of rows, and a few times that while they are grouped
OVERSAMPLE = 10  # sentences without an event for each that is wanted: one in ten is hard


@dataclass(frozen=True, slots=True)
class Wish:
    """How much to read: `sample` teacher rows (0: all), `negatives` sentences for each."""

    sample: int
    negatives: float


@dataclass(slots=True)
class Gathered:
    """What was read: the plan with its buckets, counts, and about how many rows of each kind."""

    plan: Plan
    counts: Counter[str]
    teacher_rows: int
    candidates: int
    restarts: int = 0


def gathered(
    config: SourceConfig, plan: Plan, wish: Wish, processes: ProcessPoolExecutor | None
) -> Gathered:
    """Spills what `config` names for `plan`. Raises SetupError, or ConnectionLost in the end."""
    if config.kind.value == "rows":
        return _of_files(config, plan, wish, processes)
    if config.kind.value != "postgres":
        raise SetupError(
            f"source.kind={config.kind.value} has no teacher's answers",
            expected="source=kee | source=rows",
        )
    database = dsn(config)
    columns = answer_columns(config.events, TASKS[plan.task])
    config = replace(config, events=replace(config.events, columns=columns))
    for name in ("filings", "sentences", "events"):
        one: TableConfig = getattr(config, name)
        setting = f"source.{name}.columns"
        postgres.check_columns(database, one.table, one.columns, setting=setting)
    for attempt in range(1, ATTEMPTS + 1):
        shutil.rmtree(plan.work, ignore_errors=True)
        fresh = replace(plan, work=f"{plan.work}/read-{attempt}")
        Path(fresh.work).mkdir(parents=True)
        try:
            made = _of_tables(database, config, fresh, wish, processes)
        except (ConnectionLost, SetupError) as problem:
            if attempt == ATTEMPTS or not _is_outage(problem, database):
                raise
            print(f"read {attempt} of {ATTEMPTS} lost: {problem}")
            print(f"all is read again from the start in {_WAIT_S:.0f} s, in a new snapshot")
            time.sleep(_WAIT_S)
            continue
        made.restarts = attempt - 1
        return made
    raise AssertionError("unreachable")


def _is_outage(problem: Exception, database: str) -> bool:
    """A lost connection, or one that could not be made to a server that was there before."""
    if isinstance(problem, ConnectionLost):
        return True
    try:
        postgres.fetch(database, "SELECT 1")
    except (SetupError, ConnectionLost):
        return True
    return False


def _of_tables(
    database: str,
    config: SourceConfig,
    plan: Plan,
    wish: Wish,
    processes: ProcessPoolExecutor | None,
) -> Gathered:
    tables = (config.filings, config.sentences, config.events)
    with pgread.snapshot(database, *(one.table for one in tables)) as snapshot:
        events, sentences = (
            _count(database, one, snapshot) for one in (config.events, config.sentences)
        )
        taken = min(events, wish.sample or events)
        candidates = min(sentences, int(taken * wish.negatives * OVERSAMPLE) + 1000)
        plan = replace(plan, buckets=1 + (taken + candidates) // BUCKET_ROWS)
        file = Path(plan.work) / "filings.arrow"
        filings = len(write_filings(file, _batches(database, config.filings, snapshot)))

        def source(one: TableConfig, *left_out: str) -> TableRows:
            columns = {k: v for k, v in one.columns.items() if k not in left_out}
            return TableRows(database, one.table, columns, snapshot, str(file), one.where)

        rate = taken / max(1, events)
        step = ReadTeacher(plan, source(config.events), rate)
        read = sum(_each("teacher rows", step, step.source, processes))
        left_out = 0
        if config.events.where:
            left = ReadLeftOut(plan, source(_left_out(config.events, plan)))
            left_out = sum(_each("events left out", left, left.source, processes))
        _known(plan)
        silent = ReadSentences(
            plan, source(config.sentences, "position"), candidates / max(1, sentences)
        )
        parts = list(_each("sentences", silent, silent.source, processes))
    counts = Counter(
        filings=filings,
        teacher_rows=read,
        sentence_rows=sum(n for n, _ in parts),
        candidates=sum(n for _, n in parts),
        left_out=left_out,
    )
    return Gathered(plan, counts, taken, counts["candidates"])


def _of_files(
    config: SourceConfig, plan: Plan, wish: Wish, processes: ProcessPoolExecutor | None
) -> Gathered:
    if not config.path:
        raise SetupError("source=rows without a path", todo="set source.path=FILE or a folder")
    source = FileRows(config.path, plan.task, dict(config.columns))
    if not source.parts():
        raise SetupError(f"{config.path} is empty", expected="rows", todo="set source.path=")
    rows = source.count()
    taken = min(rows, wish.sample or rows)
    shutil.rmtree(plan.work, ignore_errors=True)
    plan = replace(plan, work=f"{plan.work}/read-1", buckets=1 + taken // BUCKET_ROWS)
    step = ReadTeacher(plan, source, taken / max(1, rows))
    read = sum(_each("teacher rows", step, source, processes))
    return Gathered(plan, Counter(teacher_rows=read), taken, taken)


def _each(
    name: str, step: Callable[[Any], Any], source: Rows, processes: ProcessPoolExecutor | None
) -> Sequence[Any]:
    parts = list(enumerate(source.parts()))
    progress = Progress(name, len(parts), "ranges")
    made: list[Any] = []
    # A few parts are read sooner here than processes start (5 s each, on a busy machine).
    for one in spill.run(step, parts, processes if len(parts) > 8 else None):
        made.append(one)
        progress.update(len(made))
    return made


def _batches(database: str, one: TableConfig, snapshot: str) -> Any:
    for part in pgread.ranges(database, one.table):
        yield from pgread.read_range(
            database, one.table, one.columns, part, snapshot=snapshot, where=one.where
        )


def _count(database: str, one: TableConfig, snapshot: str) -> int:
    """The rows of the snapshot: a part of what decides the dataset, so not an estimate."""
    query = postgres.sql(
        "SELECT count(*) FROM {table} WHERE {where}",
        table=postgres.identifier(one.table),
        where=postgres.condition(one.where),
    )
    (batch, *_) = pgread.scan(database, query, snapshot=snapshot)
    return int(batch.column(0)[0].as_py())


def _left_out(events: TableConfig, plan: Plan) -> TableConfig:
    """The rows that the filter leaves out, and of their columns what says whether one is an event.

    A condition that is null leaves a row out, too.
    """
    says = "raw" if "raw" in events.columns else TASKS[plan.task].fields[0].name
    columns = {name: events.columns[name] for name in ("id", "filing_id", "text", says)}
    return replace(events, columns=columns, where=f"({events.where}\n) IS NOT TRUE")


def _known(plan: Plan) -> None:
    """Sorted keys, some 8 bytes each: of all sentences with an answer, of their texts, and of the
    texts whose events a filter leaves out."""
    for name in ("ids", "texts", "left"):
        files = sorted(plan.folder("teacher").glob(f"*.{name}.npy"))
        parts: list[Keys] = [np.load(file) for file in files]
        whole = np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint64)
        np.save(f"{plan.work}/{name}.npy", whole)
