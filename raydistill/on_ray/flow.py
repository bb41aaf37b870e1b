"""A backfill's chunks through Ray Data: read tasks, extractor actors, commit tasks."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import ray.data
from ray.exceptions import LocalRayletDiedError, RayError, RaySystemError

from raydistill.corpus.parts import RunPart, service
from raydistill.corpus.stages import FORWARD, Steps, Work
from raydistill.errors import RaydistillError
from raydistill.on_ray.cluster import cores_of, nodes
from raydistill.on_ray.parts import Parts
from raydistill.scale import PARTS, SLIVER, Form, Plan, Pool, ScaleConfig, cluster, laptop

if TYPE_CHECKING:
    from ray.data import Dataset

_MEASURED = 3  # chunks that service times are measured on, the first to warm up


def flow(work: Work, chunks: list[list[str]], plan: Plan, *, steps: Steps = FORWARD) -> "Dataset":
    """The chunks as a dataset of one line a committed chunk. Ray must be running."""
    chunk_of = steps.read(work).__call__
    # A process that reads or writes costs seconds before its first row, so there are no more than
    # have something to do: a table is read some five times as fast as it is run. Ray begins with
    # one on each node.
    few = max(1, plan.cores // 2, nodes())
    data = ray.data.read_datasource(
        Parts("Chunks", chunks, lambda filings: [chunk_of(filings)]),
        override_num_blocks=len(chunks),
        num_cpus=SLIVER,
        concurrency=max(few, plan.cores) if work.sentences.parses else few,
    )
    for pool in plan.pools:
        data = data.map_batches(
            _runner(work, steps) if pool.parts == PARTS else _part(work, pool),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=pool.reserved,
            compute=ray.data.ActorPoolStrategy(size=pool.actors),
            label_selector=dict(plan.labels) or None,
        )
    return data.map_batches(
        steps.commit(work).__call__,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=SLIVER,
        compute=ray.data.TaskPoolStrategy(size=few),
    )


def planned(work: Work, chunks: list[list[str]], scale: ScaleConfig) -> Plan:
    """The pools for these chunks, no wider than the cluster; measures on one core where it must."""
    there = cores_of(scale.labels)
    if scale.form is Form.laptop:
        return replace(laptop(scale.actors, scale.threads, there), labels=scale.labels)
    cores = min(there, scale.actors * scale.threads)
    times = dict(scale.service)
    if not times:
        remote: Any = ray.remote
        asked = remote(num_cpus=1, label_selector=scale.labels or None)(service)
        measured: Any = asked.remote(work, chunks[:_MEASURED])
        times = cast("dict[str, float]", ray.get(measured))
    return replace(cluster(times, scale.threads, cores), labels=scale.labels)


def lines(data: "Dataset") -> Iterator[dict[str, Any]]:
    """What each committed chunk held, as they come; our own errors without Ray's wrapping."""
    batches = data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    try:
        for batch in cast("Iterator[pa.Table]", batches):
            for line in batch["line"].to_pylist() if "line" in batch.column_names else []:
                yield json.loads(line)
    except (LocalRayletDiedError, RaySystemError) as problem:
        raise RaydistillError(
            f"Ray ended under the run: {problem}\n  do: the same command goes on"
        ) from problem
    except RayError as problem:
        raise _cause(problem) from problem


def _cause(problem: BaseException) -> BaseException:
    """The error of ours inside Ray's, if there is one."""
    one: BaseException | None = problem
    while one is not None:
        if isinstance(one, RaydistillError):
            return one
        inner = getattr(one, "cause", None)
        one = inner if isinstance(inner, BaseException) and inner is not one else one.__cause__
    return problem


def _runner(work: Work, steps: Steps) -> type:
    """The cascade as a class for a Ray Data actor.

    `work` is part of the class: constructor arguments would lie in the object store, and an actor
    that is restarted after its owner's node died could not be made again.
    """

    class Runner:
        def __init__(self) -> None:
            self.run = steps.run(work)

        def __call__(self, batch: pa.Table) -> pa.Table:
            return self.run(batch)

    return Runner


def _part(work: Work, pool: Pool) -> type:
    """One part of the cascade as such a class."""

    class Runner(RunPart):
        def __init__(self) -> None:
            super().__init__(work, pool.parts[0], pool.threads)

    return Runner
