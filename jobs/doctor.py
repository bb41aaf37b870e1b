"""doctor: is everything here that the other verbs will need? One line a check, with what to do.

Exits with 1 where a check failed.
"""

from raydistill import doctor
from raydistill.checks.finding import Finding, Health
from raydistill.config import job


def code(found: list[Finding]) -> int:
    """1 where a check failed."""
    return int(any(one.health is Health.fail for one in found))


if __name__ == "__main__":
    job("doctor", doctor.Config, doctor.run, code)
