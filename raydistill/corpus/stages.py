"""The three steps of a chunk: read, run, commit. Plain classes; Ray and a test loop call the same.

A chunk carries `facts` (JSON) on its first marker: seconds and memory of the steps that it went
through. Its key is the filing of that marker.
"""

import gc
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import compute

from raydistill import events, pipeline, release
from raydistill.chunk import COUNTS, SECONDS, SENTENCES
from raydistill.corpus import isolate
from raydistill.corpus.patience import DiskAway, patiently
from raydistill.corpus.sink import READ, RUN, Sink
from raydistill.corpus.whereabouts import noted
from raydistill.pipeline import Stage
from raydistill.source import Sentences

pc: Any = compute  # its functions are made at run time: no type checker sees them

# A chunk begun so often without an end is run in a process that may die: one death may have been
# anybody's, two in a row are the chunk's.
SUSPECT = 3
ALL_SECONDS = ("read_s", *SECONDS, "commit_s")


@dataclass(frozen=True, slots=True)
class CascadeOf:
    """Makes the cascade of a release; plain, so that it travels to a process that may die."""

    release: str
    threads: int

    def __call__(self) -> Stage:
        """The cascade, its models loaded."""
        return pipeline.Cascade(Path(self.release), threads=self.threads)


@dataclass(frozen=True, slots=True)
class Work:
    """What every actor and task of a run needs. Plain values: it travels by pickle."""

    release: str
    sentences: Sentences
    sink: Sink
    cascade: Callable[[], Stage]
    abstain: float = 0.0
    patience_s: float = 300.0


class Read:
    """Filings to their chunk. An empty table when the run is to stop."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self, filings: list[str]) -> pa.Table:
        work, began = self.work, time.perf_counter()
        attempts = 1
        if work.sentences.parses:
            attempts = patiently(lambda: work.sink.begin(filings[0], READ), work.patience_s)
        if not attempts:
            return with_facts(SENTENCES.empty_table(), {})
        if attempts < SUSPECT:
            table = patiently(lambda: _read(work.sentences, filings), work.patience_s)
        else:
            table = isolate.read(work.sentences, filings)
        if work.sentences.parses:
            patiently(lambda: work.sink.end(filings[0], READ), work.patience_s)
        return with_facts(table, {"read_s": time.perf_counter() - began})


def _read(sentences: Sentences, filings: list[str]) -> pa.Table:
    try:
        return sentences.read(filings)
    except OSError as problem:  # a store that does not answer; files that are bad are rows
        raise DiskAway(f"the source cannot be read: {problem}") from problem


class Run:
    """A chunk through the cascade; sentences that kill the process become dead letters."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.cascade = work.cascade()
        # What is loaded stays: looking through it again and again took a twentieth of a chunk.
        gc.collect()
        gc.freeze()

    def __call__(self, batch: pa.Table) -> pa.Table:
        work = self.work
        if not len(batch):
            return batch
        key = key_of(batch)
        attempts = patiently(lambda: work.sink.begin(key, RUN), work.patience_s)
        if not attempts:
            return batch.slice(0, 0)
        run_at = time.time()
        with noted(work.sink, key):
            table = self._table(batch, suspect=attempts >= SUSPECT)
        now, peak = memory_mib()
        facts = {"actor": os.getpid(), "rss_mib": now, "peak_mib": peak, "run_at": run_at}
        return with_facts(table, facts_of(batch) | facts)

    def _table(self, batch: pa.Table, *, suspect: bool) -> pa.Table:
        if not suspect:
            try:
                return self.cascade(batch)
            except Exception as problem:  # one sentence's fault, or everybody's: isolation tells
                print(f"a chunk failed, its sentences are tried apart: {problem!r}", flush=True)
        return isolate.run(self.work.cascade, batch)


class Commit:
    """Writes each chunk at once or not at all; gives one line of what it held.

    Ray may run it again for a chunk it has written: the sink makes that harmless.
    """

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self, batch: pa.Table) -> pa.Table:
        if not len(batch):
            return pa.table({"line": pa.array([], pa.string())})
        work, began = self.work, time.perf_counter()
        task = release.task_of(Path(work.release))
        rows = events.rows(batch, task, abstain=work.abstain)
        key = key_of(batch)
        new = patiently(lambda: work.sink.commit(key, rows), work.patience_s)
        line: dict[str, Any] = {"chunk": key, "filings": len(rows.ledger), "new": new}
        for name in (*COUNTS, "events", "dead_letters", "answers", "abstained"):
            line[name] = pc.sum(rows.ledger[name]).as_py() or 0
        line["glanced"] = pc.sum(batch["glanced"]).as_py() or 0
        for name in SECONDS:
            line[name] = float(pc.sum(batch[name]).as_py() or 0.0)
        codes = pc.value_counts(rows.dead_letters["code"]).to_pylist()
        line["codes"] = {one["values"]: one["counts"] for one in codes}
        line |= facts_of(batch)
        line["commit_s"] = time.perf_counter() - began
        return pa.table({"line": pa.array([json.dumps(line)], pa.string())})


@dataclass(frozen=True, slots=True)
class Steps:
    """The classes of a chunk's three steps, each made of a Work."""

    read: Callable[[Work], Callable[[list[str]], pa.Table]] = Read
    run: Callable[[Work], Stage] = Run
    commit: Callable[[Work], Stage] = Commit


FORWARD = Steps()


def loop(work: Work, chunks: list[list[str]], steps: Steps = FORWARD) -> Iterator[dict[str, Any]]:
    """The chunks one after another in this process, as Ray would do them side by side."""
    read, run, commit = steps.read(work), steps.run(work), steps.commit(work)
    for chunk in chunks:
        for line in commit(run(read(chunk)))["line"].to_pylist():
            yield json.loads(line)


def key_of(batch: pa.Table) -> str:
    """The name of a chunk: its first filing."""
    return str(batch["filing_id"].filter(pc.is_null(batch["id"]))[0].as_py())


def with_facts(batch: pa.Table, facts: dict[str, Any]) -> pa.Table:
    """The table with `facts` on its first marker."""
    place = pc.index(pc.is_null(batch["id"]), True).as_py()
    column = pa.nulls(len(batch), pa.string())
    if place >= 0:
        told = pa.array([json.dumps(facts)])
        column = pa.concat_arrays([column.slice(0, place), told, column.slice(place + 1)])
    if "facts" in batch.column_names:
        batch = batch.drop_columns(["facts"])
    return batch.append_column("facts", column)


def facts_of(batch: pa.Table) -> dict[str, Any]:
    """The facts that a chunk carries."""
    told = batch["facts"].drop_null().to_pylist()
    return json.loads(told[0]) if told else {}


def memory_mib() -> tuple[float, float]:
    """Resident memory of this process now, and at its peak, MiB.

    Pages of Ray's object store, which every chunk is read from, are the store's and count only in
    the peak: they come and go, and looked like a leak.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    status = Path("/proc/self/status")
    if not status.exists():
        return peak, peak
    told = dict(line.split(":", 1) for line in status.read_text().splitlines())
    kib = [int(told.get(name, "0 kB").split()[0]) for name in ("VmRSS", "RssShmem")]
    return (kib[0] - kib[1]) / 1024, peak
