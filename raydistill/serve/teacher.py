"""The teacher, asked online: one sentence a request, under the release's own safety rules."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill.endpoint import Endpoint
from raydistill.errors import AnswerError, DataError, RaydistillError, SetupError
from raydistill.lessons.teacher_answer import canonical
from raydistill.pipeline import Decision, Guard, numbered
from raydistill.serve.answerers import where
from raydistill.serve.problems import busy
from raydistill.stages import filters
from raydistill.task import Task


@dataclass(kw_only=True, slots=True)
class TeacherConfig:
    """The teacher's endpoint; without a `url` there is none, and the student answers alone.

    `key_env` names the environment variable that holds its key.
    """

    url: str | None = None
    model: str = "teacher"
    key_env: str | None = None
    concurrency: int = 32
    waiting: int = 256
    timeout_s: float = 20.0
    tries: int = 2
    max_output: int = 1024
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.waiting < 1 or self.tries < 1 or self.timeout_s <= 0:
            raise SetupError(
                f"teacher: concurrency={self.concurrency}, waiting={self.waiting},"
                f" tries={self.tries}, timeout_s={self.timeout_s}",
                expected="at least 1 each, and timeout_s above 0",
            )


class Teacher:
    """Answers in the shape of the student's decisions; `folders` say which rules protect a task."""

    def __init__(self, config: TeacherConfig, folders: dict[str, str], *, key: str | None) -> None:
        if config.url is None:
            raise SetupError("no teacher", todo="set teacher.url=")
        self.config = config
        self.endpoint = Endpoint(
            url=config.url,
            model=config.model,
            key=key,
            timeout_s=config.timeout_s,
            tries=config.tries,
            first_wait_s=0.2,
            most_wait_s=2.0,
            longest_ask_s=5.0,
            max_output=config.max_output,
            extra=config.extra,
        )
        self.guard = Guard()
        self.folders = folders
        self.places = asyncio.Semaphore(config.concurrency)
        self.waiting = 0
        self._open = False
        self._known: dict[str, tuple[tuple[str, int], filters.Filters]] = {}

    async def __call__(self, task: Task, texts: Sequence[str]) -> list[Decision]:
        """The teacher's answer to each text.

        A text that the guard or the release's filters refuse is not sent, and an answer that cannot
        be read is an error of its row. Raises Problem 503 where the teacher does not answer.
        """
        if self.waiting + len(texts) > self.config.waiting:
            raise busy(f"{self.waiting} sentences wait for the teacher")
        if not self._open:
            self._open = True
            await self.endpoint.__aenter__()
        table = self._rules(task.name)(self.guard(numbered(texts)))
        rows = zip(table["text"].to_pylist(), table["error"].to_pylist(), strict=True)
        self.waiting += len(texts)
        try:
            return list(await asyncio.gather(*(self._one(task, *row) for row in rows)))
        finally:
            self.waiting -= len(texts)

    def _rules(self, task: str) -> filters.Filters:
        """The filters of the task's release, read again when that is another."""
        place = where(Path(self.folders[task]))
        if task not in self._known or self._known[task][0] != place:
            self._known[task] = (place, filters.of(Path(place[0])))
        return self._known[task][1]

    async def _one(self, task: Task, text: str | None, error: str | None) -> Decision:
        if text is None:
            return Decision("error", error=error or "no_text")
        try:
            async with self.places:
                message = {"role": "user", "content": task.prompt(text)}
                reply = await self.endpoint.ask([message])
            answer = canonical(reply.text, task, text)
        except AnswerError as problem:
            return Decision("teacher", error=problem.code)
        except (DataError, SetupError) as problem:
            raise busy(
                f"the teacher does not answer: {_short(problem)}",
                code="teacher_unavailable", retry_after_s=5,
            ) from None  # fmt: skip
        spans = json.dumps(answer.offsets)
        return Decision("teacher", answer=task.render(answer), spans=spans)

    async def close(self) -> None:
        """Closes its connections."""
        if self._open:
            await self.endpoint.__aexit__(None, None, None)


def _short(problem: RaydistillError) -> str:
    """What to tell a user: a code, not the endpoint's address or its words."""
    return problem.code if isinstance(problem, DataError) else "wrong setup"
