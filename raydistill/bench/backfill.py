"""How fast a backfill is through Ray, from Postgres to Postgres, beside three other ways to do it.

The filings are of a demo world that the release has not seen. The others read and write the same
rows by the same steps: (a) a loop in one process, beside one actor of as many threads; (b) the
cascade with its extractor under transformers' `generate`, in Ray Data's usual form (usual.py) and,
beside it, in our chunks; (c) no cascade, the extractor on every sentence.
They are run in turn, three times; a ratio is the median of those of a round.
Start and loading are told apart: rates count from when the last of the actors begins its second
chunk to the last commit, and not from the first commit, before which others were run already.
With a corpus of real sentences, Ray and the loop run over those, too.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from raydistill import pgserver, pipeline, postgres, release
from raydistill.backfill import chunk_size, chunked
from raydistill.bench.usual import Usual, timed
from raydistill.corpus import fingerprint
from raydistill.corpus.postgres_sink import PostgresSink
from raydistill.corpus.stages import ALL_SECONDS, CascadeOf, Work, loop
from raydistill.demo.world import DDL
from raydistill.demo.world import chunks as pieces
from raydistill.pipeline import Part, Stage
from raydistill.release import Release
from raydistill.scale import Form, ScaleConfig
from raydistill.source import PostgresSentences, SourceConfig, TableConfig, identity

pc: Any = compute  # its functions are made at run time: no type checker sees them

SENTENCES = 10_000  # of a filing
SEED = 41
CORPUS = 100_000  # sentences of a corpus
ROUNDS = 3  # of the ways that are compared, in turn
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


def run(
    folder: Path,
    opened: Path,
    students: Path | None,
    corpus: Path | None = None,
    *,
    filings: int = 160,
    threads: int = 2,
) -> dict[str, Any]:
    """The figures, after printing them. `students` holds the masters; without it (b) is left out.

    `corpus` is Parquet of sentence_id, doc_id, idx and sentence. Writes a Postgres server's folder
    under `folder`. Starts a local Ray where none is.
    """
    from raydistill.on_ray import cluster

    made = release.verify(opened.absolute())
    dsn = pgserver.start((folder / "postgres").absolute())
    try:
        truth, strange = fill(dsn, filings)
        cluster.start(cpus=max(2, threads))
        figures = _figures(dsn, made, students, filings, threads, truth, strange)
        if corpus is not None:
            figures |= _real(dsn, made, corpus, threads)
    finally:
        pgserver.stop((folder / "postgres").absolute())
    for name, figure in figures.items():
        print(f"{name:28} {figure}")
    return figures


def fill(dsn: str, filings: int) -> tuple[Counter[tuple[str, ...]], set[str]]:
    """Writes the world; what a teacher without error finds, and sentences of unseen phrasings."""
    strange: set[str] = set()
    with postgres.connect(dsn) as connection:
        postgres.script(connection, DDL)
        for piece in pieces(
            seed=SEED, filings=filings, companies=200, sentences_per_filing=SENTENCES, unread=0.0,
            error_rate=0.0,
        ):  # fmt: skip
            for name in ("filings", "sentences", "events"):
                postgres.copy_in(connection, f"kee.{name}", getattr(piece, name))
            odd = piece.truth.filter(pc.invert(piece.truth["phrasing_seen"]))
            strange.update(odd["sentence_id"].to_pylist())
    return _events(dsn, "kee.events"), strange


def _events(dsn: str, table: str) -> Counter[tuple[str, ...]]:
    names = {name: postgres.identifier(name) for name in ("sentence_id", *FIELDS)}
    query = postgres.sql(
        f"SELECT {', '.join(f'{{{name}}}' for name in names)} FROM {{table}}"  # noqa: S608
        " WHERE event_type IS NOT NULL",
        table=postgres.identifier(table),
        **names,
    )
    rows = postgres.fetch(dsn, query)
    return Counter(tuple(map(str, row)) for row in rows)


def _figures(
    dsn: str,
    made: Release,
    students: Path | None,
    filings: int,
    threads: int,
    truth: Counter[tuple[str, ...]],
    strange: set[str],
) -> dict[str, Any]:
    path = str(made.folder)
    here: list[Any] = []

    def kept() -> Stage:
        here.append(CascadeOf(path, threads)())
        return here[-1]

    slow = None
    if students is not None:
        slow = UnderTransformers(path, str((students / "extractor").absolute()), 1)
    rounds: list[_Round] = []
    for number in range(1, ROUNDS + 1):
        one = _Round(
            ray=ran(dsn, made, CascadeOf(path, 1), filings, _through_ray(threads)),
            bare=ran(dsn, made, kept, filings, loop),
            # The loop is one process of as many threads: an actor like it tells what Ray costs.
            like=ran(dsn, made, CascadeOf(path, threads), filings, _through_ray(1, threads)),
            usual=_usual(dsn, slow, filings, threads) if slow else 0.0,
        )
        rounds.append(one)
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in one.rates.items() if rate)
        print(f"round {number} of {ROUNDS}, sentences/s: {rates}", flush=True)
    every = ran(dsn, made, NoCascade(path, threads), 2, loop)
    ray = sorted((one.ray for one in rounds), key=lambda one: one.rate)[ROUNDS // 2]
    bare = rounds[-1].bare
    total = sum(ray.stages.values()) or 1.0
    figures: dict[str, Any] = {
        "sentences_per_second": round(ray.rate, 1),
        "core_seconds_per_filing": round(threads * SENTENCES / ray.rate, 3),
        "vs_bare_loop": _median(one.like.rate / one.bare.rate for one in rounds),
        "actors_vs_bare_loop": _median(one.ray.rate / one.bare.rate for one in rounds),
        "vs_bare_loop_from_start": _median(_whole(one.ray) / _whole(one.bare) for one in rounds),
        "ray_first_chunk_s": round(ray.start_s, 1),
        "vs_no_cascade": round(ray.rate / every.rate, 2),
        "shares": {name: round(s / total, 3) for name, s in ray.stages.items()},
        "stage_core_seconds_per_filing": {
            name: round(s * SENTENCES / max(1, ray.sentences), 3) for name, s in ray.stages.items()
        },
        "agreement": round(_f1(ray.events, truth, strange), 4),
        "skip_cache_hit_rate": round(here[-1].steps[2].stage.recent.hit_rate, 3),
        "bare_events_differ": sum(
            ((ray.events - bare.events) + (bare.events - ray.events)).values()
        ),
        "sentences": ray.every,
        "events": sum(ray.events.values()),
    }
    if slow is not None:
        under = ran(dsn, made, slow, filings, _through_ray(threads))
        figures["vs_transformers_in_chunks"] = round(ray.rate / under.rate, 2)
        figures["vs_transformers"] = _median(one.ray.rate / one.usual for one in rounds)
        figures["vs_transformers_rounds"] = [round(one.ray.rate / one.usual, 2) for one in rounds]
        figures["vs_transformers_extract_alone"] = round(
            (under.stages["extract_s"] / under.sentences)
            / (ray.stages["extract_s"] / ray.sentences),
            2,
        )
    return figures


@dataclass(frozen=True, slots=True)
class _Round:
    """The ways that are compared, one after another: hours differ more than minutes."""

    ray: "Ran"
    bare: "Ran"
    like: "Ran"
    usual: float  # sentences a second, 0 where it was not asked for

    @property
    def rates(self) -> dict[str, float]:
        """Sentences a second of each."""
        rates = {"ray": self.ray.rate, "loop": self.bare.rate, "an actor like it": self.like.rate}
        return {**rates, "usual": self.usual}


def _median(ratios: Iterable[float]) -> float:
    return round(statistics.median(ratios), 3)


def _usual(dsn: str, slow: UnderTransformers, filings: int, threads: int) -> float:
    """Sentences a second of the cascade in Ray Data's usual form."""
    source, found = _source(dsn)
    form = Usual(dsn, slow.release, slow.master, actors=threads)
    seconds, share = timed(form.lines(source, _chunks(found[:filings])))
    return share * sum(size for _, size in found[:filings]) / seconds


def _source(dsn: str) -> tuple[PostgresSentences, list[tuple[str, int]]]:
    """The sentences, and every filing with its size."""
    table: TableConfig = SourceConfig(dsn=dsn).sentences
    source = PostgresSentences(dsn, table.table, table.columns)
    return source, source.filings()


def _chunks(found: list[tuple[str, int]]) -> list[list[str]]:
    """The chunks that a backfill of these filings has by default."""
    return list(chunked(found, chunk_size(found, ScaleConfig())))


def _real(dsn: str, made: Release, corpus: Path, threads: int) -> dict[str, Any]:
    """Ray and the loop over real sentences; nobody knows what a teacher would say of them."""
    names = {"sentence_id": "sentence_id", "doc_id": "filing_id", "idx": "position"}
    rows = pq.read_table(corpus, columns=[*names, "sentence"])
    docs = pc.unique(rows["doc_id"].slice(0, CORPUS))
    rows = rows.filter(pc.is_in(rows["doc_id"], value_set=docs))
    with postgres.connect(dsn) as connection:
        postgres.script(connection, DDL)
        table = rows.rename_columns([*names.values(), "sentence"])
        postgres.copy_in(connection, "kee.sentences", table)
    path = str(made.folder)
    ray = ran(dsn, made, CascadeOf(path, 1), None, _through_ray(threads))
    bare = ran(dsn, made, CascadeOf(path, threads), None, loop)
    like = ran(dsn, made, CascadeOf(path, threads), None, _through_ray(1, threads))
    total = sum(ray.stages.values()) or 1.0
    return {
        "corpus_sentences": ray.every,
        "corpus_sentences_per_second": round(ray.rate, 1),
        "corpus_core_seconds_per_10000": round(threads * SENTENCES / ray.rate, 3),
        "corpus_vs_bare_loop": round(like.rate / bare.rate, 3),
        "corpus_shares": {name: round(s / total, 3) for name, s in ray.stages.items()},
        "corpus_events": sum(ray.events.values()),
    }


def _whole(one: Ran) -> float:
    return one.every / one.whole_s


Way = Callable[[Work, list[list[str]]], Iterable[dict[str, Any]]]


def _through_ray(actors: int, threads: int = 1) -> Way:
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
    source, found = _source(dsn)
    chunks = _chunks(found[:filings])
    work = Work(str(made.folder), source, sink, cascade)
    began = time.time()
    lines: list[dict[str, Any]] = []
    times: list[float] = []
    spent: list[float] = []
    for line in way(work, chunks):
        lines.append(line)
        times.append(time.time())
        spent.append(time.process_time())
    found = _events(dsn, "raydistill.events")
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


def _f1(
    found: Counter[tuple[str, ...]], truth: Counter[tuple[str, ...]], strange: set[str]
) -> float:
    """F1 of whole records, ten fields, letter by letter, `strange` sentences left out."""
    both = sum(n for one, n in (found & truth).items() if one[0] not in strange)
    sizes = [sum(n for one, n in side.items() if one[0] not in strange) for side in (found, truth)]
    return 2 * both / max(1, sum(sizes))
