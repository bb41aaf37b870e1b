"""What a running backfill shows: bars in a terminal, a line every 10 s in a job's log, counters."""

import sys
from contextlib import AbstractContextManager
from typing import Any

from raydistill import logs
from raydistill.corpus.sink import Begun
from raydistill.corpus.totals import Totals
from raydistill.metrics import Metrics
from raydistill.progress import Progress, duration


class Live(AbstractContextManager["Live"]):
    """The show of one run. The home of rich."""

    def __init__(self, name: str, total: int, metrics: Metrics) -> None:
        self.name, self.total, self.metrics = name, total, metrics
        self.plain = Progress(name, total, "filings")
        self.bars: Any = _bars() if sys.stdout.isatty() else None

    def __enter__(self) -> "Live":
        if self.bars is not None:
            self.task = self.bars.add_task(self.name, total=self.total, note="")
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars is not None:
            self.bars.stop()
        self.metrics.close()

    def show(self, totals: Totals) -> None:
        """Says how far it is."""
        done = totals.sums["filings"]
        note = f"{totals.sums['events']:,} events, {totals.shares}"
        if self.bars is not None:
            self.bars.update(self.task, completed=done, note=note)
        else:
            self.plain.update(done, note)

    def count(self, line: dict[str, Any], totals: Totals) -> None:
        """Counts a committed chunk."""
        logs.chunk(run=self.name, **line)
        metrics = self.metrics
        for name in (
            "filings", "sentences", "candidates", "glanced", "kept", "events", "abstained",
        ):  # fmt: skip
            metrics.count(name, line.get(name, 0))
        for code, count in line.get("codes", {}).items():
            metrics.count("dead_letters", count, code=code)
        for name in totals.seconds:
            metrics.count("stage_seconds", line.get(name, 0.0), stage=name.removesuffix("_s"))
        metrics.set("filings_left", totals.total - totals.sums["filings"])
        metrics.set("actor_rss_mib", totals.rss_mib)

    def say(self, text: str) -> None:
        """One line of its own."""
        (self.bars.console.print if self.bars is not None else print)(text)
        sys.stdout.flush()


def _bars() -> Any:
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}"),
    )


def stalled(seconds: float, begun: list[Begun]) -> str:
    """What a stalled run says: how long, and which chunk waits in which stage, where."""
    head = f"no chunk was committed for {duration(seconds)}"
    if not begun:
        return f"{head}; none is begun: reads wait for the source, or Ray for free cores"
    where = [
        f"chunk {one.chunk} at {one.stage} for {duration(one.seconds)},"
        f" attempt {one.attempts}: {one.place}"
        for one in begun[:4]
    ]
    return f"{head}; stalled: " + "; ".join(where)
