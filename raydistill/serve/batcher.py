"""Dynamic batches: what waits while a batch runs becomes the next one, cut by tokens.

Nothing is delayed to fill a batch: one client gets its answer as fast as the stages are, and many
clients share theirs.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from raydistill.serve.problems import Problem, busy

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Decided(Generic[Row]):
    """The rows of some texts, in their order, and the release they come from."""

    release: str
    rows: list[Row]


@dataclass(slots=True)
class _Group(Generic[Row]):
    texts: Sequence[str]
    tokens: int
    future: "asyncio.Future[Decided[Row]]"


def tokens(texts: Sequence[str]) -> int:
    """About how many tokens the texts have."""
    return sum(len(text) // 4 + 2 for text in texts)


class Batcher(Generic[Row]):
    """Gathers the texts of several requests into calls of about `most` tokens, `workers` at a time.

    A request's texts stay together. At most `waiting` tokens wait; more are refused with 503.
    Background texts go only when nobody else waits, and wait `linger_s` seconds for others of their
    kind: one by one they would cost the stages several times as much.
    """

    def __init__(
        self,
        call: Callable[[list[str]], Awaitable[Decided[Row]]],
        *,
        most: int = 4096,
        workers: int = 1,
        waiting: int = 1_000_000,
        linger_s: float = 0.5,
    ) -> None:
        self.call, self.most, self.workers, self.waiting = call, most, workers, waiting
        self.linger_s = linger_s
        self.front: deque[_Group[Row]] = deque()
        self.back: deque[_Group[Row]] = deque()
        self.queued = 0
        self.ripe = 0.0  # when those in the back have waited for others long enough
        self.running: set[asyncio.Task[None]] = set()

    async def __call__(self, texts: Sequence[str], *, background: bool = False) -> Decided[Row]:
        """The rows of these texts. Raises Problem 503 where too much waits already."""
        cost = tokens(texts)
        if self.queued and self.queued + cost > self.waiting:
            raise busy(f"{self.queued:,} tokens wait already")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Decided[Row]] = loop.create_future()
        if background and not self.back:
            self.ripe = loop.time() + self.linger_s
            loop.call_later(self.linger_s, self._start)
        (self.back if background else self.front).append(_Group(texts, cost, future))
        self.queued += cost
        self._start()
        return await future

    def _start(self) -> None:
        while len(self.running) < self.workers and (groups := self._batch()):
            task = asyncio.create_task(self._run(groups))
            self.running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self.running.discard(task)
        self._start()

    def _batch(self) -> list[_Group[Row]]:
        """The next batch: of those in front, or else of those in the back once they are ripe."""
        groups: list[_Group[Row]] = []
        size = 0
        queue = self.front or self._ripe()
        while queue and (not groups or size + queue[0].tokens <= self.most):
            group = queue.popleft()
            self.queued -= group.tokens
            if not group.future.done():  # else its client has gone
                groups.append(group)
                size += group.tokens
            if not queue and not groups:
                queue = self._ripe()
        return groups

    def _ripe(self) -> "deque[_Group[Row]]":
        """Those in the back, or none while they wait for others."""
        # A timer may come a clock tick early.
        early = asyncio.get_running_loop().time() + 0.01 < self.ripe
        full = sum(group.tokens for group in self.back) >= self.most
        return deque() if early and not full else self.back

    async def _run(self, groups: list[_Group[Row]]) -> None:
        try:
            made = await self.call([text for group in groups for text in group.texts])
        except BaseException as problem:
            if isinstance(problem, Problem) and len(groups) > 1:  # one of them may be to blame
                for group in groups:
                    await self._run([group])
                return
            for group in groups:
                if not group.future.done():
                    group.future.set_exception(problem)
            if not isinstance(problem, Exception):
                raise
            return
        at = 0
        for group in groups:
            rows = made.rows[at : at + len(group.texts)]
            at += len(group.texts)
            if not group.future.done():
                group.future.set_result(Decided(made.release, rows))
