"""The student: what decides sentences, in this process or behind a Serve handle."""

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from raydistill import filings
from raydistill.pipeline import Decision
from raydistill.sentences import sentences
from raydistill.serve.answerers import Answerers
from raydistill.serve.batcher import Batcher, Decided


@dataclass(frozen=True, slots=True)
class Split:
    """A filing and the characters (start, end) of its sentences."""

    filing: filings.Filing
    spans: list[tuple[int, int]]


def split(name: str, data: bytes) -> Split:
    """A filing's file as text and the places of its sentences. Raises FilingError."""
    filing = filings.read(name, data)
    return Split(filing, sentences(filing.text))


class Student(Protocol):
    """What decides sentences."""

    async def decide(
        self, task: str, texts: Sequence[str], *, background: bool = False
    ) -> Decided[Decision]:
        """The decision for each text, in order. Raises Problem 503."""
        ...

    async def split(self, name: str, data: bytes) -> Split:
        """A filing's file as text and sentences. Raises FilingError."""
        ...

    async def close(self) -> None:
        """Ends what it holds."""
        ...


class LocalStudent:
    """Releases in this process: one thread runs the stages, another loads and reads."""

    def __init__(self, held: Answerers, *, watch_s: float = 2.0, most: int = 4096) -> None:
        self.held = held
        self.stages = ThreadPoolExecutor(1, "stages")
        self.aside = ThreadPoolExecutor(1, "aside")
        self.batchers = {task: self._batcher(task, most) for task in held.folder_of}
        self.watch_s = watch_s
        self._watching: asyncio.Task[None] | None = None

    def _batcher(self, task: str, most: int) -> Batcher[Decision]:
        async def call(texts: list[str]) -> Decided[Decision]:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.stages, self.held.decide, task, texts)

        return Batcher(call, most=most)

    async def decide(
        self, task: str, texts: Sequence[str], *, background: bool = False
    ) -> Decided[Decision]:
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        return await self.batchers[task](texts, background=background)

    async def split(self, name: str, data: bytes) -> Split:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.aside, split, name, data)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.watch_s)
            if self.held.changed():
                await loop.run_in_executor(self.aside, self.held.refresh)

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        self.stages.shutdown()
        self.aside.shutdown()
