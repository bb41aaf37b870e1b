"""A backfill's chunks through Ray Data: read tasks, extractor actors, commit tasks."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import ray.data
from ray.exceptions import RayError

from raydistill.corpus.stages import Commit, Read, Run, Work
from raydistill.errors import RaydistillError
from raydistill.on_ray.chunks import Chunks

if TYPE_CHECKING:
    from ray.data import Dataset

# Reads and writes need a core's time but seldom. Actors leave them this much of it: where actors
# reserve every core, Ray has nowhere to run a read and waits for ever.
_SLIVER = 0.2


def flow(work: Work, chunks: list[list[str]], *, actors: int, threads: int) -> "Dataset":
    """The chunks as a dataset of one line a committed chunk. Ray must be running."""
    return (
        ray.data.read_datasource(
            Chunks(chunks, Read(work).__call__),
            override_num_blocks=len(chunks),
            num_cpus=_SLIVER,
        )
        .map_batches(
            _runner(work),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=threads - 2 * _SLIVER,
            compute=ray.data.ActorPoolStrategy(size=actors),
        )
        .map_batches(
            Commit(work).__call__, batch_size=None, batch_format="pyarrow", num_cpus=_SLIVER
        )
    )


def lines(data: "Dataset") -> Iterator[dict[str, Any]]:
    """What each committed chunk held, as they come; our own errors without Ray's wrapping."""
    batches = data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    try:
        for batch in cast("Iterator[pa.Table]", batches):
            for line in batch["line"].to_pylist() if "line" in batch.column_names else []:
                yield json.loads(line)
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


def _runner(work: Work) -> type:
    """The cascade as a class for a Ray Data actor.

    `work` is part of the class: constructor arguments would lie in the object store, and an actor
    that is restarted after its owner's node died could not be made again.
    """

    class Runner(Run):
        def __init__(self) -> None:
            super().__init__(work)

    return Runner
