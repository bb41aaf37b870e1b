"""A chunk's way through pools: each part of the cascade in actors of its own.

The chunk carries what the parts before left on it. A chunk that seems to kill its process leaves
this way: it is read anew and goes through the whole cascade in a process that may die, as in the
form where one actor does everything; the parts behind let it pass.
"""

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import compute

from raydistill import events, pipeline, release
from raydistill.corpus import isolate
from raydistill.corpus.patience import patiently
from raydistill.corpus.sink import RUN
from raydistill.corpus.stages import SUSPECT, Work, facts_of, key_of, memory_mib, with_facts
from raydistill.scale import EDGES, PARTS, PER

pc: Any = compute  # its functions are made at run time: no type checker sees them

_WHOLE = "answer"  # a column that the last part adds: where it stands, nothing is left to do


class RunPart:
    """One part of the cascade over chunks; `name` is one of PARTS."""

    def __init__(self, work: Work, name: str, threads: int) -> None:
        self.work, self.name = work, name
        opened = release.verify(Path(work.release))
        self.part = pipeline.part(opened, name, threads=threads)

    def __call__(self, batch: pa.Table) -> pa.Table:
        work = self.work
        if not len(batch) or _WHOLE in batch.column_names:
            return batch
        key, first = key_of(batch), self.name == PARTS[0]
        stage = RUN if first else self.name
        attempts = patiently(lambda: work.sink.begin(key, stage), work.patience_s)
        if not attempts and first:  # the run is to stop; what is begun goes on to its end
            return batch.slice(0, 0)
        facts = facts_of(batch)
        if attempts >= SUSPECT:
            table = self._alone(batch)
        else:
            try:
                table = self.part(batch)
            except Exception as problem:  # one sentence's fault, or everybody's: isolation tells
                print(f"a chunk failed in {self.name}: {problem!r}", flush=True)
                table = self._alone(batch)
        now, peak = memory_mib()
        return with_facts(table, facts | {"actor": os.getpid(), "rss_mib": now, "peak_mib": peak})

    def _alone(self, batch: pa.Table) -> pa.Table:
        """The chunk from its start through the whole cascade, where a process may die."""
        filings = batch["filing_id"].filter(pc.is_null(batch["id"])).to_pylist()
        read = isolate.read if self.work.sentences.parses else _read
        chunk = with_facts(read(self.work.sentences, filings), {})
        return isolate.run(self.work.cascade, chunk)


def _read(sentences: Any, filings: list[str]) -> pa.Table:
    return sentences.read(filings)


def service(work: Work, chunks: list[list[str]]) -> dict[str, float]:
    """Core-seconds of read, parts and commit for PER sentences, measured over chunks; no writing.

    The first chunk only warms up, where there are others. The commit is taken for the making of
    its rows and as much again for the transaction.
    """
    opened = release.verify(Path(work.release))
    task = release.task_of(Path(work.release))
    parts = {name: pipeline.part(opened, name, threads=1) for name in PARTS}
    spent = dict.fromkeys((EDGES[0], *PARTS, EDGES[1]), 0.0)
    sentences = 0
    for at, chunk in enumerate(chunks):
        began = time.perf_counter()
        table = with_facts(work.sentences.read(chunk), {})
        times = [time.perf_counter() - began]
        size = len(table) - len(chunk)
        for name in PARTS:
            began = time.perf_counter()
            table = parts[name](table)
            times.append(time.perf_counter() - began)
        began = time.perf_counter()
        events.rows(table, task, abstain=work.abstain)
        times.append(2 * (time.perf_counter() - began))
        if at or len(chunks) == 1:  # the first one compiled, loaded and touched memory
            sentences += size
            for name, seconds in zip(spent, times, strict=True):
                spent[name] += seconds
    return {name: max(1e-6, s) * PER / max(1, sentences) for name, s in spent.items()}
