"""Finding: the outcome of one check, and its one line."""

from dataclasses import dataclass
from enum import Enum

from raydistill.errors import SetupError


class Health(Enum):
    """How a check ended: `skip` is one that had nothing to look at."""

    ok = "ok"
    warn = "warn"
    fail = "FAIL"
    skip = "-"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it where it is not well."""

    name: str
    health: Health
    found: str
    todo: str = ""

    def line(self) -> str:
        """The finding as one line."""
        todo = f"; do: {self.todo}" if self.todo else ""
        return f"{self.health.value:<5} {self.name:<12} {self.found}{todo}"


def ok(name: str, found: str) -> Finding:
    """A finding of something that is well."""
    return Finding(name, Health.ok, found)


def skip(name: str, found: str, todo: str = "") -> Finding:
    """A check that had nothing to look at."""
    return Finding(name, Health.skip, found, todo)


def warn(name: str, found: str, todo: str) -> Finding:
    """Something that works but slowly, or not for long."""
    return Finding(name, Health.warn, found, todo)


def fail(name: str, found: str, todo: str) -> Finding:
    """Something that will stop a verb."""
    return Finding(name, Health.fail, found, todo)


def of(name: str, problem: SetupError) -> Finding:
    """A setup error as a finding, on one line."""
    expected = f" (expected: {problem.expected})" if problem.expected else ""
    return fail(name, " ".join(f"{problem.found}{expected}".split()), problem.todo)
