"""Quality by day: agreement, skip rate, time and drift, from the tables that the service writes.

`raydistill.comparisons` has what student and teacher said of the same sentence, `traffic` counts of
all answers, `ledger` what a backfill's stages kept. A table that is not there yet counts as empty.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from raydistill import postgres
from raydistill.intervals import clopper_pearson
from raydistill.proof.stability import binned, moved, psi
from raydistill.task import Task

WATCH, LIMIT = 0.1, 0.25  # below it nothing moved; above it something did
# An index over k bins of n events each is about 2(k - 1)/n by chance alone: few bins, many events.
BINS, EVENTS, WINDOW = 8, 200, 7
SENTENCES = 500
DECISIONS: tuple[str, ...] = ("keyword", "skip", "extract", "teacher", "error")
_DAY = "(at AT TIME ZONE 'UTC')::date::text"
_SINCE = "task = %(task)s AND at > now() - make_interval(days => %(days)s)"
_AGREEMENT = f"""
SELECT {_DAY}, count(*), count(*) FILTER (WHERE agree) FROM raydistill.comparisons
WHERE {_SINCE} AND eventful AND agree IS NOT NULL GROUP BY 1 ORDER BY 1"""
_TRAFFIC = f"""
SELECT {_DAY}, sum(requests)::bigint, sum(sentences)::bigint, sum(ms), sum(keyword)::bigint,
    sum(skip)::bigint, sum(extract)::bigint, sum(teacher)::bigint, sum(error)::bigint
FROM raydistill.traffic WHERE {_SINCE} GROUP BY 1 ORDER BY 1"""
_RELEASES = f"""
SELECT min({_DAY}), release FROM raydistill.traffic WHERE {_SINCE} GROUP BY 2 ORDER BY 1, 2"""
_VALUES = f"""
SELECT {_DAY}, record ->> %(field)s, count(*) FROM raydistill.comparisons,
    jsonb_array_elements(CASE WHEN %(single)s THEN jsonb_build_array(student)
        WHEN jsonb_typeof(student -> %(key)s) = 'array' THEN student -> %(key)s END) AS record
WHERE {_SINCE} AND student IS NOT NULL GROUP BY 1, 2 ORDER BY 1"""
_LEDGER = """
SELECT (finished_at AT TIME ZONE 'UTC')::date::text, sum(candidates)::bigint, sum(kept)::bigint
FROM raydistill.ledger WHERE finished_at > now() - make_interval(days => %(days)s)
    AND release IN (SELECT release FROM raydistill.traffic WHERE task = %(task)s)
GROUP BY 1 ORDER BY 1"""


def of(dsn: str, task: Task, *, gate: float | None = None) -> Callable[[int], dict[str, Any]]:
    """What `GET /v1/quality` asks for: the last so many days; `gate` is the agreement wanted."""

    def measured(days: int) -> dict[str, Any]:
        values = {"task": task.name, "days": days, "single": task.single, "key": task.key}
        values["field"] = task.fields[0].name
        with postgres.connect(dsn, read_only=True) as connection:

            def read(query: str, *tables: str) -> list[tuple[Any, ...]]:
                known = (
                    "SELECT bool_and(to_regclass(name) IS NOT NULL) FROM unnest(%s::text[]) name"
                )
                there = postgres.fetch(connection, known, [[f"raydistill.{t}" for t in tables]])
                return postgres.fetch(connection, query, values) if there[0][0] else []

            agreement = read(_AGREEMENT, "comparisons")
            traffic = read(_TRAFFIC, "traffic")
            releases = read(_RELEASES, "traffic")
            ledger = read(_LEDGER, "ledger", "traffic")
            said = read(_VALUES, "comparisons")
        requests, sentences, spent = (sum(row[at] for row in traffic) for at in (1, 2, 3))
        types, changes = _types(said)
        return {
            "task": task.name,
            "days": days,
            "releases": [{"day": day, "release": release} for day, release in releases],
            "traffic": {"requests": requests, "sentences": sentences, "ms": spent},
            "agreement": {"bar": gate, **_agreement(agreement)},
            "skip": _skip([(row[0], row[5], row[5] + row[6]) for row in traffic], ledger),
            "time": [
                _point(row[0], row[1], row[3] / row[1] if row[1] else None) for row in traffic
            ],
            "drift": {
                "watch": WATCH,
                "limit": LIMIT,
                "decisions": _decisions(traffic),
                "types": types,
                "moved": changes,
            },
        }

    return measured


def _point(day: str, rows: int, value: float | None) -> dict[str, Any]:
    return {"day": day, "rows": rows, "value": value}


def _rate(rows: int, hits: int) -> dict[str, Any]:
    """A share with its exact 95 % interval; nulls where there are no rows."""
    if not rows:
        return {"rows": 0, "value": None, "low": None, "high": None}
    low, high = clopper_pearson(hits, rows)
    return {"rows": rows, "value": hits / rows, "low": low, "high": high}


def _agreement(found: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    total = _rate(sum(row[1] for row in found), sum(row[2] for row in found))
    return {"total": total, "by_day": [{"day": day, **_rate(n, k)} for day, n, k in found]}


def _skip(online: Iterable[tuple[Any, ...]], ledger: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    """The share of the prefilter's candidates that the skip classifier dropped."""
    dropped: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for day, some, candidates in online:
        dropped[day] += some
        asked[day] += candidates
    for day, candidates, kept in ledger:
        dropped[day] += candidates - kept
        asked[day] += candidates
    days = [
        _point(day, asked[day], dropped[day] / asked[day] if asked[day] else None)
        for day in sorted(asked)
    ]
    return {"total": _rate(asked.total(), dropped.total()), "by_day": days}


def _decisions(traffic: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Each day's index over where sentences' ways ended, against the first days with enough."""
    counted = {row[0]: Counter(dict(zip(DECISIONS, row[4:], strict=True))) for row in traffic}
    first, later = _first(counted, SENTENCES)
    points = [_point(day, counted[day].total(), None) for day in counted if day not in later]
    for day, now in later.items():
        enough = now.total() >= SENTENCES
        points.append(_point(day, now.total(), psi(first, now) if enough else None))
    return points


def _types(
    said: Iterable[tuple[Any, ...]],
) -> tuple[list[dict[str, Any]], list[tuple[str, float, float]]]:
    """The index of each week up to a day over the first field's values, and what moved most."""
    counted: dict[str, Counter[str]] = {}
    for day, value, count in said:
        counted.setdefault(day, Counter())[value or "null"] += count
    first, later = _first(counted, EVENTS)
    points = [_point(day, counted[day].total(), None) for day in counted if day not in later]
    changes: list[tuple[str, float, float]] = []
    days = list(later)
    for at, day in enumerate(days):
        week: Counter[str] = Counter()
        for one in days[max(0, at - WINDOW + 1) : at + 1]:
            week.update(later[one])
        left, right = binned(first, week, BINS)
        enough = week.total() >= EVENTS
        points.append(_point(day, week.total(), psi(left, right) if enough else None))
        changes = moved(left, right) if enough else changes
    return points, changes


def _first(
    counted: Mapping[str, "Counter[str]"], least: int
) -> tuple["Counter[str]", dict[str, "Counter[str]"]]:
    """The first days' counts, so many days that there are `least`, and the days after them."""
    first: Counter[str] = Counter()
    later: dict[str, Counter[str]] = {}
    for day, counts in counted.items():
        if first.total() < least:
            first.update(counts)
        else:
            later[day] = counts
    return first, later
