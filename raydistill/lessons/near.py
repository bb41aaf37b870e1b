"""The search for near-duplicates over all chosen rows of a build, and the proof that none straddle.

Test rows come first, then val, then train: what is near a row of another split leaves train.
"""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raydistill.dataset import SPLITS
from raydistill.errors import SetupError
from raydistill.lessons import dedup
from raydistill.lessons.apart import HeldOut
from raydistill.lessons.plan import Plan
from raydistill.lessons.steps import Chosen


@dataclass(slots=True)
class Search:
    """The first row of each bucket, and what was found."""

    starts: list[int]
    counts: Counter[str]


def search(plan: Plan, chosen: list[Chosen], *, within: bool) -> Search:
    """Writes near.npy (for each row the earlier one it is near to, or -1) and disputed.npy.

    For a plan with variations, also what these have to keep away from (HeldOut).
    Raises SetupError if near-duplicates of two splits are left.
    """
    threshold = plan.near
    sizes = [len(one.share) for one in chosen]
    starts = [0, *np.cumsum(sizes).tolist()]
    total = starts.pop()
    share = np.concatenate([one.share for one in chosen])
    split = np.concatenate([one.split for one in chosen])
    keep = np.concatenate([one.keep for one in chosen])
    for one in chosen:
        one.share = one.share[:0]
    first = np.full(len(SPLITS), len(SPLITS), np.int8)
    for at, name in enumerate(("test", "val", "train")):
        first[SPLITS.index(name)] = at
    priority = np.lexsort((share, first[split]))
    del share
    signature = _signatures(plan, total)
    bands = _Bands(plan)
    near = dedup.near(bands, signature, priority, split, threshold=threshold, within=within)
    left = priority[near[priority] < 0]
    straddling = dedup.straddling(bands, signature, left, split, threshold=threshold)
    late = {other: one for one, other in sorted(straddling)}
    for other, one in late.items():
        near[other] = one
    left = left[near[left] < 0]
    still = dedup.straddling(bands, signature, left, split, threshold=threshold)
    if still:
        raise SetupError(
            f"{len(still)} pairs of near-duplicates stand in two splits",
            expected="none, after those of train were dropped",
            todo="this is a bug of the search: build with another seed, and report it",
        )
    if plan.variations:
        held = left[split[left] != SPLITS.index("train")]
        theirs = np.stack([bands(band)[held] for band in range(dedup.BANDS)])
        HeldOut(signature[held], theirs).write(Path(plan.work))
    at = np.flatnonzero(near >= 0)
    across = split[at] != split[near[at]]
    disputed = at[keep[at] != keep[near[at]]]
    np.save(f"{plan.work}/near.npy", near)
    np.save(f"{plan.work}/disputed.npy", np.unique(np.r_[disputed, near[disputed]]))
    counts = Counter(
        near_duplicates=int((~across).sum()),
        near_straddling=int(across.sum()),
        near_disputed=len(disputed),
    )
    return Search(starts, counts)


class _Bands:
    """A band's hashes of every row, from the files that Choose wrote."""

    def __init__(self, plan: Plan) -> None:
        self.files = sorted(plan.folder("bands").glob("*.npy"))

    def __call__(self, band: int) -> npt.NDArray[np.uint64]:
        return np.concatenate([np.load(file, mmap_mode="r")[band] for file in self.files])


def _signatures(plan: Plan, total: int) -> Any:
    """All signatures as one mapped array: read where pairs are compared, held by the page cache."""
    file = Path(plan.work) / "signatures.bin"
    with file.open("wb") as out:
        for each in sorted(plan.folder("signatures").glob("*.npy")):
            np.load(each).tofile(out)
    shutil.rmtree(plan.folder("signatures"))
    if not total:
        return np.empty((0, dedup.PLACES), np.uint8)
    return np.memmap(file, np.uint8, "r", shape=(total, dedup.PLACES))
