"""Answerers: the releases of one process, warm, by task; swapped for newer ones between batches.

A release is named by a folder or by a symbolic link that the registry keeps on the production
release. One of events has the whole cascade; one of several tasks has an extractor alone.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from raydistill.errors import RaydistillError, SetupError
from raydistill.pipeline import Cascade, Decision, Guard, numbered
from raydistill.release import MANIFEST, Release, verify
from raydistill.serve.batcher import Decided
from raydistill.stages import filters

log = logging.getLogger("raydistill.serve")
WARM = (
    "The Company entered into a definitive agreement to acquire Acme Corp. on May 3, 2021.",
    "On March 1, 2020, John Smith resigned as a director and the Board declared a dividend.",
    "See Item 7.",
)


class Answers(Protocol):
    """One release, opened: the decision for each text of one of its tasks."""

    release: Release

    def decide(self, task: str, texts: Sequence[str]) -> list[Decision]:
        """The decisions, in order."""
        ...


class Events:
    """A release of events: backfill's own cascade."""

    def __init__(self, release: Release, *, threads: int) -> None:
        self.release = release
        self.cascade = Cascade(release, threads=threads)
        self.cascade.decide(WARM)
        # Whatever the stages before think of them, the extractor's first calls are slow.
        rows = {"text": pa.array(WARM, pa.string()), "error": pa.nulls(len(WARM), pa.string())}
        self.cascade.steps[-1].stage(pa.table(rows))

    def decide(self, task: str, texts: Sequence[str]) -> list[Decision]:
        return self.cascade.decide(texts)


class Questions:
    """A release of several tasks: an extract stage each, behind the same guard and filters."""

    def __init__(self, release: Release, *, threads: int) -> None:
        from raydistill.questions.answering import Answerer  # it brings what trains mixtures along

        self.release = release
        self.answerer = Answerer(release, threads=threads)
        self.guard, self.filters = Guard(), filters.of(release.folder)
        for task in self.answerer.stages:
            self.decide(task, WARM)

    def decide(self, task: str, texts: Sequence[str]) -> list[Decision]:
        table = self.answerer.stages[task](self.filters(self.guard(numbered(texts))))
        names = [n for n in Decision.__dataclass_fields__ if n in table.column_names]
        return [
            Decision("error" if row["error"] else "extract", **row)
            for row in table.select(names).to_pylist()
        ]


def answers(release: Release, *, threads: int) -> Answers:
    """A release, opened and warm."""
    kind = Events if "skip" in release.manifest.shapes else Questions
    return kind(release, threads=threads)


def where(folder: Path) -> tuple[str, int]:
    """What a release's path leads to now: changes when the release does."""
    real = folder.resolve()
    try:
        return str(real), (real / MANIFEST).stat().st_mtime_ns
    except OSError:
        return str(real), 0


def opened(folders: Sequence[str]) -> dict[str, Release]:
    """The verified releases by the tasks they answer. Raises SetupError."""
    found: dict[str, Release] = {}
    for folder in folders:
        release = verify(Path(folder).resolve())
        for task in release.tasks:
            if task.name in found:
                raise SetupError(
                    f"{folder} and {found[task.name].folder} both answer {task.name}",
                    expected="one release a task",
                    todo="correct release= and releases=",
                )
            found[task.name] = release
    return found


class Answerers:
    """Warm releases by task. `refresh` follows their links."""

    def __init__(self, folders: Sequence[str], *, threads: int) -> None:
        self.threads = threads
        self.places = {folder: where(Path(folder)) for folder in folders}
        releases = opened(folders)
        self.held = {
            folder: answers(verify(Path(place[0])), threads=threads)
            for folder, place in self.places.items()
        }
        self.folder_of = {
            task: folder
            for folder, one in self.held.items()
            for task in releases
            if task in {each.name for each in one.release.tasks}
        }

    def decide(self, task: str, texts: Sequence[str]) -> Decided[Decision]:
        """The decisions of one release over all the texts."""
        held = self.held[self.folder_of[task]]
        return Decided(held.release.name, held.decide(task, texts))

    def changed(self) -> dict[str, tuple[str, int]]:
        """The paths that lead elsewhere now, and where to."""
        now = {folder: where(Path(folder)) for folder in self.places}
        return {folder: place for folder, place in now.items() if place != self.places[folder]}

    def refresh(self) -> list[str]:
        """Loads what changed; gives the new releases' names. The old ones answer until then.

        A release that cannot be loaded is logged once, and the old one stays.
        """
        names: list[str] = []
        for folder, place in self.changed().items():
            self.places[folder] = place
            try:
                release = verify(Path(place[0]), expected=self.held[folder].release.task)
                self.held[folder] = answers(release, threads=self.threads)
            except RaydistillError as problem:
                told = {"event": "release_refused", "path": folder, "detail": str(problem)}
                log.error(json.dumps(told))
            else:
                log.info(json.dumps({"event": "release", "release": release.name}))
                names.append(release.name)
        return names


def told(releases: Mapping[str, Release], task: str) -> dict[str, Any]:
    """What GET /v1/release says of one task and its release."""
    release = releases[task]
    manifest = release.manifest
    return {
        "release": manifest.name,
        "label": manifest.label,
        "created_at": manifest.created_at,
        "task": release.task_named(task).spec(),
        "task_fingerprint": manifest.task_fingerprint,
        "thresholds": manifest.thresholds,
        "quantisation": manifest.quantisation,
        "licence": manifest.licence,
    }
