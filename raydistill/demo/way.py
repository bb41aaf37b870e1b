"""demo: the whole way, once, on an embedded PostgreSQL: a world, a dataset, students, events.

Every step is the verb that a user runs, with the configuration that a user would write.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from raydistill import backfill, build, evaluate, postgres, publish, train
from raydistill.chunk import SECONDS
from raydistill.config import compose
from raydistill.demo.world import DDL, chunks
from raydistill.progress import Progress, duration
from raydistill.source import SourceConfig, dsn

pc: Any = compute  # its functions are made at run time: no type checker sees them

Verb = TypeVar("Verb")


@dataclass(kw_only=True, slots=True)
class WorldConfig:
    """The size of the demo world; see demo_world.chunks."""

    seed: int = 7
    filings: int = 200
    companies: int = 600
    sentences: int = 6000
    error_rate: float = 0.02


@dataclass(kw_only=True, slots=True)
class Config:
    """The world, and for each step the overrides that its verb is run with."""

    root: str
    source: SourceConfig
    world: WorldConfig = field(default_factory=WorldConfig)
    steps: dict[str, list[str]] = field(default_factory=dict)


def run(config: Config) -> dict[str, Any]:
    """Goes the whole way and prints what came of it; gives the figures."""
    seconds: dict[str, float] = {}
    number = iter(range(1, 8))

    def step(name: str, act: Callable[[], Any]) -> Any:
        print(f"\n[{next(number)}/7] {name}", flush=True)
        began = time.monotonic()
        made = act()
        seconds[name] = time.monotonic() - began
        print(f"      {name}: {duration(seconds[name])}", flush=True)
        return made

    step("world", lambda: world(config))
    step("build", lambda: build.run(_config(config, "build", build.Config)))
    for name in ("skip", "extractor"):
        step(f"train {name}", lambda name=name: train.run(_config(config, name, train.Config)))
    step("publish", lambda: publish.run(_config(config, "publish", publish.Config)))
    report = step("evaluate", lambda: evaluate.run(_config(config, "evaluate", evaluate.Config)))
    settings = _config(config, "backfill", backfill.Config)
    account = step("backfill", lambda: backfill.run(settings))
    cores = settings.scale.actors * settings.scale.threads
    figures = summary(report, account, seconds, cores)
    (Path(config.root) / "demo.json").write_text(json.dumps(figures, indent=2))
    _print(figures, account, dsn(config.source))
    return figures


def _config(config: Config, step: str, kind: type[Verb]) -> Verb:
    """A step's configuration: its verb's own YAML, the demo's root and the step's overrides."""
    verb = "train" if kind is train.Config else step
    return compose(verb, kind, [f"root={config.root}", *config.steps.get(step, [])])


def world(config: Config) -> None:
    """Writes the demo world into the database, and beside it which phrasings a student may know."""
    size = config.world
    root = Path(config.root)
    root.mkdir(parents=True, exist_ok=True)
    progress = Progress("world", size.filings, "filings")
    truth: list[pa.Table] = []
    held: set[str] = set()
    done = 0
    with postgres.connect(dsn(config.source)) as connection:
        postgres.script(connection, DDL)
        for piece in chunks(
            seed=size.seed,
            filings=size.filings,
            companies=size.companies,
            sentences_per_filing=size.sentences,
            error_rate=size.error_rate,
        ):
            for name in ("filings", "sentences", "events"):
                postgres.copy_in(connection, f"kee.{name}", getattr(piece, name))
            truth.append(piece.truth)
            held |= _held_out(piece.filings, piece.sentences, piece.truth)
            done += len(piece.filings)
            progress.update(done)
        postgres.script(connection, "ANALYZE kee.filings, kee.sentences, kee.events")
    rows = pa.concat_tables(truth)
    slices = pc.if_else(rows["phrasing_seen"], "seen phrasings", "unseen phrasings")
    pq.write_table(pa.table({"id": rows["sentence_id"], "slice": slices}), root / "slices.parquet")
    (root / "held_out.txt").write_text("\n".join(sorted(held)) + "\n")


def _held_out(filings: pa.Table, sentences: pa.Table, truth: pa.Table) -> set[str]:
    """Companies of this piece that the world keeps back from training."""
    kept = truth.filter(truth["held_out"])["sentence_id"].combine_chunks()
    names = set(pc.unique(pc.list_element(pc.split_pattern(kept, "#"), 0)).to_pylist())
    pairs = zip(filings["filing_id"].to_pylist(), filings["cik"].to_pylist(), strict=True)
    return {cik for filing, cik in pairs if filing in names}


def summary(
    report: dict[str, Any], account: dict[str, Any], seconds: dict[str, float], cores: int
) -> dict[str, Any]:
    """The figures of a run of the whole way."""
    seen, unseen = (report["extractor"][f"{name} phrasings"] for name in ("seen", "unseen"))
    fall = report["waterfall"]["seen phrasings"]
    spent = sum(account["stage_seconds"][name] for name in SECONDS) * cores
    wall = account["execute_seconds"]
    return {
        "agreement": seen["f1"],
        "agreement_unseen": unseen["f1"],
        "event_recall": fall["found"] / max(1, fall["teacher"]),
        "core_seconds_per_filing": spent * 10_000 / max(1, account["sentences"]),
        "core_seconds_per_filing_wall": wall * cores * 10_000 / max(1, account["sentences"]),
        "sentences_per_second": account["sentences"] / max(1e-9, wall),
        "seconds": seconds,
    }


def _print(figures: dict[str, Any], account: dict[str, Any], database: str) -> None:
    query = (
        "SELECT event_type, subject, object, event_date FROM raydistill.events"
        f" WHERE release = '{account['release']}' LIMIT 3"
    )
    for row in postgres.fetch(database, query):
        print("   ", " | ".join(str(value) for value in row))
    print(
        f"\nagreement with the teacher, companies never seen, whole record, all ten fields:"
        f" {figures['agreement']:.1%} on known phrasings,"
        f" {figures['agreement_unseen']:.1%} on phrasings never seen"
        f"\nevent recall end to end, known phrasings: {figures['event_recall']:.1%}"
        f"\ncore-seconds per 10,000-sentence filing: {figures['core_seconds_per_filing_wall']:.1f}"
        f" of wall time on every core, {figures['core_seconds_per_filing']:.1f} in the stages"
        f"\nthe whole way: {duration(sum(figures['seconds'].values()))}"
        f'\nlook: psql "{database}" -c "{query}"'
    )
