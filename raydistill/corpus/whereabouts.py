"""Whereabouts: in which stage a chunk is that takes long, for the word about a stall."""

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

from raydistill.corpus.patience import AWAY
from raydistill.corpus.sink import Sink

EVERY_S = 30.0


@contextmanager
def noted(sink: Sink, chunk: str, *, every_s: float = EVERY_S) -> Generator[None]:
    """While the body runs, its stage is noted in the sink after each `every_s`."""
    over, thread = threading.Event(), threading.get_ident()

    def watch() -> None:
        while not over.wait(every_s):
            with suppress(*AWAY):
                sink.note(chunk, stage(thread))

    watcher = threading.Thread(target=watch, name="whereabouts", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()


def stage(thread: int) -> str:
    """The innermost file of a stage, or of ours, that a thread is in."""
    # What faulthandler prints, as objects; public for all its underscore.
    frame = sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage]
    ours = "raydistill"
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith("raydistill.stages."):
            return name.rpartition(".")[2]
        if name.startswith("raydistill.") and ours == "raydistill":
            ours = name.rpartition(".")[2]
        frame = frame.f_back
    return ours
