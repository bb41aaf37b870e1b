"""A whole filing as a stream of lines: its text, each sentence's decision, and a last line."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from raydistill.pipeline import Decision
from raydistill.serve.limits import Limits
from raydistill.serve.problems import Problem, busy
from raydistill.serve.rollout import Mode
from raydistill.serve.service import Answered, Service, confidence
from raydistill.serve.student import Split
from raydistill.task import Task

_TAUGHT = 16  # sentences at once where a teacher answers: it takes them one by one


def result(task: Task, index: int, row: Decision) -> dict[str, Any]:
    """A decision as the interface tells it."""
    value = json.loads(row.answer) if row.answer is not None else {}
    records = [value] if task.single and value else value.get(task.key, [])
    return {
        "index": index,
        "decision": row.decision,
        "by": "teacher" if row.decision == "teacher" else "student",
        "skip_score": _rounded(row.skip_score),
        "confidence": _rounded(confidence(row)),
        "error": row.error,
        "records": records,
        "spans": json.loads(row.spans) if row.spans is not None else [],
    }


def _rounded(value: float | None) -> float | None:
    """To the digits that a probability of an int8 student holds, whatever is asked beside it."""
    return None if value is None else round(value, 3)


@dataclass(slots=True)
class Reading:
    """A filing on its way: `lines()` are what is sent."""

    service: Service
    limits: Limits
    task: Task
    split: Split
    key: str
    request_id: str
    only_records: bool
    began: float
    first: Answered | None = None

    async def start(self) -> None:
        """The first sentences' decisions, before anything is sent. Raises Problem."""
        if self.split.spans:
            self.first = await self._answer(self._piece(0))

    def _step(self) -> int:
        taught = self.service.rollout.state.mode in (Mode.teacher_only, Mode.shadow, Mode.canary)
        return _TAUGHT if taught else self.limits.filing_chunk

    def _piece(self, at: int) -> list[tuple[int, int]]:
        return self.split.spans[at : at + self._step()]

    async def _answer(self, spans: list[tuple[int, int]]) -> Answered:
        """Waits while the service is busy: a filing takes the time that is left over."""
        text = self.split.filing.text
        texts = [text[start:end] for start, end in spans]
        wait = 0.05
        while True:
            left = self.limits.filing_s - (time.perf_counter() - self.began)
            if left <= 0:
                raise busy(f"not read within {self.limits.filing_s:g} s", code="timeout")
            try:
                work = self.service.answer(
                    self.task.name, texts, key=self.key, request_id=self.request_id
                )
                return await asyncio.wait_for(work, left)
            except (TimeoutError, asyncio.TimeoutError):
                continue  # nothing is left: the next turn says so
            except Problem as problem:
                if problem.code != "busy" or wait > left:
                    raise
                await asyncio.sleep(wait)
                wait *= 2

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """The NDJSON lines; a problem on the way is the last one."""
        try:
            async for line in self._lines():
                yield line
        except Problem as problem:
            yield _line({"kind": "problem", **problem.body(self.request_id)})

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        filing, spans = self.split.filing, self.split.spans
        release = self.first or Answered(self.service.releases[self.task.name].name, "", [])
        yield _line(
            {
                "kind": "filing", "request_id": self.request_id, "release": release.release,
                "mode": release.mode or self.service.rollout.state.mode.value,
                "filing_id": filing.filing_id, "company": filing.company, "cik": filing.cik,
                "form": filing.form, "filed_at": filing.filed_at and filing.filed_at.isoformat(),
                "sentences": len(spans), "text": filing.text,
            }
        )  # fmt: skip
        decisions: Counter[str] = Counter()
        records, at = 0, 0
        answered = self.first
        while at < len(spans):
            if answered is None:
                answered = await self._answer(self._piece(at))
            out: list[bytes] = []
            for row in answered.decisions:
                start, end = spans[at]
                one = {"kind": "sentence", **result(self.task, at, row)}
                decisions[row.decision] += 1
                records += len(one["records"])
                at += 1
                if one["records"] or not self.only_records:
                    out.append(_line(one | {"start": start, "end": end}))
            answered = None
            yield b"".join(out)
        yield _line(
            {
                "kind": "end", "sentences": len(spans), "records": records,
                "decisions": dict(decisions),
                "latency_ms": round(1000 * (time.perf_counter() - self.began), 3),
            }
        )  # fmt: skip


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class Streamed(StreamingResponse):
    """A stream that gives its place back when it ends, however it ends."""

    def __init__(self, lines: AsyncGenerator[bytes, None], leave: Callable[[], None]) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self.leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.leave()
