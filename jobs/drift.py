"""drift: whether today's events still look like those the release was measured on.

Exits with 0 where nothing drifted, 1 where something did, 3 where events are too few to tell, and
2 for a wrong setup.
"""

from raydistill import drift
from raydistill.config import job

CODES = {"stable": 0, "drifted": 1, "too_few": 3}


def run(config: drift.Config) -> None:
    """Runs the check and gives its finding as the exit code."""
    code = CODES[drift.run(config)["verdict"]]
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    job("drift", drift.Config, run)
