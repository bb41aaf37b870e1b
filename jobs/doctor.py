"""doctor: is everything here that the other verbs will need? One line a check, with what to do.

Exits with 1 where a check failed.
"""

from raydistill import doctor
from raydistill.checks.finding import Health
from raydistill.config import job


def run(config: doctor.Config) -> None:
    """Runs the checks and gives whether one failed as the exit code."""
    if any(one.health is Health.fail for one in doctor.run(config)):
        raise SystemExit(1)


if __name__ == "__main__":
    job("doctor", doctor.Config, run)
