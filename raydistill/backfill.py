"""backfill: every filing of a source, exactly once a release, into events in Postgres.

A chunk is whole filings: one read task, one block, one transaction. The ledger says which filings
are done, so the same command after any death goes on where it stopped, and after the end does
nothing.
"""

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from raydistill import pgserver, postgres, release, source
from raydistill.corpus import account, fingerprint, retry
from raydistill.corpus import plan as planning
from raydistill.corpus.drive import Drive, Signals, signals
from raydistill.corpus.live import Live
from raydistill.corpus.parquet_sink import ParquetSink
from raydistill.corpus.plan import PricesConfig
from raydistill.corpus.postgres_sink import PostgresSink
from raydistill.corpus.sink import Hold, Sink
from raydistill.corpus.stages import FORWARD, CascadeOf, Steps, Work
from raydistill.corpus.totals import Totals
from raydistill.errors import Drained, SetupError
from raydistill.metrics import Metrics, MetricsConfig
from raydistill.on_ray import cluster
from raydistill.release import Release
from raydistill.scale import Form, ScaleConfig
from raydistill.source import Sentences, SourceConfig, SourceKind, dsn
from raydistill.tasks import TASKS
from raydistill.web.review import Queue


class Retry(Enum):
    """What is run again instead of filings that are not done."""

    dead_letters = "dead_letters"


@dataclass(kw_only=True, slots=True)
class Config:
    """What backfill reads, which release runs over it, and under which name the run is kept.

    `run` is `backfill_SOURCE` where it is not given. `sink` is postgres (the source's database),
    parquet (to `sink_path`), or a libpq URI. `stall_s`, `drain_s` and `patience_s` are
    seconds: until a run without a commit says so, for what is begun when a signal comes, and for a
    database that is away.
    """

    root: str = "runs"
    source: SourceConfig
    release: str
    run: str | None = None
    sink: str | None = None
    sink_path: str | None = None
    task: str = "filing_events"
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    abstain: float = 0.0
    retry: Retry | None = None
    stall_s: float = 300.0
    drain_s: float = 60.0
    patience_s: float = 300.0
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    plan: bool = False
    prices: PricesConfig = field(default_factory=PricesConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.abstain < 1:
            raise SetupError(f"abstain={self.abstain}", expected="a probability: 0 (never) to 1")


def run(config: Config) -> dict[str, Any]:
    """Runs or continues the backfill of `config`; prints and gives its account.

    Drained with 143 or 130 after a SIGTERM or Ctrl-C, when what was begun has been committed.
    """
    name = config.run or f"backfill_{config.source.kind.value}"
    opened = release.verify(Path(config.release).absolute(), expected=TASKS[config.task])
    parts = fingerprint.fingerprint(opened, source.identity(config.source), abstain=config.abstain)
    _check(config, opened)
    sentences = source.sentences(config.source)
    if config.plan:
        return _plan(config, sentences, opened)
    sink = _sink(config, opened, name, fingerprint.short(parts))
    folder = account.open_folder(Path(config.root).absolute() / name, parts)
    with signals() as asked, sink.hold() as hold:
        sink.prepare()
        sink.enter(parts)
        if config.abstain and isinstance(sink, PostgresSink):
            Queue(sink.dsn, opened.task).prepare()
        cascade = CascadeOf(str(opened.folder), config.scale.threads)
        work = Work(str(opened.folder), sentences, sink, cascade, config.abstain, config.patience_s)
        report = _run(config, name, work, hold, asked, folder, parts)
    if asked.got is not None:
        code = 128 + asked.got
        print(f"backfill {name}: stopped; the same command goes on. Exit code {code}", flush=True)
        raise Drained(code)
    return report


def _run(
    config: Config, name: str, work: Work, hold: Hold, asked: Signals, folder: Path, parts: Any
) -> dict[str, Any]:
    chunks, steps = _to_do(config, name, work)
    pending = sum(len(chunk) for chunk in chunks)
    totals = Totals(pending)
    began = time.monotonic()
    whole = True
    if chunks:
        metrics = Metrics("backfill", port=config.metrics.port, file=folder / "metrics.prom")
        with Live(f"backfill {name}", pending, metrics) as live:
            drive = Drive(
                work.sink, hold, live, totals, asked, config.stall_s, config.drain_s,
                _mend(config),
            )  # fmt: skip
            whole = _execute(drive, work, chunks, config, folder, steps)
    report = account.told(
        work.sink.account(),
        totals,
        seconds=time.monotonic() - began,
        ended="done" if whole else signal.Signals(asked.got or 0).name,
        parts=parts,
    )
    if not chunks:
        print("backfill: nothing to do, every filing is in the ledger")
    account.show(report, totals)
    if isinstance(work.sink, PostgresSink):
        print(f"query: {QUERY.format(release=parts['release'])}")
    account.write(folder, report)
    return report


QUERY = "SELECT * FROM raydistill.events WHERE release = '{release}' LIMIT 5;"


def _to_do(config: Config, name: str, work: Work) -> tuple[list[list[str]], Steps]:
    """The chunks of a run and what is done with them; says how much that is."""
    release = f"release {work.sink.name}"
    if config.retry is not None:
        assert isinstance(work.sink, PostgresSink)  # _check has refused others
        dead = retry.dead(work.sink)
        chunks = list(chunked(dead, _DEAD))
        letters = sum(count for _, count in dead)
        print(f"backfill {name}: {letters:,} dead letters of {len(dead):,} filings; {release}")
        return chunks, retry.STEPS
    filings, done = work.sentences.filings(), work.sink.done()
    left = [one for one in filings if one[0] not in done]
    chunks = list(chunked(left, chunk_size(filings, config.scale)))
    pending = sum(len(chunk) for chunk in chunks)
    print(
        f"backfill {name}: {len(filings):,} filings, {len(filings) - pending:,} done before,"
        f" {pending:,} to do in {len(chunks):,} chunks; {release}",
        flush=True,
    )
    return chunks, FORWARD


_DEAD = 200  # dead letters of a chunk: each may cost a process


def _execute(
    drive: Drive, work: Work, chunks: list[list[str]], config: Config, folder: Path, steps: Steps
) -> bool:
    """Streams the chunks through Ray Data; False when a signal ended it early."""
    cluster.start()
    if drive.signals.got is None:
        drive.signals.take()
    from raydistill.on_ray.flow import flow, lines, planned

    # The dead are run one by one: no pools are planned for them.
    scale = config.scale if steps is FORWARD else replace(config.scale, form=Form.laptop)
    plan = planned(work, chunks, scale)
    print(f"backfill: {plan}", flush=True)
    work = replace(work, cascade=CascadeOf(work.release, plan.pools[-1].threads))
    data = flow(work, chunks, plan, steps=steps)
    whole = drive(lines(data))
    if whole:
        account.keep(folder / "stats.txt", data.stats())
    return whole


def _mend(config: Config) -> Callable[[], None] | None:
    """Brings our own server back when it died; servers of others are waited for."""
    needed = config.sink in (None, "postgres") or config.source.kind is SourceKind.postgres
    if config.source.dsn is not None or not needed:
        return None

    def start() -> None:
        pgserver.start(Path(config.source.server).absolute())

    return start


def _check(config: Config, opened: Release) -> None:
    if config.abstain and not opened.manifest.extra.get("calibration"):
        raise SetupError(
            f"abstain={config.abstain}, and release {opened.name} is not calibrated",
            expected="a release that publish calibrated: it needs enough validation answers",
            todo="publish again with more validation rows, or set abstain=0",
        )
    if config.retry is not None and config.sink == "parquet":
        raise SetupError(
            "retry=dead_letters with sink=parquet",
            expected="PostgreSQL, where a dead letter can be taken out",
            todo="run the sentences of dead_letters/ as a source of their own",
        )


def _sink(config: Config, opened: Release, name: str, stamp: str) -> Sink:
    if config.sink == "parquet":
        if not config.sink_path:
            raise SetupError("sink=parquet without a path", todo="set sink_path=DIR")
        remote = "://" in config.sink_path
        path = config.sink_path if remote else str(Path(config.sink_path).absolute())
        return ParquetSink(path, opened.name, name, stamp)
    if config.sink in (None, "postgres"):
        address = dsn(config.source)
    else:
        postgres.refuse_password(address := str(config.sink))
    return PostgresSink(address, str(opened.folder), opened.name, name, stamp)


def _plan(config: Config, sentences: Sentences, opened: Release) -> dict[str, Any]:
    """What a run from the beginning would take. Writes nothing."""
    filings = sentences.filings()
    scale = config.scale
    cascade = CascadeOf(str(opened.folder), scale.threads)()
    told = planning.plan(
        planning.sample(sentences, cascade, opened.task, filings),
        filings,
        sum(1 for _ in chunked(filings, chunk_size(filings, scale))),
        actors=scale.actors,
        threads=scale.threads,
        prices=config.prices,
    )
    planning.show(told)
    return told


def chunk_size(filings: Iterable[tuple[str, int]], scale: ScaleConfig) -> int:
    """The sentences of a chunk in a run over these filings; the same, however many are left."""
    return scale.chunk_of(sum(count for _, count in filings))


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
