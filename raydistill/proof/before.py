"""The stages before a release's extractor, as they stand in its folder while it is made.

What each of them may drop is chosen on validation; here the glance is made, where it is of use, and
the score from which on the skip classifier is not asked.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill import glancing, keywords
from raydistill.pipeline import Stage, looking
from raydistill.stages.glance import FILE, Glance
from raydistill.stages.prefilter import Prefilter
from raydistill.stages.skip import Skip


@dataclass(frozen=True, slots=True)
class Before:
    """Prefilter, glance and skip of a release's folder; `thresholds` are the release's, filled up
    here as they are chosen."""

    folder: Path
    thresholds: dict[str, float]
    max_input: int
    threads: int

    def stages(self) -> dict[str, Stage]:
        """What comes before the classifier, in order."""
        made: dict[str, Stage] = {
            "prefilter": Prefilter(keywords.read(self.folder / "keywords.txt"))
        }
        if "glance" in self.thresholds:
            made["glance"] = looking(self.folder, self.thresholds)
        return made

    def skip(self) -> Skip:
        """The classifier."""
        return Skip(
            self.folder / "skip",
            threshold=self.thresholds["skip"],
            threads=self.threads,
            max_input=self.max_input,
        )

    def look(
        self, train: pa.Table, val: pa.Table, *, recall: float | None, shown: float
    ) -> dict[str, Any]:
        """Writes the glance where it is of use; what validation says of it, or why there is none.

        `recall` is asked of it, `shown` is the lower bound that validation must show.
        """
        if recall is None:
            return {"left_out": "not asked for"}
        prefilter = self.stages()["prefilter"]
        train, val = (prefilter(one.select(["text", "keep"])) for one in (train, val))
        found = glancing.learned(train, val, recall=recall)
        reason = found.left_out(shown) if found else "candidates of one kind alone"
        told = found.told() if found else {}
        if found is None or reason:
            print(f"no glance: {f'it {found}: ' if found else ''}{reason}")
            return {"left_out": reason, **{n: told[n] for n in told if n != "threshold"}}
        print(f"glance: {found}")
        found.glance.save(self.folder / FILE)
        self.thresholds["glance"] = told["threshold"]
        return told

    def spare(self, val: pa.Table, *, shown: float | None) -> dict[str, Any]:
        """From which score on the glance is so sure that the classifier is not asked.

        Of what is then spared it, the classifier would keep `shown` (lower bound); nothing is where
        there is no glance, or validation does not show as much.
        """
        if shown is None or "glance" not in self.thresholds:
            return {}
        rows, stages = val.select(["text"]), self.stages()
        for stage in stages.values():
            rows = stage(rows)
        skip = self.skip()
        kept = np.asarray(skip.keep(skip.scored(rows)))
        glance = stages["glance"]
        assert isinstance(glance, Glance)
        scores = glance.scores(rows["text"])
        found = glancing.sure(scores, kept, shown=shown, least=_odds(self.thresholds["skip"]))
        if found is None:
            return {}
        print(f"glance: {found}")
        self.thresholds["sure"] = found.threshold
        return found.told()


def _odds(threshold: float) -> float:
    """A probability in log-odds; one that saturated (0, 1 and what rounding adds) has no end."""
    if not 0 < threshold < 1:
        return math.inf if threshold >= 1 else -math.inf
    return math.log(threshold / (1 - threshold))
