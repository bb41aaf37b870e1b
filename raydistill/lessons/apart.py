"""Apart: lessons that are made, and not found, keep away from what a student is judged on.

A varied copy of a training sentence, or two sentences in one, can come out as a sentence of
validation or test, or as nearly that. Such a lesson is told by the measure that keeps found
sentences apart, and dropped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raydistill.lessons import dedup
from raydistill.lessons.dedup import Bools, Bytes, Keys

NEAR = 0.8
_MOST = 2000  # sentences of one band that a lesson is compared with: more are one template's
_FILE = "held_out.{}.npy"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Signatures (rows x PLACES) and bands (BANDS x rows) of validation and test sentences."""

    signature: Bytes
    bands: Keys

    @classmethod
    def of(cls, texts: Iterable[str]) -> "HeldOut":
        """The held-out sentences themselves; 50 µs each."""
        return cls(*dedup.signatures(list(texts)))

    @classmethod
    def read(cls, folder: Path) -> "HeldOut":
        """What `write` left in a folder, mapped."""
        parts = (np.load(folder / _FILE.format(name), "r") for name in ("signature", "bands"))
        return cls(*parts)

    def write(self, folder: Path) -> None:
        """Keeps the signatures in a folder for other processes."""
        np.save(folder / _FILE.format("signature"), self.signature)
        np.save(folder / _FILE.format("bands"), self.bands)

    def like(self, texts: Sequence[str], threshold: float = NEAR) -> Bools:
        """Which texts are equal to one of these, case and spacing apart, or nearly (0..1: 1 is all
        runs of three words in common)."""
        signature, bands = dedup.signatures(texts)
        hit = np.zeros(len(texts), np.bool_)
        for mine, theirs in zip(bands, self.bands, strict=True):
            order = np.argsort(theirs, kind="stable")
            values = theirs[order]
            first = np.searchsorted(values, mine)
            count = np.minimum(np.searchsorted(values, mine, side="right") - first, _MOST)
            for step in range(int(count.max(initial=0))):
                rows = np.flatnonzero((count > step) & ~hit)
                if not len(rows):
                    break
                other = order[first[rows] + step]
                near = dedup.similarity(signature[rows], self.signature[other]) >= threshold
                hit[rows[near]] = True
        return hit
