"""drift: do this week's events still look like those the student was taught on?

Four distributions are compared with the training set's by the population stability index: event
types, how many sentences pass the skip stage, confidence and length. Below 0.1 nothing moved, above
0.25 it did; a job that finds so exits with 1, which is what cron needs to send a mail.
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill import dataset, postgres, release
from raydistill.dataset import Dataset
from raydistill.errors import SetupError
from raydistill.events import events_table
from raydistill.progress import table
from raydistill.proof.report import replaced
from raydistill.proof.stability import binned, moved, psi
from raydistill.source import SourceConfig, dsn
from raydistill.task import Task

_EDGES = (60, 120, 180, 240, 360, 480)


@dataclass(kw_only=True, slots=True)
class Config:
    """Where to look: the release's events of the last `days`, against its dataset."""

    root: str = "runs"
    source: SourceConfig
    dataset: str
    release: str
    out: str
    days: int = 7
    limit: float = 0.25
    min_events: int = 200
    skip_rate: float | None = None


@dataclass(slots=True)
class Seen:
    """Counts of what was seen, by distribution."""

    counts: dict[str, Counter[Hashable]] = field(default_factory=dict)

    def add(self, name: str, value: Hashable, count: int = 1) -> None:
        self.counts.setdefault(name, Counter())[value] += count


def length(text: str) -> str:
    """The bin of a sentence's length in characters."""
    return next((f"to {edge}" for edge in _EDGES if len(text) <= edge), f"over {_EDGES[-1]}")


def expected(data: Dataset) -> Seen:
    """The distributions of a dataset's train split, event by event."""
    seen = Seen()
    for batch in data.batches("train"):
        some = batch.to_pydict()
        for text, answer in zip(some["text"], some["answer"], strict=True):
            for record in data.task.parse(answer).records:
                _event(seen, data.task, record, text)
    return seen


def _event(seen: Seen, task: Task, record: Mapping[str, Any], text: str) -> None:
    first = task.fields[0].name
    seen.add(first, record[first])
    if record.get("confidence") is not None:
        seen.add("confidence", record["confidence"])
    seen.add("length", length(text))


def actual(rows: Iterable[Mapping[str, Any]], task: Task) -> Seen:
    """The distributions of event rows, as `raydistill.events` holds them."""
    seen = Seen()
    for row in rows:
        _event(seen, task, row, str(row["sentence"] or ""))
    return seen


def compare(before: Seen, now: Seen) -> dict[str, dict[str, Any]]:
    """The index of each distribution, and the values that moved it most."""
    out: dict[str, dict[str, Any]] = {}
    for name, one in before.counts.items():
        left, right = binned(one, now.counts.get(name, Counter()))
        out[name] = {"psi": psi(left, right), "moved": moved(left, right)}
    return out


def run(config: Config) -> dict[str, Any]:
    """Prints and writes drift.json; `drifted` names the distributions beyond the limit."""
    data = dataset.open_(Path(config.dataset))
    opened = release.verify(Path(config.release), expected=data.task)
    database = dsn(config.source)
    names = [field.name for field in data.task.fields]
    rows = _rows(database, events_table(data.task), names, opened.name, config.days)
    if len(rows) < config.min_events:
        raise SetupError(
            f"{len(rows)} events of {opened.name} in the last {config.days} days",
            expected=f"at least {config.min_events}",
            todo="wait, raise days= or lower min_events=",
        )
    found = compare(expected(data), actual(rows, data.task))
    kept, candidates = _passed(database, opened.name, config.days)
    found["skip rate"] = _skip(config.skip_rate or _validated(opened), kept, candidates)
    drifted = [name for name, one in found.items() if one["psi"] > config.limit]
    made = {"release": opened.name, "events": len(rows), "found": found, "drifted": drifted}
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    replaced(folder / "drift.json", json.dumps(made, indent=2))
    _print(found, config.limit)
    return made


def _rows(
    database: str, name: str, fields: Sequence[str], opened: str, days: int
) -> list[dict[str, Any]]:
    columns = [*fields, "sentence"]
    query = postgres.sql(
        "SELECT " + ", ".join(f"{{c{at}}}" for at in range(len(columns))) + " FROM {t}"
        " WHERE release = %s AND created_at > now() - make_interval(days => %s)",
        t=postgres.identifier(name),
        **{f"c{at}": postgres.identifier(one) for at, one in enumerate(columns)},
    )
    found = postgres.fetch(database, query, [opened, days])
    return [dict(zip(columns, row, strict=True)) for row in found]


def _passed(database: str, opened: str, days: int) -> tuple[int, int]:
    """Sentences that passed the skip stage, and candidates it was asked about."""
    found = postgres.fetch(
        database,
        "SELECT coalesce(sum(kept), 0), coalesce(sum(candidates), 0) FROM raydistill.ledger"
        " WHERE release = %s AND finished_at > now() - make_interval(days => %s)",
        [opened, days],
    )
    return int(found[0][0]), int(found[0][1])


def _validated(opened: release.Release) -> float | None:
    """The share that the skip stage kept on validation, as the release says."""
    kept = opened.manifest.metrics.get("skip", {}).get("kept")
    return float(kept) if kept is not None else None


def _skip(rate: float | None, kept: int, candidates: int) -> dict[str, Any]:
    if rate is None or not candidates:
        return {"psi": 0.0, "moved": [], "note": "nothing to compare with"}
    share = kept / candidates
    left = {"kept": rate * candidates, "dropped": (1 - rate) * candidates}
    right = {"kept": float(kept), "dropped": float(candidates - kept)}
    return {"psi": psi(left, right), "moved": [("kept", rate, share)]}


def _print(found: Mapping[str, Mapping[str, Any]], limit: float) -> None:
    lines: list[tuple[str, ...]] = []
    for name, one in found.items():
        moved = ", ".join(f"{v} {a:.1%} -> {b:.1%}" for v, a, b in one["moved"][:2])
        word = "drifted" if one["psi"] > limit else "moved" if one["psi"] > 0.1 else "stable"
        lines.append((name, f"{one['psi']:.3f}", word, moved))
    print(table(lines, ("distribution", "PSI", "", "most")))
