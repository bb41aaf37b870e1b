"""The cascade as Ray Data's documentation would have it: a `map_batches` a stage, and `generate`.

The stages are ours, each an operator of its own; the extractor is a student's master under
transformers' `generate`, on batches of 64 sentences in the order in which they come. Rows are
written as they arrive: without chunks there is no ledger, so nothing here is exactly once.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from pyarrow import compute

from raydistill import pipeline, postgres, release
from raydistill.answer import Answer
from raydistill.on_ray.parts import Parts
from raydistill.source import Sentences
from raydistill.stages.extract import Said, answered

pc: Any = compute  # its functions are made at run time: no type checker sees them

TABLE = "usual"
_ROWS = 4096  # of a batch of the stages before the extractor
_SENTENCES = 64  # of a batch under `generate`
_ACTORS = 0.4  # cores that Ray reserves for each of them: all four and a read fit on two


@dataclass(frozen=True, slots=True)
class Usual:
    """What the actors need; plain, since it travels to them. `threads` are torch's, an actor."""

    dsn: str
    release: str
    master: str
    actors: int
    threads: int = 1

    def lines(self, sentences: Sentences, chunks: list[list[str]]) -> Iterator[int]:
        """The sentences that each written batch held, as they are written."""
        import ray.data

        with postgres.connect(self.dsn) as connection:
            postgres.script(connection, f"DROP TABLE IF EXISTS {TABLE}")
            columns = "sentence_id text, answer text, spans text, score real"
            postgres.script(connection, f"CREATE TABLE {TABLE} ({columns})")
        data = ray.data.read_datasource(
            Parts("Sentences", chunks, lambda filings: [sentences.read(filings)]),
            override_num_blocks=len(chunks),
            num_cpus=0.2,
        )
        how: dict[str, Any] = {"batch_format": "pyarrow", "fn_constructor_args": (self,)}
        for stage in (Before, Skipping):
            data = data.map_batches(
                stage, batch_size=_ROWS, num_cpus=_ACTORS,
                compute=ray.data.ActorPoolStrategy(size=1), **how,
            )  # fmt: skip
        data = data.map_batches(
            Generating, batch_size=_SENTENCES, num_cpus=_ACTORS,
            compute=ray.data.ActorPoolStrategy(size=self.actors), **how,
        )  # fmt: skip
        data = data.map_batches(Writing, batch_size=None, num_cpus=0.2,
            compute=ray.data.ActorPoolStrategy(size=1), **how)  # fmt: skip
        batches = data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for batch in cast("Iterator[pa.Table]", batches):
            yield sum(batch["written"].to_pylist())


class Before:
    """Guard, prefilter and glance."""

    def __init__(self, usual: Usual) -> None:
        self.part = _part(usual, "prefilter")

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self.part(batch.filter(pc.is_valid(batch["id"])))


class Skipping:
    """The skip classifier."""

    def __init__(self, usual: Usual) -> None:
        self.part = _part(usual, "skip")

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self.part(batch)


def _part(usual: Usual, name: str) -> pipeline.Part:
    return pipeline.part(release.verify(Path(usual.release)), name, threads=1)


class Generating:
    """The master of a student under transformers' `generate`."""

    def __init__(self, usual: Usual) -> None:
        from raydistill.student.masters import Extractor

        self.master = Extractor(Path(usual.master), threads=usual.threads)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return answered(batch, self.master.task, self._said, None)

    def _said(self, texts: list[str]) -> list[Said]:
        return [
            Said(one, 0.0 if isinstance(one, Answer) else None, 0)
            for one in self.master.answers(texts)
        ]


class Writing:
    """The answers into a table, by COPY."""

    def __init__(self, usual: Usual) -> None:
        self.dsn = usual.dsn

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.select(["id", "answer", "spans", "score"])
        with postgres.connect(self.dsn) as connection, postgres.transaction(connection):
            postgres.copy_in(
                connection, TABLE, rows.rename_columns(["sentence_id", *rows.column_names[1:]])
            )
        return pa.table({"written": pa.array([len(rows)], pa.int64())})


def timed(lines: Iterator[int]) -> tuple[float, float]:
    """Seconds from the end of the first quarter of the batches to the last, and the share of the
    rows that was written in them. What comes before holds the start of Ray's actors."""
    times: list[float] = []
    sizes: list[int] = []
    for size in lines:
        times.append(time.perf_counter())
        sizes.append(size)
    cut = max(1, len(sizes) // 4)
    return times[-1] - times[cut - 1], sum(sizes[cut:]) / sum(sizes)
