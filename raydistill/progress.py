"""Progress: one line for a step of long work, readable in a terminal and in a job's log."""

import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

# What hears of progress besides people: a step's name, done, total, and figures by name.
Listener: TypeAlias = Callable[[str, int, int, Mapping[str, float]], None]
_LISTENERS: list[Listener] = []


@contextmanager
def heard(listener: Listener) -> Generator[None]:
    """Tells `listener` of all progress in this process meanwhile."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)


def tell(step: str, done: int, total: int, **figures: float) -> None:
    """Tells those who listen how far a step is; prints nothing."""
    for listener in _LISTENERS:
        listener(step, done, total, figures)


def duration(seconds: float) -> str:
    """Seconds as people read them: 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    if whole < 5400:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Progress:
    """Prints `name done/total unit, rate, ETA`: in place in a terminal, else every 10 s."""

    def __init__(self, name: str, total: int, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.began = time.monotonic()
        self.terminal = sys.stdout.isatty()
        self.printed = 0.0

    def update(self, done: int, note: str = "") -> None:
        """Says how far it is, no more often than is readable."""
        tell(self.name, done, self.total)
        now = time.monotonic()
        if done < self.total and now - self.printed < (0.5 if self.terminal else 10.0):
            return
        self.printed = now
        rate = done / max(1e-9, now - self.began)
        eta = (self.total - done) / rate if rate > 0 else 0.0
        left = (
            f", ETA {duration(eta)}" if done < self.total else f" in {duration(now - self.began)}"
        )
        line = f"{self.name}: {done:,}/{self.total:,} {self.unit}, {rate:,.1f}/s{left}"
        line += f", {note}" if note else ""
        end = "\n" if done >= self.total or not self.terminal else ""
        start = "\r\033[K" if self.terminal else ""
        print(start + line, end=end, flush=True)


def table(rows: list[tuple[str, ...]], head: tuple[str, ...]) -> str:
    """Rows as aligned text columns; the first column left, numbers right."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]

    def line(row: tuple[str, ...]) -> str:
        cells = [
            row[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
        ]
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(head), rule, *(line(row) for row in rows)])
