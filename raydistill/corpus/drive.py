"""The driver's loop: lines of committed chunks come in; stalls, signals and lost servers are seen.

Chunks are awaited in a thread of their own, so that this loop can say that none comes, drain on
SIGTERM, and take the run's lock again when the server was away.
"""

import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from raydistill.corpus.live import Live, stalled
from raydistill.corpus.patience import AWAY
from raydistill.corpus.sink import RUN, Hold, Sink
from raydistill.corpus.totals import Totals
from raydistill.errors import SetupError

_TICK_S, _CHECK_S = 0.25, 5.0


@dataclass(slots=True)
class Signals:
    """The signal that asked for an end, or None."""

    got: int | None = None
    since: float = 0.0


@contextmanager
def signals() -> Generator[Signals]:
    """Notes SIGTERM and SIGINT instead of dying; a second one dies as ever.

    Outside the main thread nothing is noted: Python delivers no signals there.
    """
    state = Signals()
    before: dict[int, Any] = {}

    def note(number: int, _: object) -> None:
        state.got, state.since = number, time.monotonic()
        for one, handler in before.items():
            signal.signal(one, handler)

    if threading.current_thread() is threading.main_thread():
        for one in (signal.SIGTERM, signal.SIGINT):
            before[one] = signal.signal(one, note)
    try:
        yield state
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@dataclass(slots=True)
class Drive:
    """One driver's watch over its run. `mend` may bring back a server of our own."""

    sink: Sink
    hold: Hold
    live: Live
    totals: Totals
    signals: Signals
    stall_s: float
    drain_s: float
    mend: Callable[[], None] | None = None
    checked: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    stalls: int = 0
    stopping: bool = False

    def __call__(self, lines: Iterator[dict[str, Any]]) -> bool:
        """Whether every chunk came; False when a signal ended the run early."""
        came: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue()

        def listen() -> None:
            try:
                for line in lines:
                    came.put(line)
                came.put(None)
            except BaseException as problem:
                came.put(problem)

        threading.Thread(target=listen, name="lines", daemon=True).start()
        while True:
            with suppress(queue.Empty):
                one = came.get(timeout=_TICK_S)
                if one is None:
                    return not self.stopping
                if isinstance(one, BaseException):
                    raise one
                self._add(one)
            if self.totals.chunks:
                self.live.show(self.totals)
            self._watch()
            if self.signals.got is not None and self._drained() and came.empty():
                return False

    def _add(self, line: dict[str, Any]) -> None:
        self.heard = time.monotonic()
        self.stalls = 0
        self.totals.add(line)
        self.live.count(line, self.totals)

    def _watch(self) -> None:
        now = time.monotonic()
        if now - self.checked > _CHECK_S:
            self.checked = now
            self.live.metrics.write()
            self._check()
        if now - self.heard > self.stall_s * (self.stalls + 1):
            self.stalls += 1
            with suppress(*AWAY):
                self.live.say(f"backfill: {stalled(now - self.heard, self.sink.begun())}")

    def _check(self) -> None:
        """The run is still ours; a server that is away is waited for, or started if it is ours."""
        try:
            self.hold.check()
        except AWAY as problem:
            first = str(problem).splitlines()[0]
            self.live.say(f"backfill: {first}; going on when it is back")
            if self.mend is not None:
                with suppress(SetupError):
                    self.mend()

    def _drained(self) -> bool:
        """Tells actors to begin nothing; whether all that was begun is committed."""
        left = self.drain_s - (time.monotonic() - self.signals.since)
        try:
            if not self.stopping:
                name = signal.Signals(self.signals.got or 0).name
                self.live.say(f"backfill: {name}: committing what is begun, then stopping")
                self.sink.stop()
                self.stopping = True
            return left < 0 or not any(one.stage == RUN for one in self.sink.begun())
        except AWAY:
            return left < 0
