"""drift: whether today's events still look like those the release was measured on.

Exits with 0 where nothing drifted, 1 where something did, 3 where events are too few to tell, and
2 for a wrong setup.
"""

from typing import Any

from raydistill import drift
from raydistill.config import job

CODES = {"stable": 0, "drifted": 1, "too_few": 3}


def code(made: dict[str, Any]) -> int:
    """The exit code of what was found."""
    return CODES[made["verdict"]]


if __name__ == "__main__":
    job("drift", drift.Config, drift.run, code)
