"""Taught: which rows of a dataset an extractor learns from, and their copies under other names."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raydistill.dataset import Dataset
from raydistill.lessons import invented, joins, variations
from raydistill.lessons.apart import NEAR, HeldOut


@dataclass(frozen=True, slots=True)
class Taught:
    """The lessons, how many of them were made, and how many more were like a held-out sentence."""

    rows: pa.Table
    made: int = 0
    dropped: int = 0

    def told(self) -> str:
        """What the log says of them."""
        if not self.made + self.dropped:
            return f"{len(self.rows):,} lessons"
        return (
            f"{len(self.rows):,} lessons, {self.made:,} of them made; {self.dropped:,} more were"
            " dropped, equal or nearly equal to a sentence of validation or test"
        )


def taught(
    data: Dataset, *, negatives: float, copies: int, joined: float = 0.0, seed: int
) -> Taught:
    """All rows with an event, `negatives` without for each, and `copies` under invented names.

    `joined` is the share of all these that are said once more, two or three in one sentence. What
    is made and comes out like a sentence of validation or test is not taught.
    """
    lessons = Taught(chosen(data.table("train"), negatives))
    makers: list[Callable[[pa.Table], pa.Table]] = []
    if copies:
        makers.append(lambda rows: _copies(rows, data, copies, seed))
    if joined and not data.task.single:
        makers.append(lambda rows: joins.joined(rows, data.task, share=joined, seed=seed))
    if not makers:
        return lessons
    held_out = HeldOut.of(_held_out(data))
    for make in makers:
        made = make(lessons.rows)
        like = held_out.like(made["text"].to_pylist(), _near(data))
        apart = made.filter(pa.array(~like))
        rows = pa.concat_tables([lessons.rows, apart])
        lessons = Taught(rows, lessons.made + len(apart), lessons.dropped + int(like.sum()))
    return lessons


def _held_out(data: Dataset) -> Iterator[str]:
    for split in ("val", "test"):
        for batch in data.batches(split):
            yield from batch.column("text").to_pylist()


def _near(data: Dataset) -> float:
    """What `build` took for nearly equal."""
    return float(data.manifest.get("filters", {}).get("near", NEAR))


def chosen(rows: pa.Table, negatives: float) -> pa.Table:
    """All rows with an event and the first of those without, in the dataset's (shuffled) order."""
    keep = np.asarray(rows["keep"])
    count = int(keep.sum() * negatives)
    without = np.flatnonzero(~keep)[:count]
    return rows.take(pa.array(np.sort(np.concatenate([np.flatnonzero(keep), without]))))


def _copies(lessons: pa.Table, data: Dataset, number: int, seed: int) -> pa.Table:
    """Copies of the lessons under invented names and, where answers can follow, other figures."""
    copies = invented.copies(lessons, data.task, number=number, seed=seed)
    kinds = ("amounts", "years", "days")
    changed = variations.varied(copies, data.task, 1.0, seed, kinds=kinds)
    replaced = {id.removesuffix("~v") for id in changed["id"].to_pylist()}
    kept = [id not in replaced for id in copies["id"].to_pylist()]
    return pa.concat_tables([changed, copies.filter(pa.array(kept, pa.bool_()))])
