"""Taught: which rows of a dataset an extractor learns from, and their copies under other names."""

import numpy as np
import pyarrow as pa

from raydistill.dataset import Dataset
from raydistill.lessons import invented, joins, variations


def taught(
    data: Dataset, *, negatives: float, copies: int, joined: float = 0.0, seed: int
) -> pa.Table:
    """All rows with an event, `negatives` without for each, and `copies` under invented names.

    `joined` is the share of all these that are said once more, two or three in one sentence.
    """
    lessons = chosen(data.table("train"), negatives)
    if copies:
        lessons = pa.concat_tables([lessons, _copies(lessons, data, copies, seed)])
    if joined and not data.task.single:
        more = joins.joined(lessons, data.task, share=joined, seed=seed)
        lessons = pa.concat_tables([lessons, more])
    return lessons


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
