"""A live teacher: a large model behind an endpoint, asked about rows as they are compared.

Its answers come back in the rows' own order; one that cannot be had or read is a code, not an
answer. Seconds and tokens are counted, for the cost of asking it for ever.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from raydistill.endpoint import Endpoint, EndpointConfig, opened
from raydistill.errors import AnswerError, DataError
from raydistill.lessons.teacher_answer import canonical
from raydistill.proof.cost import Asked
from raydistill.proof.drawn import ROWS
from raydistill.task import Task


@dataclass(slots=True)
class LiveTeacher:
    """Rows without answers to rows with them; holds what asking took so far."""

    config: EndpointConfig
    task: Task
    key: str | None = field(default=None, repr=False)
    seconds: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    questions: int = 0

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The same rows (drawn.ROWS) with `answer`, or `code` where there is none.

        Raises SetupError where the endpoint answers nobody.
        """
        began = time.perf_counter()
        said = asyncio.run(self._all(rows["text"].to_pylist()))
        self.seconds += time.perf_counter() - began
        answers, codes = zip(*said, strict=True) if said else ((), ())
        columns = [rows["id"], rows["group"], rows["text"]]
        made = [pa.array(list(one), pa.string()) for one in (answers, codes)]
        return pa.table([*columns, *made], schema=ROWS)

    @property
    def asked(self) -> Asked | None:
        """Means over the questions that were answered; None before the first."""
        if not self.questions:
            return None
        return Asked(
            self.input_tokens / self.questions,
            self.output_tokens / self.questions,
            self.seconds / self.questions,
        )

    async def _all(self, texts: Sequence[str]) -> list[tuple[str | None, str | None]]:
        gate = asyncio.Semaphore(self.config.concurrency)
        async with opened(self.config, self.key) as endpoint:
            asking = [asyncio.create_task(self._one(endpoint, gate, text)) for text in texts]
            try:
                return await asyncio.gather(*asking)
            finally:
                for one in asking:
                    one.cancel()
                await asyncio.gather(*asking, return_exceptions=True)

    async def _one(
        self, endpoint: Endpoint, gate: asyncio.Semaphore, text: str
    ) -> tuple[str | None, str | None]:
        async with gate:
            try:
                message = {"role": "user", "content": self.task.prompt(text)}
                reply = await endpoint.ask([message], tokens=len(message["content"]) // 4)
            except DataError as problem:
                return None, problem.code
        self.questions += 1
        self.input_tokens += reply.input_tokens
        self.output_tokens += reply.output_tokens
        try:
            return self.task.render(canonical(reply.text, self.task, text)), None
        except AnswerError as problem:
            return None, problem.code
