"""Asking a release that answers several tasks: one engine, a stage a task.

`answer(release, "query_dates", texts)` is what a service calls; the engine of a release is loaded
once a process.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from raydistill.answer import Answer
from raydistill.errors import AnswerError
from raydistill.frame import of_folder
from raydistill.questions.asking import asking
from raydistill.release import Release, verify
from raydistill.stages.extract import Extract, Said
from raydistill.task import Task

THREADS = 2  # of the engine that `answer` loads; a service that plans its cores opens an Answerer


class Answerer:
    """The Extract stages of a release, by task, on one engine."""

    def __init__(self, release: Path | Release, *, threads: int = THREADS) -> None:
        opened = release if isinstance(release, Release) else verify(release)
        self.release = opened
        self.stages = stages(
            opened.folder / "extractor",
            opened.tasks,
            shape=opened.manifest.shapes["extractor"],
            threads=threads,
        )

    def __call__(self, task: str, texts: Sequence[str]) -> list[Answer | AnswerError]:
        """Each text's answer in a task, in order, or the error in its place."""
        return [one.answer for one in self.said(task, texts)]

    def said(self, task: str, texts: Sequence[str]) -> list[Said]:
        """Each text's answer with its log-probability. Raises SetupError on an unknown task."""
        return self.stages[self.release.task_named(task).name].answers(texts)


def stages(
    folder: Path, tasks: Sequence[Task], *, shape: dict[str, object], threads: int
) -> dict[str, Extract]:
    """An Extract stage a task, by its name, on one engine: the student in `folder`."""
    first = Extract(
        folder,
        tasks[0],
        target=str(shape["target"]),
        threads=threads,
        max_input=int(str(shape["max_input"])),
        max_output=int(str(shape["max_output"])),
    )
    if len(tasks) == 1:
        return {tasks[0].name: first}
    frame = of_folder(folder)
    return {task.name: first.asking(task, asking(frame, task)) for task in tasks}


def answer(
    release: Path | str | Release, task_name: str, texts: Sequence[str]
) -> list[Answer | AnswerError]:
    """Each text's answer in a task of a release, in order, or the error in its place.

    Raises SetupError where the release has no such task, or is none.
    """
    folder = release.folder if isinstance(release, Release) else Path(release)
    return _opened(folder.absolute(), _written(folder))(task_name, texts)


def _written(folder: Path) -> int:
    file = folder / "release.json"
    return file.stat().st_mtime_ns if file.is_file() else 0


@lru_cache(maxsize=2)
def _opened(folder: Path, written: int) -> Answerer:
    """The answerer of a folder, loaded again when its manifest was written again."""
    return Answerer(folder)
