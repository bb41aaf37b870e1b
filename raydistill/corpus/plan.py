"""plan=true: what a backfill would take, from a sample that is run here and written nowhere."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import compute

from raydistill import events
from raydistill.chunk import COUNTS, SECONDS
from raydistill.pipeline import Stage
from raydistill.progress import duration, table
from raydistill.source import Sentences
from raydistill.task import Task

pc: Any = compute  # its functions are made at run time: no type checker sees them

_INDEX = 1.6  # a table and its indices in PostgreSQL, against the rows' own bytes
_OVERHEAD = 1.15  # Ray, reads beside runs, and commits, against the steps alone
SAMPLE = 20_000  # sentences, or SECONDS_AT_MOST of them
SECONDS_AT_MOST = 30.0


@dataclass(kw_only=True, slots=True)
class PricesConfig:
    """What an hour of a core and a month of a GB of disk cost, in any one currency."""

    core_hour: float = 0.04
    gb_month: float = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """What a few chunks took and gave; seconds are of one thread's wall time by step."""

    filings: int
    sentences: int
    guessed: int
    seconds: dict[str, float]
    counts: dict[str, int]
    bytes_out: int


def sample(
    sentences: Sentences,
    cascade: Stage,
    task: Task,
    filings: Sequence[tuple[str, int]],
    *,
    seed: int = 0,
) -> Sample:
    """Reads and runs filings drawn at random, until SAMPLE sentences or SECONDS_AT_MOST."""
    some = random.Random(seed).sample(list(filings), len(filings))
    spent = dict.fromkeys(("read_s", *SECONDS, "rows_s"), 0.0)
    counts = dict.fromkeys((*COUNTS, "events", "dead_letters"), 0)
    done = guessed = size = 0
    began = time.monotonic()
    while some and counts["sentences"] < SAMPLE and time.monotonic() - began < SECONDS_AT_MOST:
        part: list[tuple[str, int]] = []
        while some and sum(count for _, count in part) < 2000:
            part.append(some.pop())
        out, took = _once(sentences, cascade, [name for name, _ in part])
        at = time.perf_counter()
        rows = events.rows(out, task)
        took["rows_s"] = time.perf_counter() - at
        for name, seconds in took.items():
            spent[name] += seconds
        for name in counts:
            counts[name] += pc.sum(rows.ledger[name]).as_py() or 0
        size += rows.events.nbytes + rows.dead_letters.nbytes + rows.ledger.nbytes
        done += len(part)
        guessed += sum(count for _, count in part)
    return Sample(done, counts["sentences"], guessed, spent, counts, size)


def _once(
    sentences: Sentences, cascade: Stage, filings: list[str]
) -> tuple[pa.Table, dict[str, float]]:
    at = time.perf_counter()
    batch = sentences.read(filings)
    took = {"read_s": time.perf_counter() - at}
    out = cascade(batch)
    for name in SECONDS:
        took[name] = float(pc.sum(out[name]).as_py() or 0.0)
    return out, took


def plan(
    one: Sample,
    filings: Sequence[tuple[str, int]],
    chunks: int,
    *,
    actors: int,
    threads: int,
    prices: PricesConfig,
) -> dict[str, Any]:
    """Rows, hours, cores, disk and money of a whole run, by the sample's rates."""
    guessed = sum(count for _, count in filings)
    scale = guessed / max(1, one.guessed)
    # Stages use `threads` cores at once; reading and making rows use one.
    stage = sum(one.seconds[name] for name in SECONDS) * threads
    core_seconds = (stage + one.seconds["read_s"] + one.seconds["rows_s"]) * _OVERHEAD * scale
    cores = actors * threads
    disk = one.bytes_out * scale * _INDEX / 1e9
    return {
        "filings": len(filings),
        "sentences": round(one.sentences * scale),
        "chunks": chunks,
        "events": round(one.counts["events"] * scale),
        "dead_letters": round(one.counts["dead_letters"] * scale),
        "cores": cores,
        "core_hours": core_seconds / 3600,
        "hours": core_seconds / 3600 / cores,
        "disk_gb": disk,
        "money": core_seconds / 3600 * prices.core_hour,
        "disk_money_month": disk * prices.gb_month,
        "sample_sentences": one.sentences,
        "sample_filings": one.filings,
    }


def show(told: dict[str, Any]) -> None:
    """Prints a plan."""
    names = ("filings", "sentences", "chunks", "events", "dead_letters")
    print(table([tuple(f"{told[name]:,}" for name in names)], names))
    print(
        f"{duration(told['hours'] * 3600)} on {told['cores']} cores"
        f" ({told['core_hours']:,.2f} core-hours, {told['money']:,.2f} at the price of a core),"
        f" {told['disk_gb']:,.3f} GB of disk ({told['disk_money_month']:,.2f} a month)\n"
        f"from a sample of {told['sample_sentences']:,} sentences of"
        f" {told['sample_filings']:,} filings; nothing was written"
    )
