"""The mirror: what teacher and student said of the same sentence, and the traffic, to Postgres.

A thread of its own writes; it never holds up an answer. What does not fit into its queue, or cannot
be written because the database is down, is dropped and counted.
"""

import hashlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa

from raydistill import postgres
from raydistill.errors import RaydistillError
from raydistill.task import Task
from raydistill.web.review import Asked, Queue

log = logging.getLogger("raydistill.serve")
DDL = (
    postgres.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS raydistill.comparisons (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL,
    request_id text NOT NULL, task text NOT NULL, release text NOT NULL, mode text NOT NULL,
    sentence text NOT NULL, decision text NOT NULL, skip_score real, confidence real, error text,
    student jsonb, teacher jsonb, agree boolean, eventful boolean NOT NULL, reason text,
    teacher_model text);
CREATE INDEX IF NOT EXISTS comparisons_at ON raydistill.comparisons (at);
CREATE TABLE IF NOT EXISTS raydistill.traffic (
    at timestamptz NOT NULL, process text NOT NULL, task text NOT NULL, release text NOT NULL,
    mode text NOT NULL, requests bigint NOT NULL, sentences bigint NOT NULL,
    keyword bigint NOT NULL, skip bigint NOT NULL, extract bigint NOT NULL,
    teacher bigint NOT NULL, error bigint NOT NULL, records bigint NOT NULL, ms double precision
    NOT NULL);
CREATE INDEX IF NOT EXISTS traffic_at ON raydistill.traffic (at);
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One sentence, both answers as JSON (null where a side has none), and whether they are equal.

    `eventful` is whether either side has a record or the student failed; `reason` is why people
    should look at it (`abstained`, `disagreement`), if they should.
    """

    at: datetime
    request_id: str
    task: str
    release: str
    mode: str
    sentence: str
    decision: str
    skip_score: float | None
    confidence: float | None
    error: str | None
    student: str | None
    teacher: str | None
    agree: bool | None
    eventful: bool
    reason: str | None
    teacher_model: str


@dataclass(slots=True, kw_only=True)
class Traffic:
    """What was answered in a minute: counts by decision, and milliseconds of all requests."""

    at: datetime
    process: str
    task: str
    release: str
    mode: str
    requests: int = 0
    sentences: int = 0
    keyword: int = 0
    skip: int = 0
    extract: int = 0
    teacher: int = 0
    error: int = 0
    records: int = 0
    ms: float = 0.0


_COMPARISON = pa.schema(
    [("at", pa.timestamp("us", "UTC"))]
    + [(n, pa.string()) for n in ("request_id", "task", "release", "mode", "sentence", "decision")]
    + [("skip_score", pa.float32()), ("confidence", pa.float32())]
    + [(n, pa.string()) for n in ("error", "student", "teacher")]
    + [("agree", pa.bool_()), ("eventful", pa.bool_())]
    + [("reason", pa.string()), ("teacher_model", pa.string())]
)
_COUNTS = ("requests", "sentences", "keyword", "skip", "extract", "teacher", "error", "records")
_TRAFFIC = pa.schema(
    [("at", pa.timestamp("us", "UTC"))]
    + [(n, pa.string()) for n in ("process", "task", "release", "mode")]
    + [(n, pa.int64()) for n in _COUNTS]
    + [("ms", pa.float64())]
)


class Mirror:
    """Writes rows in the background; `dropped(reason, count)` hears of those that are lost.

    Comparisons of `tasks` that people should look at go into the review queue, too.
    """

    def __init__(
        self,
        dsn: str | None,
        *,
        dropped: Callable[[str, int], None],
        tasks: Mapping[str, Task] | None = None,
        room: int = 10_000,
        pause_s: float = 5.0,
    ) -> None:
        self.dsn, self.dropped, self.pause_s = dsn, dropped, pause_s
        self.tasks = tasks or {}
        self.rows: queue.Queue[Comparison | Traffic | None] = queue.Queue(room)
        self.ready_at = 0.0
        self.prepared = False
        self.written = 0
        self.thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        if dsn is not None:
            self.thread.start()

    def add(self, row: Comparison | Traffic) -> None:
        """Takes a row, or drops it; never waits."""
        if self.dsn is None:
            return
        try:
            self.rows.put_nowait(row)
        except queue.Full:
            self.dropped("queue_full", 1)

    def close(self, wait_s: float = 5.0) -> None:
        """Writes what is left, for so long at most."""
        if self.thread.is_alive():
            self.ready_at = 0.0
            try:
                self.rows.put(None, timeout=wait_s)
            except queue.Full:
                return
            self.thread.join(wait_s)

    def _run(self) -> None:
        while True:
            rows: list[Comparison | Traffic] = []
            one = self.rows.get()
            while one is not None:
                rows.append(one)
                if len(rows) >= 1000:
                    break
                try:
                    one = self.rows.get(timeout=0.2)
                except queue.Empty:
                    break
            if rows:
                self._write(rows)
            if one is None:
                return

    def _write(self, rows: "list[Comparison | Traffic]") -> None:
        if time.monotonic() < self.ready_at:  # the database is down: do not wait for it each time
            self.dropped("database_down", len(rows))
            return
        assert self.dsn is not None
        comparisons = [one for one in rows if isinstance(one, Comparison)]
        traffic = [one for one in rows if isinstance(one, Traffic)]
        try:
            if not self.prepared:
                self._prepare(self.dsn)
            with postgres.connect(self.dsn) as connection:
                for name, some, schema in (
                    ("raydistill.comparisons", comparisons, _COMPARISON),
                    ("raydistill.traffic", traffic, _TRAFFIC),
                ):
                    if some:
                        table = pa.Table.from_pylist([_row(one) for one in some], schema=schema)
                        postgres.copy_in(connection, name, table)
            self._ask(self.dsn, comparisons)
            self.written += len(rows)
        except Exception as problem:  # whatever it is, answers go on
            self.ready_at = time.monotonic() + self.pause_s
            self.prepared = False
            self.dropped("database_down", len(rows))
            known = problem if isinstance(problem, RaydistillError) else type(problem).__name__
            log.warning(json.dumps({"event": "mirror_lost", "rows": len(rows), "why": str(known)}))

    def _prepare(self, dsn: str) -> None:
        with postgres.connect(dsn) as connection:
            postgres.script(connection, DDL)
        for task in self.tasks.values():
            Queue(dsn, task).prepare()
        self.prepared = True

    def _ask(self, dsn: str, comparisons: Sequence[Comparison]) -> None:
        """Puts what people should look at into the review queue."""
        for name, task in self.tasks.items():
            asked = [one for one in comparisons if one.task == name and one.reason]
            for release in {one.release for one in asked}:
                some = [_asked(one) for one in asked if one.release == release]
                Queue(dsn, task).add(some, release=release)


def _asked(one: Comparison) -> Asked:
    """A comparison as a row of the review queue: a sentence is the same wherever it was served."""
    digest = hashlib.blake2b(one.sentence.encode(errors="replace"), digest_size=10).hexdigest()
    return Asked(
        sentence_id=f"served-{digest}",
        filing_id="served",
        text=one.sentence,
        reason=one.reason or "",
        teacher=one.teacher,
        student=one.student,
        confidence=one.confidence,
        skip_score=one.skip_score,
    )


def _row(one: Comparison | Traffic) -> dict[str, Any]:
    """A row's values; characters that PostgreSQL cannot hold are replaced."""
    values = asdict(one)
    return {k: v.replace("\0", "\ufffd") if isinstance(v, str) else v for k, v in values.items()}


def now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(timezone.utc)
