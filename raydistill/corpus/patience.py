"""Patience: a database that is away for a while is waited for, not died of."""

import time
from collections.abc import Callable
from typing import TypeVar

from raydistill.postgres import ConnectionLost, Unreachable

T = TypeVar("T")


def patiently(act: Callable[[], T], seconds: float) -> T:
    """`act()`, done again while PostgreSQL is away, restarting or full, for up to `seconds`.

    `act` is done whole again, so it must be harmless to repeat. The last error is raised.
    """
    until = time.monotonic() + seconds
    wait = 0.2
    while True:
        try:
            return act()
        except (ConnectionLost, Unreachable):
            if time.monotonic() + wait > until:
                raise
        time.sleep(wait)
        wait = min(5.0, wait * 1.6)
