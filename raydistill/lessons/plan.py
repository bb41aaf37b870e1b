"""The plan of a build: what every step needs to know, and where its files lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raydistill.dataset import SPLITS, split_of
from raydistill.lessons.corrections import Corrections

BOILERPLATE, HARD, EASY, EVENT = 0, 1, 2, 3
ROW_SALT, TEXT_SALT, SAMPLE_SALT = 0, 101, 102  # so that no choice depends on another


@dataclass(frozen=True, slots=True)
class Splits:
    """Where a row goes: by its company, or by its date."""

    seed: int
    val: float
    test: float
    holdout: frozenset[str] | None = None
    after: Any = None  # a date: rows from then on are test

    def of(self, groups: list[str], days: list[Any]) -> npt.NDArray[np.int8]:
        """For each row the number of its split in SPLITS; -1 where a date is needed and missing."""
        place: dict[str, int] = {}
        for group in set(groups):
            place[group] = self._of_company(group)
        where = np.array([place[group] for group in groups], np.int8)
        if self.after is not None:
            late = np.array([d is not None and d >= self.after for d in days], np.bool_)
            where[late] = SPLITS.index("test")
            where[np.array([d is None for d in days], np.bool_)] = -1
        return where

    def _of_company(self, group: str) -> int:
        if self.holdout is not None and group in self.holdout:
            return SPLITS.index("test")
        test = 0.0 if self.holdout is not None or self.after is not None else self.test
        return SPLITS.index(split_of(group, seed=self.seed, val=self.val, test=test))


@dataclass(frozen=True, slots=True)
class Plan:
    """What every step needs to know."""

    work: str
    task: str
    splits: Splits
    seed: int
    buckets: int
    floor: int
    repeats: int
    merge: Mapping[str, str] = field(default_factory=dict)
    corrections: Corrections = field(default_factory=Corrections)
    variations: float = 0.0  # share of train rows that get a varied copy
    near: float = 0.8  # share of three-word runs that makes two texts near-duplicates

    def folder(self, name: str) -> Path:
        """A folder under the work folder, made where it is missing."""
        made = Path(self.work) / name
        made.mkdir(parents=True, exist_ok=True)
        return made

    def files(self, name: str) -> list[Path]:
        """The spilled files of a folder, in the order of their parts."""
        return sorted(self.folder(name).glob("*.arrow"))


def bucket_file(plan: Plan, name: str, bucket: int) -> Path:
    """The file of a bucket in a folder."""
    return plan.folder(name) / f"{bucket:06}.arrow"


def shares(wanted: int, hard: float, boilerplate: float, have: Mapping[int, int]) -> dict[int, int]:
    """How many negatives of each kind: the stated shares; what one kind lacks, others fill."""
    each = {BOILERPLATE: int(wanted * boilerplate), HARD: int(wanted * hard)}
    each[EASY] = wanted - sum(each.values())
    take = {kind: min(have[kind], count) for kind, count in each.items()}
    for kind in (EASY, HARD, BOILERPLATE):
        lack = wanted - sum(take.values())
        take[kind] += min(lack, have[kind] - take[kind])
    return take
