"""Extract: the student's answer for each sentence that is left."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from raydistill import engine
from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.target import decoded
from raydistill.task import Task
from raydistill.tokenizer import Tokenizer


class Extract:
    """Adds `answer` (JSON), `spans` (JSON offsets by record and field), `score` and `error`.

    `score` is the log-probability of the whole answer. A row that cannot be answered gets an error
    code instead of an answer; rows without text pass as they are.
    """

    def __init__(
        self,
        folder: Path,
        task: Task,
        *,
        target: str,
        threads: int,
        max_input: int,
        max_output: int,
    ) -> None:
        self.task, self.max_input = task, max_input
        self.tokenizer = Tokenizer.load(folder)
        self.target = task.target(
            target,
            positions=max_input,
            spell=self.tokenizer.spell,
            unspell=self.tokenizer.unspell,
        )
        self.generator = engine.Generator(
            folder, threads=threads, max_input=max_input, max_output=max_output
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The same rows, answered."""
        texts = batch.column("text").to_pylist()
        errors: list[str | None] = batch.column("error").to_pylist()
        answers: list[str | None] = [None] * len(texts)
        spans: list[str | None] = [None] * len(texts)
        scores: list[float | None] = [None] * len(texts)
        rows = [at for at, text in enumerate(texts) if text is not None]
        for at, (answer, score) in zip(rows, self.answers([texts[at] for at in rows]), strict=True):
            scores[at] = score
            if isinstance(answer, AnswerError):
                errors[at] = answer.code
            else:
                answers[at] = self.task.render(answer)
                spans[at] = json.dumps(answer.offsets)
        place = batch.schema.get_field_index("error")
        table = batch.set_column(place, "error", pa.array(errors, pa.string()))
        table = table.append_column("answer", pa.array(answers, pa.string()))
        table = table.append_column("spans", pa.array(spans, pa.string()))
        return table.append_column("score", pa.array(scores, pa.float32()))

    def answers(self, texts: Sequence[str]) -> list[tuple[Answer | AnswerError, float | None]]:
        """Each sentence's answer, or the error in its place, and its log-probability."""
        encoded = self.tokenizer.encode(texts)
        fitting = [one for one in encoded if len(one.ids) < self.max_input]
        generated = iter(self.generator(fitting))
        out: list[tuple[Answer | AnswerError, float | None]] = []
        for one in encoded:
            if len(one.ids) >= self.max_input:
                too_long = f"{len(one.ids)} tokens, limit {self.max_input - 1}"
                out.append((AnswerError("too_many_tokens", too_long), None))
                continue
            made = next(generated)
            out.append((decoded(self.target, made.tokens, one.source), made.score))
        return out
