"""Quality by day: what was answered, how often teacher and student agreed, how traffic drifts."""

from collections.abc import Callable, Sequence
from typing import Any

from raydistill import postgres
from raydistill.drift import psi
from raydistill.intervals import clopper_pearson
from raydistill.serve.mirror import DDL
from raydistill.task import Task

DECISIONS = ("keyword", "skip", "extract", "error")
_TRAFFIC = """
SELECT (at AT TIME ZONE 'UTC')::date::text AS day, sum(requests)::bigint,
    sum(sentences)::bigint, sum(keyword)::bigint, sum(skip)::bigint, sum(extract)::bigint,
    sum(teacher)::bigint, sum(error)::bigint, sum(records)::bigint, sum(ms)
FROM raydistill.traffic
WHERE task = %s AND at > now() - make_interval(days => %s) GROUP BY 1 ORDER BY 1
"""
_AGREEMENT = """
SELECT (at AT TIME ZONE 'UTC')::date::text AS day, count(*)::bigint,
    (count(*) FILTER (WHERE agree))::bigint
FROM raydistill.comparisons
WHERE task = %s AND eventful AND agree IS NOT NULL
    AND at > now() - make_interval(days => %s) GROUP BY 1 ORDER BY 1
"""
_NAMES = (
    "requests", "sentences", "keyword", "skip", "extract", "teacher", "error", "records", "ms",
)  # fmt: skip


def of(dsn: str, task: Task) -> Callable[[int], dict[str, Any]]:
    """What GET /v1/quality asks for: the last so many days of a task."""
    prepared = False

    def measured(days: int) -> dict[str, Any]:
        nonlocal prepared
        if not prepared:
            with postgres.connect(dsn) as connection:
                postgres.script(connection, DDL)
            prepared = True
        with postgres.connect(dsn, read_only=True) as connection:
            traffic = postgres.fetch(connection, _TRAFFIC, [task.name, days])
            agreement = postgres.fetch(connection, _AGREEMENT, [task.name, days])
        return {"task": task.name, "days": by_day(traffic, agreement)}

    return measured


def by_day(
    traffic: Sequence[tuple[Any, ...]], agreement: Sequence[tuple[Any, ...]]
) -> list[dict[str, Any]]:
    """A row a day: counts, shares, agreement with its interval, and drift.

    `drift` is the population stability index of the decisions' shares against all days before;
    above 0.25 it is usually called a change.
    """
    agreed = {day: (count, right) for day, count, right in agreement}
    before = dict.fromkeys(DECISIONS, 0)
    rows: list[dict[str, Any]] = []
    for day, *values in traffic:
        row: dict[str, Any] = {"day": day, **dict(zip(_NAMES, values, strict=True))}
        row["ms_per_request"] = row.pop("ms") / max(1, row["requests"])
        now = {name: row[name] for name in DECISIONS}
        seen = sum(now.values())
        row["skip_rate"] = (row["keyword"] + row["skip"]) / seen if seen else None
        row["drift"] = psi(before, now) if any(before.values()) and seen else None
        count, right = agreed.pop(day, (0, 0))
        rows.append(row | _agreement(count, right))
        before = {name: before[name] + now[name] for name in DECISIONS}
    rows += [{"day": day, **_agreement(*one)} for day, one in agreed.items()]
    return sorted(rows, key=lambda row: row["day"])


def _agreement(count: int, right: int) -> dict[str, Any]:
    low, high = clopper_pearson(right, count) if count else (None, None)
    share = right / count if count else None
    return {"compared": count, "agreed": right, "agreement": share, "low": low, "high": high}
