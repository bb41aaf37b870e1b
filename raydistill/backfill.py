"""backfill: every filing of a source, exactly once a release, into events in Postgres.

A chunk is whole filings: one read task, one block, one transaction. The ledger says which filings
are done, so the same command after any death goes on where it stopped, and after the end does
nothing.
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from pyarrow import compute

from raydistill import events, pipeline, postgres, release, source
from raydistill.chunk import COUNTS, SECONDS
from raydistill.errors import SetupError
from raydistill.on_ray import cluster
from raydistill.progress import Progress, duration, table
from raydistill.release import Release
from raydistill.source import Sentences, SourceConfig, dsn
from raydistill.tasks import TASKS

pc: Any = compute  # its functions are made at run time: no type checker sees them


@dataclass(kw_only=True, slots=True)
class ScaleConfig:
    """How wide: `actors` of `threads` cores each; `chunk` is the sentences a transaction holds."""

    actors: int = 1
    threads: int = 2
    chunk: int = 5000


@dataclass(kw_only=True, slots=True)
class Config:
    """What backfill reads, which release runs over it, and under which name the run is kept.

    `run` is `backfill_SOURCE` where it is not given.
    """

    root: str = "runs"
    source: SourceConfig
    release: str
    run: str | None = None
    sink: str | None = None
    task: str = "filing_events"
    scale: ScaleConfig = field(default_factory=ScaleConfig)


@dataclass(frozen=True, slots=True)
class Work:
    """What every actor and write task of a run needs. Plain values: it travels by pickle."""

    release: str
    name: str
    run: str
    sink: str
    threads: int


def run(config: Config) -> dict[str, Any]:
    """Runs or continues the backfill of `config`; prints and gives its account."""
    name = config.run or f"backfill_{config.source.kind.value}"
    opened = release.verify(Path(config.release).absolute(), expected=TASKS[config.task])
    sentences = source.sentences(config.source)
    sink = config.sink or dsn(config.source)
    events.prepare(sink, opened.task)
    _enter(name, config, opened, sink)
    filings = sentences.filings()
    done = events.done(sink, opened.name)
    chunks = list(chunked([one for one in filings if one[0] not in done], config.scale.chunk))
    began = time.monotonic()
    pending = sum(len(chunk) for chunk in chunks)
    print(
        f"backfill {name}: {len(filings):,} filings, {len(filings) - pending:,} done before,"
        f" {pending:,} to do in {len(chunks):,} chunks; release {opened.name}"
    )
    work = Work(str(opened.folder), opened.name, name, sink, config.scale.threads)
    seconds = _execute(chunks, sentences, work, config) if chunks else dict.fromkeys(SECONDS, 0.0)
    report = account(sink, opened, name)
    report |= {"execute_seconds": time.monotonic() - began, "new": pending}
    report["stage_seconds"] = seconds
    _print(report)
    return report


def _enter(run: str, config: Config, opened: Release, sink: str) -> None:
    """Enters the run in raydistill.runs; a run of the same name with another release is refused."""
    fingerprint = f"{opened.name} {opened.manifest.task_fingerprint} {config.source.kind.value}"
    settings = json.dumps({"release": opened.name, "source": config.source.kind.value})
    with postgres.connect(sink) as connection:
        postgres.fetch(
            connection,
            "INSERT INTO raydistill.runs (run, release, fingerprint, config)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (run) DO NOTHING RETURNING run",
            [run, opened.name, fingerprint, settings],
        )
    ((found,),) = postgres.fetch(
        sink, "SELECT fingerprint FROM raydistill.runs WHERE run = %s", [run]
    )
    if found != fingerprint:
        raise SetupError(
            f"run {run!r} was begun with {found}",
            expected=fingerprint,
            todo="set run=NEWNAME for this release, or release= to the one it began with",
        )


def chunked(filings: Iterable[tuple[str, int]], sentences: int) -> Iterator[list[str]]:
    """Whole filings in chunks of about so many sentences; a larger filing is a chunk of its own."""
    chunk: list[str] = []
    size = 0
    for filing, count in filings:
        if chunk and size + count > sentences:
            yield chunk
            chunk, size = [], 0
        chunk.append(filing)
        size += count
    if chunk:
        yield chunk


# Reads and writes need a core's time but seldom. Actors leave them this much of it: where actors
# reserve every core, Ray has nowhere to run a read and waits for ever.
_SLIVER = 0.2


def _execute(
    chunks: list[list[str]], sentences: Sentences, work: Work, config: Config
) -> dict[str, float]:
    """Streams the chunks through Ray Data; prints progress as they commit."""
    cluster.start()
    import ray.data

    from raydistill.on_ray.chunks import Chunks

    total = sum(len(chunk) for chunk in chunks)
    data = (
        ray.data.read_datasource(
            Chunks(chunks, sentences),
            override_num_blocks=len(chunks),
            num_cpus=_SLIVER,
        )
        .map_batches(
            _runner(work),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=config.scale.threads - 2 * _SLIVER,
            compute=ray.data.ActorPoolStrategy(size=config.scale.actors),
        )
        .map_batches(
            Commit(work).__call__, batch_size=None, batch_format="pyarrow", num_cpus=_SLIVER
        )
    )
    progress = Progress("backfill", total, "filings")
    done, found = 0, 0
    seconds = dict.fromkeys(SECONDS, 0.0)
    batches = data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for batch in cast("Iterator[pa.Table]", batches):
        done += sum(batch["filings"].to_pylist())
        found += sum(batch["events"].to_pylist())
        for name in SECONDS:
            seconds[name] += sum(batch[name].to_pylist())
        progress.update(done, f"{found:,} events, {_shares(seconds)}")
    return seconds


def _shares(seconds: dict[str, float]) -> str:
    total = sum(seconds.values()) or 1.0
    return " ".join(f"{name.removesuffix('_s')} {s / total:.0%}" for name, s in seconds.items())


def _runner(work: Work) -> type:
    """The cascade as a class for a Ray Data actor.

    `work` is part of the class: constructor arguments would lie in the object store, and an actor
    that is restarted after its owner's node died could not be made again.
    """

    class Run:
        def __init__(self) -> None:
            self.cascade = pipeline.Cascade(Path(work.release), threads=work.threads)

        def __call__(self, batch: pa.Table) -> pa.Table:
            return self.cascade(batch)

    return Run


class Commit:
    """Writes each chunk in one transaction; gives one row of what it held.

    Ray may run it again for a chunk it has written: the ledger makes that harmless.
    """

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self, batch: pa.Table) -> pa.Table:
        opened = release.task_of(Path(self.work.release))
        rows = events.rows(batch, opened)
        events.commit(self.work.sink, rows, opened, release=self.work.name, run=self.work.run)
        line: dict[str, list[Any]] = {"filings": [len(rows.ledger)], "events": [len(rows.events)]}
        for name in SECONDS:
            line[name] = [float(pc.sum(batch[name]).as_py() or 0.0)]
        return pa.table(line)


def account(sink: str, opened: Release, run: str) -> dict[str, Any]:
    """What the run has written so far, from its ledger."""
    names = ("filings", *COUNTS, "events", "dead_letters")
    sums = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in names[1:])
    query = f"SELECT count(*), {sums} FROM raydistill.ledger WHERE run = %s"
    (row,) = postgres.fetch(sink, query, [run])
    codes = postgres.fetch(
        sink,
        "SELECT code, count(*) FROM raydistill.dead_letters WHERE run = %s"
        " GROUP BY 1 ORDER BY 2 DESC",
        [run],
    )
    return {**dict(zip(names, row, strict=True)), "codes": dict(codes), "release": opened.name}


def _print(report: dict[str, Any]) -> None:
    if not report["new"]:
        print("backfill: nothing to do, every filing is in the ledger")
    names = ("filings", *COUNTS, "events", "dead_letters")
    print(table([tuple(f"{report[name]:,}" for name in names)], names))
    if report["codes"]:
        print("dead letters:", ", ".join(f"{k} {v}" for k, v in report["codes"].items()))
    if report["new"]:
        print(
            f"in {duration(report['execute_seconds'])}; stages: {_shares(report['stage_seconds'])}"
        )
    print(f"query: SELECT * FROM raydistill.events WHERE release = '{report['release']}' LIMIT 5;")
