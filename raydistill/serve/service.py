"""The service: who answers a sentence by the rollout's mode, and what is compared beside it."""

import asyncio
import json
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from raydistill.answer import Answer
from raydistill.errors import AnswerError, SetupError
from raydistill.pipeline import Decision
from raydistill.release import Release
from raydistill.serve.metrics import Metrics
from raydistill.serve.mirror import Comparison, Mirror, Traffic, now
from raydistill.serve.problems import Problem, busy
from raydistill.serve.rollout import SEEN, Gate, Mode, Rollout, State, dice, sticky
from raydistill.serve.student import Student
from raydistill.serve.teacher import Teacher
from raydistill.task import Task

log = logging.getLogger("raydistill.serve")
_REFUSED = ("too_long", "nul_byte", "denied", "no_text")  # by the guard: no teacher would see them
_SIDE = 256  # requests that may be compared at once; more are dropped and counted


@dataclass(frozen=True, slots=True)
class Answered:
    """A request's decisions in order, the release and the mode they were made in."""

    release: str
    mode: str
    decisions: list[Decision]


@dataclass(slots=True, kw_only=True)
class Service:
    """Answers texts. `releases` are what it began with: a student may have swapped them since."""

    student: Student
    releases: dict[str, Release]
    rollout: Rollout
    mirror: Mirror
    metrics: Metrics
    teacher: Teacher | None = None
    roll: Callable[[], float] = field(default_factory=dice)
    process: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    _gate: Gate = field(init=False)
    _since: str = field(init=False, default="")
    _side: "set[asyncio.Task[None]]" = field(init=False, default_factory=set)
    _traffic: dict[tuple[str, str, str], Traffic] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._gate = Gate(self.rollout.config)
        self.allowed(self.rollout.state.mode)

    def allowed(self, mode: Mode) -> None:
        """SetupError where a mode needs a teacher and there is none."""
        if self.teacher is None and mode is not Mode.student_only:
            raise SetupError(
                f"rollout.mode={mode.value} without a teacher",
                expected="student_only, or an endpoint to ask",
                todo="set teacher.url=",
            )

    def task(self, name: str) -> Task:
        """A task that is served. Raises Problem 404."""
        if name not in self.releases:
            known = ", ".join(sorted(self.releases))
            raise Problem(404, "no_such_task", f"no release for the task {name!r}: {known}")
        return self.releases[name].task_named(name)

    async def answer(
        self, task: str, texts: Sequence[str], *, key: str, request_id: str
    ) -> Answered:
        """The decision for each text by whom the mode says. Raises Problem 503."""
        state = self.rollout.state
        if state.since != self._since:
            self._since = state.since
            self._gate.clear()
        began = time.perf_counter()
        asked = _Asked(self.task(task), list(texts), request_id, state)
        if state.mode in (Mode.teacher_only, Mode.shadow):
            made = await self._by_teacher(asked)
        elif state.mode is Mode.canary and sticky(key) >= state.share:
            made = await self._by_teacher(asked, mirrored=False)
        elif state.mode is Mode.student_first:
            made = await self._student_first(asked)
        else:
            made = await self._by_student(asked)
        self._count(asked, made, time.perf_counter() - began)
        return made

    async def _by_teacher(self, asked: "_Asked", *, mirrored: bool = True) -> Answered:
        decisions = await self._teach(asked.task, asked.texts)
        state = asked.state
        if mirrored and state.mode is Mode.shadow and self.roll() < state.mirror:
            self._aside(self._shadow(asked, decisions))
        return Answered(self.releases[asked.task.name].name, state.mode.value, decisions)

    async def _shadow(self, asked: "_Asked", taught: list[Decision]) -> None:
        """Asks the student what the teacher has answered already."""
        decided = await self._study(asked, background=True)
        await self._compare(asked, decided.release, decided.rows, taught)

    async def _by_student(self, asked: "_Asked") -> Answered:
        state = asked.state
        try:
            decided = await self._study(asked)
        except Problem:
            # In a canary the teacher is there to answer; alone, the student's 503 stands.
            if state.mode is not Mode.canary:
                raise
            return await self._by_teacher(asked, mirrored=False)
        if self.teacher is not None and self.roll() < state.mirror:
            self._aside(self._check(asked, decided.release, decided.rows))
        return Answered(decided.release, state.mode.value, decided.rows)

    async def _check(self, asked: "_Asked", release: str, decided: list[Decision]) -> None:
        """Asks the teacher what the student has answered already."""
        taught = await self._teach(asked.task, asked.texts)
        await self._compare(asked, release, decided, taught)

    async def _student_first(self, asked: "_Asked") -> Answered:
        """The student's answers; unsure or failed ones are the teacher's, where it answers."""
        state = asked.state
        try:
            decided = await self._study(asked)
        except Problem:
            return await self._by_teacher(asked, mirrored=False)
        rows = list(decided.rows)
        unsure = [at for at, row in enumerate(rows) if _unsure(row, state.confidence)]
        if unsure:
            some = asked.only(unsure)
            try:
                taught = await self._teach(asked.task, some.texts)
            except Problem:
                log.warning(json.dumps({"event": "teacher_away", "id": asked.request_id}))
            else:
                self._aside(
                    self._compare(
                        some, decided.release, [rows[at] for at in unsure], taught, abstained=True
                    )
                )
                for at, one in zip(unsure, taught, strict=True):
                    rows[at] = one
        elif self.roll() < state.mirror:
            self._aside(self._check(asked, decided.release, rows))
        return Answered(decided.release, state.mode.value, rows)

    async def _study(self, asked: "_Asked", *, background: bool = False) -> Any:
        """The student's decisions; what it cannot answer is counted against it."""
        name = asked.task.name
        try:
            decided = await self.student.decide(name, asked.texts, background=background)
        except Problem as problem:
            if problem.code != "busy":
                self._failed([True] * len(asked.texts), asked.state)
            raise
        errors = [row.decision == "error" and row.error not in _REFUSED for row in decided.rows]
        self._failed(errors, asked.state)
        return decided

    async def _teach(self, task: Task, texts: Sequence[str]) -> list[Decision]:
        if self.teacher is None:  # the state file says so, whatever was checked at the start
            raise busy("this mode needs a teacher", code="teacher_unavailable", retry_after_s=30)
        return await self.teacher(task, texts)

    # ------------------------------------------------------------ beside the answers

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Does work that no user waits for, if not too much of it is under way."""
        if len(self._side) >= _SIDE:
            work.close()
            self.metrics.dropped.labels("too_many").inc()
            return
        task = asyncio.create_task(self._quiet(work))
        self._side.add(task)
        task.add_done_callback(self._side.discard)

    async def _quiet(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Problem as problem:
            self.metrics.dropped.labels(problem.code).inc()
        except Exception:
            self.metrics.dropped.labels("failed").inc()
            log.exception("a comparison failed")

    async def _compare(
        self,
        asked: "_Asked",
        release: str,
        decided: list[Decision],
        taught: list[Decision],
        *,
        abstained: bool = False,
    ) -> None:
        task, state = asked.task, asked.state
        for text, student, teacher in zip(asked.texts, decided, taught, strict=True):
            if student.error in _REFUSED or teacher.error in _REFUSED:
                continue
            ours, theirs = _answer(task, student), _answer(task, teacher)
            agree = None if isinstance(theirs, AnswerError) else _agree(task, theirs, ours)
            eventful = isinstance(ours, AnswerError) or bool(ours.records)
            eventful = eventful or (isinstance(theirs, Answer) and bool(theirs.records))
            if agree is not None and eventful:
                self._compared(agree, state)
            self.mirror.add(
                Comparison(
                    at=now(), request_id=asked.request_id, task=task.name, release=release,
                    mode=state.mode.value, sentence=text, decision=student.decision,
                    skip_score=student.skip_score, confidence=confidence(student),
                    error=student.error, student=_json(task, ours), teacher=_json(task, theirs),
                    agree=agree, eventful=eventful,
                    reason=_reason(agree, abstained or student.error is not None),
                    teacher_model=self.teacher.config.model if self.teacher else "",
                )
            )  # fmt: skip

    def _compared(self, agree: bool, state: State) -> None:
        self.metrics.compared.labels(str(agree).lower()).inc()
        if state.since == self._since:  # else it belongs to a mode that has ended
            self._gate.agreed.append(agree)
            low, high = self._gate.bounds()
            self.metrics.agreement.labels("low").set(low)
            self.metrics.agreement.labels("high").set(high)
            self._judge()

    def _failed(self, errors: list[bool], state: State) -> None:
        if state.since == self._since:
            self._gate.failed.extend(errors)
            if any(errors):
                self._judge()

    def _judge(self) -> None:
        """Falls back where a gate is crossed and users see the student's answers."""
        if self.teacher is None or self.rollout.state.mode not in SEEN:
            return
        if (why := self._gate.crossed()) and (state := self.rollout.fall_back(why)):
            self._gate.clear()
            self._since = state.since
            self.metrics.fallbacks.inc()
            log.error(json.dumps({"event": "fallback", "mode": state.mode.value, "why": why}))

    def gate(self) -> dict[str, Any]:
        """What the gate sees now."""
        low, high = self._gate.bounds()
        return {
            "compared": len(self._gate.agreed),
            "agreed": sum(self._gate.agreed),
            "low": low,
            "high": high,
            "answers": len(self._gate.failed),
            "failed": sum(self._gate.failed),
        }

    def _count(self, asked: "_Asked", made: Answered, seconds: float) -> None:
        """Counts by decision, and hands each finished minute to the mirror."""
        at = now().replace(second=0, microsecond=0)
        key = (asked.task.name, made.release, made.mode)
        one = self._traffic.get(key)
        if one is None or one.at != at:
            self.flush()
            one = self._traffic[key] = Traffic(
                at=at, process=self.process, task=key[0], release=key[1], mode=key[2]
            )
        one.requests += 1
        one.sentences += len(made.decisions)
        one.ms += 1000 * seconds
        for row in made.decisions:
            setattr(one, row.decision, getattr(one, row.decision) + 1)
            one.records += len(json.loads(row.spans)) if row.spans else 0
            self.metrics.decisions.labels(asked.task.name, row.decision).inc()

    def flush(self) -> None:
        """Hands the traffic so far to the mirror."""
        for one in self._traffic.values():
            self.mirror.add(one)
        self._traffic.clear()

    async def close(self) -> None:
        """Lets comparisons end, writes what is left, and closes both sides."""
        if self._side:
            await asyncio.wait(self._side, timeout=5)
        self.flush()
        if self.teacher is not None:
            await self.teacher.close()
        await self.student.close()
        await asyncio.to_thread(self.mirror.close)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request: its task, texts and id, and the rollout's state when it came."""

    task: Task
    texts: list[str]
    request_id: str
    state: State

    def only(self, rows: list[int]) -> "_Asked":
        return _Asked(self.task, [self.texts[at] for at in rows], self.request_id, self.state)


def confidence(row: Decision) -> float | None:
    """How likely the student's answer is right: calibrated where the release is, else its own."""
    if row.agreement_probability is not None:
        return row.agreement_probability
    return None if row.score is None else math.exp(min(0.0, row.score))


def _reason(agree: bool | None, abstained: bool) -> str | None:
    """Why people should look at a comparison; None where both sides say the same."""
    if agree is not False:
        return None
    return "abstained" if abstained else "disagreement"


def _unsure(row: Decision, least: float) -> bool:
    if row.decision == "error":
        return row.error not in _REFUSED
    sure = confidence(row)
    return sure is not None and sure < least


def _answer(task: Task, row: Decision) -> Answer | AnswerError:
    if row.error is not None:
        return AnswerError(row.error)
    return task.parse(row.answer) if row.answer is not None else Answer()


def _agree(task: Task, teacher: Answer, student: Answer | AnswerError) -> bool:
    return isinstance(student, Answer) and task.score(teacher, student).exact


def _json(task: Task, answer: Answer | AnswerError) -> str | None:
    return task.render(answer) if isinstance(answer, Answer) else None
