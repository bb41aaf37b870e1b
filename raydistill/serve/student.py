"""Students: releases by task, swapped for newer ones while they answer.

A release is named by a folder or by a symbolic link that the registry keeps on the production
release; where the link leads elsewhere, the new release is loaded, warmed and put in place of the
old one between two batches.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from raydistill import filings
from raydistill.errors import RaydistillError, SetupError
from raydistill.pipeline import Cascade, Decision
from raydistill.release import MANIFEST, Release, verify
from raydistill.sentences import sentences
from raydistill.serve.batcher import Batcher, Decided

log = logging.getLogger("raydistill.serve")
WARM = (
    "The Company entered into a definitive agreement to acquire Acme Corp. on May 3, 2021.",
    "On March 1, 2020, John Smith resigned as a director and the Board declared a dividend.",
    "See Item 7.",
)


@dataclass(frozen=True, slots=True)
class Split:
    """A filing and the characters (start, end) of its sentences."""

    filing: filings.Filing
    spans: list[tuple[int, int]]


class Student(Protocol):
    """What decides sentences: in this process, or behind a Serve handle."""

    async def decide(
        self, task: str, texts: Sequence[str], *, background: bool = False
    ) -> Decided[Decision]:
        """The decision for each text, in order."""
        ...

    async def split(self, name: str, data: bytes) -> Split:
        """A filing's file as text and sentences. Raises FilingError."""
        ...

    async def close(self) -> None:
        """Ends what it holds."""
        ...


def where(folder: Path) -> tuple[str, int]:
    """What a release's path leads to now: changes when the release does."""
    real = folder.resolve()
    try:
        return str(real), (real / MANIFEST).stat().st_mtime_ns
    except OSError:
        return str(real), 0


def opened(folders: Mapping[str, str]) -> dict[str, Release]:
    """The verified releases of all tasks. Raises SetupError."""
    if not folders:
        raise SetupError("no release to serve", todo="set release=")
    found: dict[str, Release] = {}
    for task, folder in folders.items():
        one = verify(Path(folder).resolve())
        if one.task.name != task:
            raise SetupError(
                f"{folder} answers the task {one.task.name}", expected=f"the task {task}",
                todo="correct release= or releases=",
            )  # fmt: skip
        found[task] = one
    return found


class Cascades:
    """One warm cascade a task. `refresh` follows the releases' links."""

    def __init__(self, folders: Mapping[str, str], *, threads: int) -> None:
        self.folders, self.threads = dict(folders), threads
        self.places = {task: where(Path(folder)) for task, folder in folders.items()}
        self.cascades = {task: self._warm(one) for task, one in opened(folders).items()}

    def _warm(self, release: Release) -> Cascade:
        made = Cascade(release, threads=self.threads)
        made.decide(WARM)
        # Whatever the stages before think of them, the extractor's first calls are slow.
        rows = {"text": pa.array(WARM, pa.string()), "error": pa.nulls(len(WARM), pa.string())}
        made.steps[-1].stage(pa.table(rows))
        return made

    def decide(self, task: str, texts: Sequence[str]) -> Decided[Decision]:
        """The decisions of one release over all the texts."""
        cascade = self.cascades[task]
        return Decided(cascade.release.name, cascade.decide(texts))

    def changed(self) -> dict[str, tuple[str, int]]:
        """The tasks whose release's path leads elsewhere, and where to."""
        now = {task: where(Path(folder)) for task, folder in self.folders.items()}
        return {task: place for task, place in now.items() if place != self.places[task]}

    def refresh(self) -> list[str]:
        """Loads what changed; gives the new releases' names. The old answer until it is done.

        A release that cannot be loaded is logged once, and the old one stays.
        """
        names: list[str] = []
        for task, place in self.changed().items():
            self.places[task] = place
            try:
                release = verify(Path(place[0]), expected=self.cascades[task].release.task)
                self.cascades[task] = self._warm(release)
            except RaydistillError as problem:
                told = {"event": "release_refused", "task": task, "detail": str(problem)}
                log.error(json.dumps(told))
            else:
                log.info(json.dumps({"event": "release", "task": task, "release": release.name}))
                names.append(release.name)
        return names


class LocalStudent:
    """Cascades in this process: one thread runs the stages, another loads and reads."""

    def __init__(self, cascades: Cascades, *, watch_s: float = 2.0, most: int = 4096) -> None:
        self.cascades = cascades
        self.stages = ThreadPoolExecutor(1, "stages")
        self.aside = ThreadPoolExecutor(1, "aside")
        self.batchers = {task: self._batcher(task, most) for task in cascades.cascades}
        self.watch_s = watch_s
        self._watching: asyncio.Task[None] | None = None

    def _batcher(self, task: str, most: int) -> Batcher[Decision]:
        async def call(texts: list[str]) -> Decided[Decision]:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.stages, self.cascades.decide, task, texts)

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
            if self.cascades.changed():
                await loop.run_in_executor(self.aside, self.cascades.refresh)

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        self.stages.shutdown()
        self.aside.shutdown()


def split(name: str, data: bytes) -> Split:
    """A filing's file as text and the places of its sentences. Raises FilingError."""
    filing = filings.read(name, data)
    return Split(filing, sentences(filing.text))


def told(release: Release) -> dict[str, Any]:
    """What GET /v1/release says of one release."""
    manifest = release.manifest
    return {
        "release": manifest.name,
        "label": manifest.label,
        "created_at": manifest.created_at,
        "task": release.task.spec(),
        "task_fingerprint": manifest.task_fingerprint,
        "thresholds": manifest.thresholds,
        "quantisation": manifest.quantisation,
        "licence": manifest.licence,
    }
