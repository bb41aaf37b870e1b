"""drift: do this week's events still look like those the student was taught on?

Four distributions are compared with the training set's by the population stability index: event
types, how many sentences pass the skip stage, confidence and length. Below 0.1 nothing moved, above
0.25 it did. The job's exit code is for cron: 0 stable, 1 drifted, 3 too few events to tell, and 2
for a wrong setup, as everywhere.
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from raydistill import dataset, pgread, postgres, release
from raydistill.dataset import Dataset
from raydistill.events import events_table
from raydistill.progress import table
from raydistill.proof.report import replaced
from raydistill.proof.stability import binned, moved, psi
from raydistill.source import SourceConfig, dsn
from raydistill.task import Task

_EDGES = (60, 120, 180, 240, 360, 480)


@dataclass(kw_only=True, slots=True)
class Config:
    """Where to look: the release's events of the last `days`, against its dataset.

    `quiet` prints nothing where nothing drifted: cron mails whatever a job prints.
    """

    root: str = "runs"
    source: SourceConfig
    dataset: str
    release: str
    out: str
    days: int = 7
    limit: float = 0.25
    min_events: int = 200
    skip_rate: float | None = None
    quiet: bool = False


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
    """Writes drift.json and a line of drift.jsonl; `verdict` is stable, drifted or too_few.

    `drifted` names the distributions beyond the limit.
    """
    data = dataset.of_one_task(Path(config.dataset))
    opened = release.verify(Path(config.release), expected=data.task)
    database = dsn(config.source)
    now = actual(_rows(database, data.task, opened.name, config.days), data.task)
    events = now.counts.get("length", Counter()).total()
    made: dict[str, Any] = {"release": opened.name, "days": config.days, "events": events}
    made |= {"at": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    if events < config.min_events:
        made |= {"verdict": "too_few", "drifted": [], "found": {}}
        print(
            f"drift: {events} events of {opened.name} in the last {config.days} days, and at least"
            f" {config.min_events} are needed to tell: wait, raise days= or lower min_events="
        )
    else:
        found = compare(expected(data), now)
        kept, candidates = _passed(database, opened.name, config.days)
        found["skip rate"] = _skip(config.skip_rate or _validated(opened), kept, candidates)
        drifted = [name for name, one in found.items() if one["psi"] > config.limit]
        verdict = "drifted" if drifted else "stable"
        made |= {"verdict": verdict, "drifted": drifted, "found": found}
        if drifted or not config.quiet:
            _print(found, config.limit)
    _write(Path(config.out), made)
    return made


def _write(folder: Path, made: Mapping[str, Any]) -> None:
    """drift.json is this run's; drift.jsonl has a line a run, to see a slow drift."""
    folder.mkdir(parents=True, exist_ok=True)
    line = {key: made[key] for key in ("at", "release", "days", "events", "verdict")}
    line["psi"] = {name: round(one["psi"], 4) for name, one in made["found"].items()}
    with (folder / "drift.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    replaced(folder / "drift.json", json.dumps(made, indent=2))


def _rows(database: str, task: Task, opened: str, days: int) -> Iterator[Mapping[str, Any]]:
    """The events of the last days, a batch at a time."""
    columns = [*(field.name for field in task.fields), "sentence"]
    query = postgres.sql(
        "SELECT " + ", ".join(f"{{c{at}}}" for at in range(len(columns))) + " FROM {t}"
        " WHERE release = %s AND created_at > now() - make_interval(days => %s)",
        t=postgres.identifier(events_table(task)),
        **{f"c{at}": postgres.identifier(one) for at, one in enumerate(columns)},
    )
    for batch in pgread.scan(database, query, [opened, days]):
        yield from batch.to_pylist()


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
