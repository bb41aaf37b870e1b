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
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyarrow import compute

from raydistill import pgserver, postgres, release
from raydistill.bench.usual import Usual, timed
from raydistill.bench.ways import (
    NoCascade,
    Ran,
    UnderTransformers,
    chunks_of,
    events_of,
    ran,
    source_of,
    through_ray,
)
from raydistill.corpus.stages import CascadeOf, loop
from raydistill.demo.world import DDL
from raydistill.demo.world import chunks as pieces
from raydistill.pipeline import Stage
from raydistill.release import Release

pc: Any = compute  # its functions are made at run time: no type checker sees them

SENTENCES = 10_000  # of a filing
SEED = 41
CORPUS = 100_000  # sentences of a corpus
ROUNDS = 3  # of the ways that are compared, in turn


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
    return events_of(dsn, "kee.events"), strange


@dataclass(frozen=True, slots=True)
class _Round:
    """The ways that are compared, one after another: hours differ more than minutes."""

    ray: Ran
    bare: Ran
    like: Ran
    usual: float  # sentences a second, 0 where it was not asked for
    hit_rate: float  # of the skip classifier's memory, in the loop

    @property
    def rates(self) -> dict[str, float]:
        """Sentences a second of each."""
        rates = {"ray": self.ray.rate, "loop": self.bare.rate, "an actor like it": self.like.rate}
        return {**rates, "usual": self.usual}


def _rounds(
    dsn: str, made: Release, filings: int | None, threads: int, slow: UnderTransformers | None
) -> list[_Round]:
    path, rounds = str(made.folder), list[_Round]()
    here: list[Any] = []

    def kept() -> Stage:
        here.append(CascadeOf(path, threads)())
        return here[-1]

    for number in range(1, ROUNDS + 1):
        ray = ran(dsn, made, CascadeOf(path, 1), filings, through_ray(threads))
        bare = ran(dsn, made, kept, filings, loop)
        # The loop is one process of as many threads: an actor like it tells what Ray costs.
        like = ran(dsn, made, CascadeOf(path, threads), filings, through_ray(1, threads))
        usual = _usual(dsn, slow, filings, threads) if slow else 0.0
        hits = here.pop().steps[2].stage.recent.hit_rate
        rounds.append(_Round(ray, bare, like, usual, hits))
        rates = ", ".join(f"{name} {one:,.0f}" for name, one in rounds[-1].rates.items() if one)
        print(f"round {number} of {ROUNDS}, sentences/s: {rates}", flush=True)
    return rounds


def _middle(rounds: list[_Round]) -> Ran:
    """The run through Ray whose rate is the median."""
    return sorted((one.ray for one in rounds), key=lambda one: one.rate)[len(rounds) // 2]


def _median(ratios: Iterable[float]) -> float:
    return round(statistics.median(ratios), 3)


def _figures(
    dsn: str,
    made: Release,
    students: Path | None,
    filings: int,
    threads: int,
    truth: Counter[tuple[str, ...]],
    strange: set[str],
) -> dict[str, Any]:
    slow = None
    if students is not None:
        slow = UnderTransformers(str(made.folder), str((students / "extractor").absolute()), 1)
    rounds = _rounds(dsn, made, filings, threads, slow)
    every = ran(dsn, made, NoCascade(str(made.folder), threads), 2, loop)
    ray, bare = _middle(rounds), rounds[-1].bare
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
        "skip_cache_hit_rate": round(rounds[-1].hit_rate, 3),
        "bare_events_differ": sum(
            ((ray.events - bare.events) + (bare.events - ray.events)).values()
        ),
        "sentences": ray.every,
        "events": sum(ray.events.values()),
    }
    if slow is not None:
        figures |= _against(rounds, ran(dsn, made, slow, filings, through_ray(threads)))
    return figures


def _against(rounds: list[_Round], under: Ran) -> dict[str, Any]:
    """The ratios to `generate`; `under` ran it in our chunks."""
    ray = _middle(rounds)
    alone = under.stages["extract_s"] / under.sentences
    return {
        "vs_transformers": _median(one.ray.rate / one.usual for one in rounds),
        "vs_transformers_rounds": [round(one.ray.rate / one.usual, 2) for one in rounds],
        "vs_transformers_in_chunks": round(ray.rate / under.rate, 2),
        "vs_transformers_extract_alone": round(
            alone / (ray.stages["extract_s"] / ray.sentences), 2
        ),
    }


def _usual(dsn: str, slow: UnderTransformers, filings: int | None, threads: int) -> float:
    """Sentences a second of the cascade in Ray Data's usual form."""
    source, found = source_of(dsn)
    form = Usual(dsn, slow.release, slow.master, actors=threads)
    seconds, share = timed(form.lines(source, chunks_of(found[:filings])))
    return share * sum(size for _, size in found[:filings]) / seconds


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
    rounds = _rounds(dsn, made, None, threads, None)
    ray = _middle(rounds)
    total = sum(ray.stages.values()) or 1.0
    return {
        "corpus_sentences": ray.every,
        "corpus_sentences_per_second": round(ray.rate, 1),
        "corpus_core_seconds_per_10000": round(threads * SENTENCES / ray.rate, 3),
        "corpus_vs_bare_loop": _median(one.like.rate / one.bare.rate for one in rounds),
        "corpus_shares": {name: round(s / total, 3) for name, s in ray.stages.items()},
        "corpus_events": sum(ray.events.values()),
    }


def _whole(one: Ran) -> float:
    return one.every / one.whole_s


def _f1(
    found: Counter[tuple[str, ...]], truth: Counter[tuple[str, ...]], strange: set[str]
) -> float:
    """F1 of whole records, ten fields, letter by letter, `strange` sentences left out."""
    both = sum(n for one, n in (found & truth).items() if one[0] not in strange)
    sizes = [sum(n for one, n in side.items() if one[0] not in strange) for side in (found, truth)]
    return 2 * both / max(1, sum(sizes))
