"""The review queue: answers that a person should see, and what people said of them.

The service adds rows that the student abstained from and rows on which student and teacher
disagree; people accept a side or write the answer themselves. What they said leaves as the signed
CSV sheet that `build corrections=` reads.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raydistill import postgres
from raydistill.answer import Answer
from raydistill.errors import AnswerError, DataError
from raydistill.lessons import review_sheet
from raydistill.lessons.review_sheet import Row, Said
from raydistill.task import Task

REASONS = ("abstained", "disagreement")
VERDICTS = ("teacher", "student", "corrected", "dismissed", "open")
# Two replicas may begin at once: without the lock, IF NOT EXISTS fails in one of them.
DDL = (
    "SELECT pg_advisory_xact_lock(hashtextextended('raydistill tables', 0));"
    + postgres.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS raydistill.review (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task text NOT NULL, release text NOT NULL, sentence_id text NOT NULL, filing_id text NOT NULL,
    text text NOT NULL, reason text NOT NULL CHECK (reason IN ('abstained', 'disagreement')),
    teacher jsonb, student jsonb, confidence real, skip_score real,
    created_at timestamptz NOT NULL DEFAULT now(),
    state text NOT NULL DEFAULT 'open'
        CHECK (state IN ('open', 'teacher', 'student', 'corrected', 'dismissed')),
    answer jsonb, reviewer text, decided_at timestamptz,
    UNIQUE (task, release, sentence_id));
CREATE INDEX IF NOT EXISTS review_open ON raydistill.review (task, id) WHERE state = 'open';
"""
)
_COLUMNS: tuple[str, ...] = (
    "id", "release", "sentence_id", "filing_id", "text", "reason", "teacher", "student",
    "confidence", "skip_score", "created_at", "state", "answer", "reviewer", "decided_at",
)  # fmt: skip
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM raydistill.review"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A sentence for people to judge; answers are JSON in the task's form, null where unknown.

    `confidence` is the student's probability of its whole answer.
    """

    sentence_id: str
    filing_id: str
    text: str
    reason: str
    teacher: str | None = None
    student: str | None = None
    confidence: float | None = None
    skip_score: float | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """One task's queue in a database. Every call is one short transaction of its own."""

    dsn: str
    task: Task

    def prepare(self) -> None:
        """Makes the table where it is missing."""
        with postgres.connect(self.dsn) as connection:
            postgres.script(connection, DDL)

    def add(self, rows: Sequence[Asked], *, release: str) -> int:
        """Adds rows and gives how many were new; a sentence is asked once a release.

        Rows that Postgres cannot hold (NUL, broken surrogates) are left out.
        """
        made = [_incoming(row) for row in rows if _storable(row.text)]
        if not made:
            return 0
        with postgres.connect(self.dsn) as connection:
            found = postgres.fetch(
                connection,
                "INSERT INTO raydistill.review (task, release, sentence_id, filing_id, text,"
                " reason, teacher, student, confidence, skip_score)"
                " SELECT %s, %s, r.* FROM jsonb_to_recordset(%s::jsonb) AS r(sentence_id text,"
                " filing_id text, text text, reason text, teacher jsonb, student jsonb,"
                " confidence real, skip_score real)"
                " ON CONFLICT (task, release, sentence_id) DO NOTHING RETURNING 1",
                [self.task.name, release, json.dumps(made)],
            )
        return len(found)

    def counts(self) -> dict[str, int]:
        """How many rows are in each state."""
        found = postgres.fetch(
            self.dsn,
            "SELECT state, count(*) FROM raydistill.review WHERE task = %s GROUP BY 1",
            [self.task.name],
        )
        return dict.fromkeys(("open", *VERDICTS[:4]), 0) | dict(found)

    def listed(
        self, *, state: str = "open", reason: str | None = None, after: int = 0, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Rows in the order they came, beginning behind the id `after`."""
        found = postgres.fetch(
            self.dsn,
            f"{_SELECT} WHERE task = %(task)s AND id > %(after)s AND state = %(state)s"
            " AND (%(reason)s::text IS NULL OR reason = %(reason)s) ORDER BY id LIMIT %(limit)s",
            {"task": self.task.name, "after": after, "state": state, "reason": reason}
            | {"limit": limit},
        )
        return [_row(one) for one in found]

    def next(self, *, after: int = 0) -> dict[str, Any] | None:
        """The first open row behind `after`, or None."""
        return next(iter(self.listed(after=after, limit=1)), None)

    def decide(self, id: int, verdict: str, *, reviewer: str, answer: Any = None) -> dict[str, Any]:
        """Records what a person said and gives the row; `open` takes it back.

        `answer` (a JSON value in the task's form) goes with `corrected`. Raises DataError
        `not_found`, `decided` (by someone else) or `no_answer` (that side has none), and
        AnswerError where the answer is none of the task.
        """
        with postgres.connect(self.dsn) as connection:
            found = postgres.fetch(
                connection,
                f"{_SELECT} WHERE task = %s AND id = %s FOR UPDATE",
                [self.task.name, id],
            )
            if not found:
                raise DataError("not_found", f"no row {id} in the review of {self.task.name}")
            row = _row(found[0])
            if row["state"] != "open" and row["reviewer"] != reviewer:
                raise DataError("decided", f"{row['reviewer']} has decided this row")
            said = self._said(row, verdict, answer)
            done = postgres.fetch(
                connection,
                "UPDATE raydistill.review SET state = %s, answer = %s::jsonb,"
                " reviewer = %s, decided_at = CASE WHEN %s THEN now() END WHERE id = %s RETURNING "
                + ", ".join(_COLUMNS),
                [
                    verdict,
                    said,
                    None if verdict == "open" else reviewer,
                    verdict != "open",
                    id,
                ],
            )
        return _row(done[0])

    def _said(self, row: Mapping[str, Any], verdict: str, answer: Any) -> str | None:
        """The answer of a verdict as JSON, checked against the task; null where it has none."""
        if verdict in ("open", "dismissed"):
            return None
        value = answer if verdict == "corrected" else row.get(verdict)
        if value is None:
            raise DataError("no_answer", f"there is no answer of {verdict}")
        return self.task.render(self.task.answer_of(value, row["text"]))

    def labels(self) -> Iterator[Said]:
        """What people said, in the order of the rows."""
        found = postgres.fetch(
            self.dsn,
            f"{_SELECT} WHERE task = %s AND answer IS NOT NULL ORDER BY id",
            [self.task.name],
        )
        for row in map(_row, found):
            teacher = "" if row["teacher"] is None else _json(row["teacher"])
            own = Row(row["sentence_id"], row["filing_id"], row["text"], teacher, row["reason"], 1)
            try:
                answer = self.task.answer_of(row["answer"], row["text"])
            except AnswerError as problem:  # the task has changed since
                yield Said(own, (), row["reviewer"], row["decided_at"], problem.code)
            else:
                yield Said(own, answer.records, row["reviewer"], row["decided_at"])

    def sheet(self) -> str:
        """The labels as the signed CSV sheet that `build corrections=` reads."""
        out = io.StringIO(newline="")
        review_sheet.write_said(out, (said for said in self.labels() if not said.code), self.task)
        return out.getvalue()


def disagree(task: Task, teacher: Answer, student: Answer) -> bool:
    """Whether two answers differ in any field of any record, as a report would count it."""
    return not task.score(teacher, student).exact


def _incoming(row: Asked) -> dict[str, Any]:
    one = asdict(row)
    for side in ("teacher", "student"):
        one[side] = None if one[side] is None else json.loads(one[side])
    return one


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _row(values: Iterable[Any]) -> dict[str, Any]:
    """A row as JSON has it."""
    one: dict[str, Any] = dict(zip(_COLUMNS, values, strict=True))
    for name in ("created_at", "decided_at"):
        one[name] = None if one[name] is None else one[name].isoformat(timespec="seconds")
    return one


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
