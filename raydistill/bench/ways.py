"""Ways to run a backfill, through Ray or not: what each takes, from Postgres to Postgres."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from raydistill import pipeline, postgres
from raydistill.backfill import chunk_size, chunked
from raydistill.corpus import fingerprint
from raydistill.corpus.postgres_sink import PostgresSink
from raydistill.corpus.stages import ALL_SECONDS, Work
from raydistill.pipeline import Part, Stage
from raydistill.release import Release
from raydistill.scale import Form, ScaleConfig
from raydistill.source import PostgresSentences, SourceConfig, TableConfig, identity

FIELDS = (
    "event_type", "subject", "object", "magnitude_class", "timing", "sentiment", "materiality",
    "confidence", "date_confidence", "event_date",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class UnderTransformers:
    """The cascade with its extractor's master under `generate`, 64 sentences at a time."""

    release: str
    master: str
    threads: int

    def __call__(self) -> Stage:
        from raydistill.student.masters import Extractor

        cascade = pipeline.Cascade(Path(self.release), threads=self.threads)
        extract = cast("Any", cascade.steps[-1].stage)
        extract.tries = 1
        extract.generator = _Master(Extractor(Path(self.master), threads=self.threads))
        return cascade


class _Master:
    def __init__(self, extractor: Any) -> None:
        self.extractor = extractor

    def __call__(self, sources: list[Any], frame: Any = None) -> list[Any]:
        from raydistill.engine import Generated

        return [Generated(tokens, 0.0) for tokens in self.extractor.tokens(sources)]


@dataclass(frozen=True, slots=True)
class NoCascade:
    """The extractor alone, on every sentence."""

    release: str
    threads: int

    def __call__(self) -> Stage:
        cascade = pipeline.Cascade(Path(self.release), threads=self.threads)
        *before, extract = cascade.steps
        steps = [pipeline.Step(_unasked, step.count, step.seconds) for step in before]
        cascade.part = Part([*steps, extract], cascade.guarded)
        return cascade


def _unasked(batch: pa.Table) -> pa.Table:
    """The batch itself, with the score that no classifier gave where a later stage looks for it."""
    if "skip_score" in batch.column_names:
        return batch
    return batch.append_column("skip_score", pa.nulls(len(batch), pa.float32()))


@dataclass(slots=True)
class Ran:
    """What one way did: seconds to its first commit and in all; sentences and seconds once every
    actor has had its first chunk; CPU seconds of this process from one commit to the next."""

    start_s: float
    whole_s: float
    seconds: float
    sentences: int
    every: int  # sentence there was
    driver_s: float
    stages: dict[str, float]
    events: Counter[tuple[str, ...]]

    @property
    def rate(self) -> float:
        """Sentences a second, once it runs."""
        return self.sentences / max(1e-9, self.seconds)


Way = Callable[[Work, list[list[str]]], Iterable[dict[str, Any]]]


def through_ray(actors: int, threads: int = 1) -> Way:
    def lines(work: Work, chunks: list[list[str]]) -> Iterable[dict[str, Any]]:
        from raydistill.on_ray import flow

        config = ScaleConfig(form=Form.laptop, actors=actors, threads=threads)
        return flow.lines(flow.flow(work, chunks, flow.planned(work, chunks, config)))

    return lines


def ran(
    dsn: str, made: Release, cascade: Callable[[], Stage], filings: int | None, way: Way
) -> Ran:
    """One way over the first filings, or all of them, into output tables of its own."""
    with postgres.connect(dsn) as connection:
        postgres.script(connection, "DROP SCHEMA IF EXISTS raydistill CASCADE")
    parts = fingerprint.fingerprint(made, identity(SourceConfig(dsn=dsn)), abstain=0.0)
    sink = PostgresSink(dsn, str(made.folder), made.name, "bench", fingerprint.short(parts))
    sink.prepare()
    sink.enter(parts)
    source, found = source_of(dsn)
    chunks = chunks_of(found[:filings])
    work = Work(str(made.folder), source, sink, cascade)
    began = time.time()
    lines: list[dict[str, Any]] = []
    times: list[float] = []
    spent: list[float] = []
    for line in way(work, chunks):
        lines.append(line)
        times.append(time.time())
        spent.append(time.process_time())
    found = events_of(dsn, "raydistill.events")
    later = _later(lines)
    return Ran(
        start_s=times[0] - began,
        whole_s=times[-1] - began,
        seconds=times[-1] - min(line["run_at"] for line in later),
        sentences=sum(line["sentences"] for line in later),
        every=sum(line["sentences"] for line in lines),
        driver_s=(spent[-1] - spent[0]) / max(1, len(spent) - 1),
        stages={name: float(sum(line.get(name, 0.0) for line in later)) for name in ALL_SECONDS},
        events=found,
    )


def _later(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The chunks that were begun once every actor had had its first, which holds what is loaded,
    compiled and touched for the first time."""
    begun: dict[int, list[float]] = {}
    for line in lines:
        begun.setdefault(line["actor"], []).append(line["run_at"])
    second = max((sorted(times)[1] for times in begun.values() if len(times) > 1), default=0.0)
    return [line for line in lines if line["run_at"] >= second]


def events_of(dsn: str, table: str) -> Counter[tuple[str, ...]]:
    names = {name: postgres.identifier(name) for name in ("sentence_id", *FIELDS)}
    query = postgres.sql(
        f"SELECT {', '.join(f'{{{name}}}' for name in names)} FROM {{table}}"  # noqa: S608
        " WHERE event_type IS NOT NULL",
        table=postgres.identifier(table),
        **names,
    )
    rows = postgres.fetch(dsn, query)
    return Counter(tuple(map(str, row)) for row in rows)


def source_of(dsn: str) -> tuple[PostgresSentences, list[tuple[str, int]]]:
    """The sentences, and every filing with its size."""
    table: TableConfig = SourceConfig(dsn=dsn).sentences
    source = PostgresSentences(dsn, table.table, table.columns)
    return source, source.filings()


def chunks_of(found: list[tuple[str, int]]) -> list[list[str]]:
    """The chunks that a backfill of these filings has by default."""
    return list(chunked(found, chunk_size(found, ScaleConfig())))
