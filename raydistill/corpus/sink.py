"""Sinks: where a run's rows go. A sink is plain and picklable: it travels to actors and tasks.

Every sink keeps one promise: a filing's rows of one release are written once and whole, however
often its chunk is written, by whom, and whatever dies meanwhile.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from raydistill.events import Rows

RUN, READ = "run", "read"  # what a chunk can be begun for


class Hold(Protocol):
    """A driver's claim on a run, for as long as it is open."""

    def check(self) -> None:
        """Passes while the claim stands, taking it again if it was lost; else SetupError."""
        ...


@dataclass(frozen=True, slots=True)
class Begun:
    """A chunk that was begun and has not been committed: for how long, and where."""

    chunk: str
    stage: str
    attempts: int
    seconds: float
    place: str


class Sink(Protocol):
    """A place for the rows of the release `name`, and the memory of the run that writes them."""

    @property
    def name(self) -> str: ...

    def hold(self) -> AbstractContextManager[Hold]:
        """Claims the run for this driver; SetupError where another one has it."""
        ...

    def prepare(self) -> None:
        """Makes what is missing (tables, folders)."""
        ...

    def enter(self, parts: Mapping[str, str]) -> None:
        """Enters the run with its fingerprint; SetupError where it was begun with another."""
        ...

    def done(self) -> set[str]:
        """Filings that this release has finished, whichever run did them."""
        ...

    def begin(self, chunk: str, stage: str) -> int:
        """Counts an attempt before it is made and gives the count; 0 when the run is to stop."""
        ...

    def end(self, chunk: str, stage: str) -> None:
        """Forgets the attempts of a chunk's stage: it went through."""
        ...

    def note(self, chunk: str, place: str) -> None:
        """Notes where a chunk that takes long has got to."""
        ...

    def begun(self) -> list[Begun]:
        """What this driver's actors and tasks are at."""
        ...

    def stop(self) -> None:
        """From now on nothing of this driver begins."""
        ...

    def commit(self, chunk: str, rows: Rows) -> int:
        """Writes a chunk at once or not at all; gives how many filings were new."""
        ...

    def account(self) -> dict[str, Any]:
        """What the run has written so far, from its ledger."""
        ...
