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
    """The signal that asked for an end, or None; the handlers that were there before."""

    got: int | None = None
    since: float = 0.0
    before: dict[int, Any] = field(default_factory=dict)

    def take(self) -> None:
        """Notes signals from now on; again after `ray.init`, which takes SIGTERM for itself."""
        if threading.current_thread() is threading.main_thread():
            for one in (signal.SIGTERM, signal.SIGINT):
                handler = signal.signal(one, self._note)
                self.before.setdefault(one, handler)

    def give_back(self) -> None:
        """Puts the handlers back that were there before."""
        for one, handler in self.before.items():
            signal.signal(one, handler)

    def _note(self, number: int, _: object) -> None:
        self.got, self.since = number, time.monotonic()
        self.give_back()


@contextmanager
def signals() -> Generator[Signals]:
    """Notes SIGTERM and SIGINT instead of dying; a second one dies as ever.

    Outside the main thread nothing is noted: Python delivers no signals there.
    """
    state = Signals()
    state.take()
    try:
        yield state
    finally:
        state.give_back()


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
