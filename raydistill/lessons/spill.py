"""Spilling: rows parted by key into files, so that each part of a table of any size fits in memory.

A file is an Arrow IPC file with one record batch for each bucket, written whole under a temporary
name and then renamed: it is there entirely or not at all. Reading a bucket takes its batch out of
every file, in the files' order.
"""

import hashlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.errors import RaydistillError

Keys = npt.NDArray[np.uint64]
Item = TypeVar("Item")
Made = TypeVar("Made")


class WorkerDied(RaydistillError):
    """A process of ours was killed, most often for want of memory."""


def keys(values: Iterable[str | None]) -> Keys:
    """A 64-bit hash of each text (blake2b), the same on every machine; null hashes as no text."""
    digest, whole = hashlib.blake2b, int.from_bytes
    return np.array(
        [
            whole(digest((v or "").encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
            for v in values
        ],
        np.uint64,
    )


def plain(text: str | None) -> str:
    """A text without its case and spacing: what is equal then is the same sentence."""
    return " ".join((text or "").split()).casefold()


def text_keys(texts: Iterable[str | None]) -> Keys:
    """Keys of texts that forget case and spacing: equal keys are the same sentence."""
    return keys(plain(text) for text in texts)


def mixed(values: Keys, seed: int) -> Keys:
    """Keys as evenly spread numbers that the seed decides (splitmix64)."""
    with np.errstate(over="ignore"):
        x = values + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def below(values: Keys, rate: float) -> npt.NDArray[np.bool_]:
    """Which of evenly spread numbers fall in the first `rate` of their range."""
    if rate >= 1:
        return np.ones(len(values), np.bool_)
    return values < np.uint64(max(0.0, rate) * 2.0**64)


def buckets_of(values: Keys, count: int) -> npt.NDArray[np.int64]:
    """The bucket of each number by its place in the range: bucket 0 holds the smallest."""
    return ((values >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)).astype(np.int64)


def contains(known: Keys, values: Keys) -> npt.NDArray[np.bool_]:
    """Which values are among the sorted `known` ones."""
    if not len(known):
        return np.zeros(len(values), np.bool_)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return known[at] == values


@lru_cache(maxsize=3)
def known(file: str) -> Keys:
    """Sorted keys kept in a file, mapped; none where there is no such file."""
    return np.load(file, mmap_mode="r") if Path(file).is_file() else np.empty(0, np.uint64)


def write(file: Path, rows: pa.Table, bucket: npt.NDArray[np.int64], count: int) -> None:
    """Writes the rows with one batch for each of `count` buckets; rows keep their order in it."""
    order = np.argsort(bucket, kind="stable")
    ends = np.searchsorted(bucket[order], np.arange(count + 1))
    ordered = rows.take(pa.array(order)).combine_chunks()
    temporary = file.with_suffix(".tmp")
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        for start, stop in pairwise(ends.tolist()):
            piece = ordered.slice(start, stop - start).combine_chunks().to_batches()
            empty = pa.RecordBatch.from_pylist([], schema=rows.schema)
            writer.write_batch(piece[0] if piece else empty)
    temporary.rename(file)


def read(files: Sequence[Path], bucket: int) -> list[pa.RecordBatch]:
    """The bucket's batch of every file (mapped, not copied), in the order of the files."""
    found: list[pa.RecordBatch] = []
    for file in files:
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        found.append(reader.get_batch(bucket))
    return found


def pool(workers: int) -> ProcessPoolExecutor | None:
    """Processes to run steps in; None (run them here) where one is enough."""
    if workers < 2:
        return None
    # Never fork: this process has threads of Arrow and of libpq.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def run(
    step: Callable[[Item], Made], items: Sequence[Item], processes: ProcessPoolExecutor | None
) -> Iterator[Made]:
    """The results of `step` on every item, in order, as they come.

    Raises what a step raises; what has not begun by then is given up. WorkerDied if a process is
    gone.
    """
    if processes is None:
        yield from map(step, items)
        return
    futures: list[Future[Any]] = [processes.submit(step, item) for item in items]
    try:
        for future in futures:
            yield cast("Made", future.result())
    except BrokenProcessPool:
        raise WorkerDied(
            "a worker process was killed, most often for want of memory; set workers=1 or free some"
        ) from None
    finally:
        for future in futures:
            future.cancel()
