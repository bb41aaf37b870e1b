"""shadow: student and teacher side by side until the verdict is sure: go or no-go.

Exits with 0 for go, 1 for no-go and 3 for undecided.
"""

from raydistill import shadow
from raydistill.config import job


def run(config: shadow.Config) -> None:
    """Runs the comparison and gives its verdict as the exit code."""
    verdict = shadow.run(config)["verdict"]
    if verdict != "go":
        raise SystemExit(1 if verdict == "nogo" else 3)


if __name__ == "__main__":
    job("shadow", shadow.Config, run)
