"""Extract: the student's answer for each sentence that is left."""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from raydistill import engine
from raydistill.answer import Answer
from raydistill.calibration import Calibration
from raydistill.errors import AnswerError
from raydistill.frame import POINTER, Frame, of_folder
from raydistill.readers import Pointers
from raydistill.target import decoded
from raydistill.task import Task
from raydistill.tokenizer import Encoded, Tokenizer

TRIES = 8  # outputs of a sentence whose first is no answer


class Said(NamedTuple):
    """A student's answer or the error in its place, its log-probability and its output tokens.

    `again` says that the first output was no answer, and this is the likeliest that is one.
    """

    answer: Answer | AnswerError
    score: float | None
    tokens: int
    again: bool = False

    def differs(self, master: Answer | AnswerError) -> bool:
        """Whether the first output is another than the master's, which writes no second."""
        if self.again:
            return not isinstance(master, AnswerError)
        return str(self.answer) != str(master)


class Extract:
    """Adds `answer` (JSON), `spans` (JSON offsets by record and field), `score`, `error` and
    `agreement_probability`.

    `score` is the log-probability of the whole answer; calibrated, it is the probability that the
    teacher would give the same (null where the release says nothing of it). Where a student's first
    output (each token the likeliest) is no answer, the likeliest of TRIES that is one counts
    (`tries` is 1 where the first is wanted in any case). A row that cannot be answered gets an
    error code instead of an answer; rows without text pass as they are.
    """

    tries = TRIES

    def __init__(
        self,
        folder: Path,
        task: Task,
        *,
        target: str,
        threads: int,
        max_input: int,
        max_output: int,
        calibration: Calibration | None = None,
    ) -> None:
        self.calibration = calibration
        self.tokenizer = Tokenizer.load(folder)
        self.kind, self.max_input, self.frame = target, max_input, of_folder(folder)
        self.generator: engine.Generator | Pointers
        if self.frame.kind == POINTER:
            self.generator = Pointers(folder, threads=threads, max_input=max_input)
        else:
            self.generator = engine.Generator(
                folder, threads=threads, max_input=max_input, max_output=max_output
            )
        self._ask(task, self.frame)

    def _ask(self, task: Task, frame: Frame) -> None:
        self.task, self.frame, self.limit = task, frame, self.max_input - frame.width
        self.target = task.target(
            self.kind,
            positions=self.max_input if frame.positions is None else frame.positions,
            spell=self.tokenizer.spell,
            unspell=self.tokenizer.unspell,
        )
        if isinstance(self.generator, Pointers):
            self.generator = self.generator.asked(task.name, self.target)

    def asking(self, task: Task, frame: Frame) -> "Extract":
        """A stage for another task of the same student, which shares this one's engine."""
        other = copy.copy(self)
        other._ask(task, frame)
        return other

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The same rows, answered."""
        return answered(batch, self.task, self.answers, self.calibration)

    def answers(self, texts: Sequence[str]) -> list[Said]:
        """What the student says of each sentence, in order."""
        encoded = self.tokenizer.encode(texts)
        fitting = [one for one in encoded if len(one.ids) <= self.limit]
        generated = iter(self._said(fitting))
        out: list[Said] = []
        for one in encoded:
            if len(one.ids) > self.limit:
                too_long = f"{len(one.ids)} tokens, limit {self.limit}"
                out.append(Said(AnswerError("too_many_tokens", too_long), None, 0))
            else:
                out.append(next(generated))
        return out

    def _said(self, encoded: list[Encoded]) -> list[Said]:
        """What the student says of sentences that fit."""
        made = self.generator(encoded, self.frame)
        said = [self._decoded(text, one) for text, one in zip(encoded, made, strict=True)]
        failed = [at for at, one in enumerate(said) if isinstance(one.answer, AnswerError)]
        if self.tries > 1 and failed:
            some = [encoded[at] for at in failed]
            others = self.generator.alternatives(some, self.tries, self.frame)
            for at, outputs in zip(failed, others, strict=True):
                tried = (self._decoded(encoded[at], output) for output in outputs)
                answers = (one for one in tried if isinstance(one.answer, Answer))
                said[at] = next((one._replace(again=True) for one in answers), said[at])
        return said

    def _decoded(self, encoded: Encoded, made: engine.Generated) -> Said:
        answer = decoded(self.target, made.tokens, encoded.source)
        return Said(answer, made.score, len(made.tokens))


def answered(
    batch: pa.Table,
    task: Task,
    answers: Callable[[list[str]], list[Said]],
    calibration: Calibration | None,
) -> pa.Table:
    """The rows of a batch with the columns that Extract adds; `answers` is asked about texts."""
    texts = batch.column("text").to_pylist()
    errors: list[str | None] = batch.column("error").to_pylist()
    values: list[str | None] = [None] * len(texts)
    spans: list[str | None] = [None] * len(texts)
    scores: list[float | None] = [None] * len(texts)
    likely: list[float | None] = [None] * len(texts)
    rows = [at for at, text in enumerate(texts) if text is not None]
    said = answers([texts[at] for at in rows])
    for at, one, chance in zip(rows, said, _likely(said, calibration), strict=True):
        scores[at] = one.score
        if isinstance(one.answer, AnswerError):
            errors[at] = one.answer.code
        else:
            values[at] = task.render(one.answer)
            spans[at] = json.dumps(one.answer.offsets)
            likely[at] = chance
    place = batch.schema.get_field_index("error")
    table = batch.set_column(place, "error", pa.array(errors, pa.string()))
    table = table.append_column("answer", pa.array(values, pa.string()))
    table = table.append_column("spans", pa.array(spans, pa.string()))
    table = table.append_column("score", pa.array(scores, pa.float32()))
    return table.append_column("agreement_probability", pa.array(likely, pa.float32()))


def _likely(said: Sequence[Said], calibration: Calibration | None) -> list[float | None]:
    if calibration is None or not said:
        return [None] * len(said)
    scores = np.array([np.nan if one.score is None else one.score for one in said])
    found = calibration.probability(scores, [one.tokens for one in said]).tolist()
    return [None if one.score is None else p for one, p in zip(said, found, strict=True)]
