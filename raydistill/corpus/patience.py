"""Patience: a database that is away for a while, or a full disk, is waited for, not died of."""

import time
from collections.abc import Callable
from typing import TypeVar

from raydistill.errors import RaydistillError
from raydistill.postgres import ConnectionLost, Unreachable

T = TypeVar("T")


class DiskAway(RaydistillError):
    """A file cannot be written or read now: the disk is full, or the store is away."""


AWAY = (ConnectionLost, Unreachable, DiskAway)


def patiently(act: Callable[[], T], seconds: float) -> T:
    """`act()`, done again while PostgreSQL (or a disk) is away or full, for up to `seconds`.

    `act` is done whole again, so it must be harmless to repeat. The last error is raised.
    """
    until = time.monotonic() + seconds
    wait = 0.2
    while True:
        try:
            return act()
        except AWAY:
            if time.monotonic() + wait > until:
                raise
        time.sleep(wait)
        wait = min(5.0, wait * 1.6)
