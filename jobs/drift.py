"""drift: whether today's events still look like those the release was measured on.

Exits with 1 where something drifted, for cron.
"""

from raydistill import drift
from raydistill.config import job


def run(config: drift.Config) -> None:
    """Runs the check and gives its finding as the exit code."""
    if drift.run(config)["drifted"]:
        raise SystemExit(1)


if __name__ == "__main__":
    job("drift", drift.Config, run)
