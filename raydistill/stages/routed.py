"""Routed: several extractors in the place of one, each asked about the sentences of its classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from raydistill.calibration import Calibration
from raydistill.errors import SetupError
from raydistill.readers import SkipScorer
from raydistill.specialists import Specialists
from raydistill.stages.extract import Extract, Said, answered
from raydistill.task import Task
from raydistill.tokenizer import Tokenizer

ROUTE = "route"  # the threshold of a second specialist, beside `skip` in a release's manifest


def place(name: str) -> str:
    """Where a release holds a specialist, and the name of its shape in the manifest."""
    return f"specialists/{name}"


class Routed:
    """Adds what Extract adds: the answers of each sentence's specialists, joined to one.

    The skip classifier in `folder` says who is asked. It reads what it kept once more, each
    sentence by itself: so the route depends on nothing but the sentence, whether the stage before
    ran in this process or elsewhere. An answer's `score` is the sum of those that it is made of.
    """

    def __init__(
        self,
        folder: Path,
        task: Task,
        specialists: Specialists,
        *,
        shapes: Mapping[str, Any],
        threshold: float,
        threads: int,
        calibration: Calibration | None = None,
    ) -> None:
        self.task, self.specialists, self.threshold = task, specialists, threshold
        self.calibration = calibration
        self.tokenizer = Tokenizer.load(folder / "skip")
        self.router = SkipScorer(
            folder / "skip",
            threads=threads,
            max_input=shapes["skip"]["max_input"],
            threshold=threshold,
        )
        if self.router.classes != len(specialists.names) + 1:
            raise SetupError(
                f"{folder}/skip tells {self.router.classes} classes apart",
                expected=f"nothing, and one for each of {', '.join(specialists.names)}",
                todo="publish again",
            )
        self.stages = {
            name: _extract(folder / place(name), task, shapes[place(name)], threads)
            for name in specialists.names
        }

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The same rows, answered."""
        return answered(batch, self.task, self.answers, self.calibration)

    def routes(self, texts: Sequence[str]) -> list[list[str]]:
        """The specialists that are asked about each sentence."""
        shares = self.router.shares(self.tokenizer.batch_ids(texts))
        return self.specialists.routes(shares, self.threshold)

    def answers(self, texts: Sequence[str]) -> list[Said]:
        """What the students say of each sentence, in order."""
        ask = {name: stage.answers for name, stage in self.stages.items()}
        return [self._joined(one) for one in self.specialists.said(texts, self.routes(texts), ask)]

    def _joined(self, said: Mapping[str, Said]) -> Said:
        answer = self.specialists.joined({name: one.answer for name, one in said.items()})
        scores = [one.score for one in said.values() if one.score is not None]
        score = sum(scores) if len(scores) == len(said) else None
        again = any(one.again for one in said.values())
        return Said(answer, score, sum(one.tokens for one in said.values()), again)


def _extract(
    folder: Path,
    task: Task,
    shape: Mapping[str, Any],
    threads: int,
    calibration: Calibration | None = None,
) -> Extract:
    return Extract(
        folder,
        task,
        target=shape["target"],
        threads=threads,
        max_input=shape["max_input"],
        max_output=shape["max_output"],
        calibration=calibration,
    )


def extractor(
    folder: Path,
    task: Task,
    *,
    shapes: Mapping[str, Any],
    thresholds: Mapping[str, float],
    specialists: Mapping[str, Sequence[str]] | None,
    threads: int,
    calibration: Calibration | None = None,
) -> Extract | Routed:
    """The last stage of a release's folder: of one student, or of its specialists."""
    if not specialists:
        return _extract(folder / "extractor", task, shapes["extractor"], threads, calibration)
    return Routed(
        folder,
        task,
        Specialists.of(task, specialists),
        shapes=shapes,
        threshold=thresholds[ROUTE],
        threads=threads,
        calibration=calibration,
    )
