"""shadow: student and teacher side by side until the verdict is sure: go or no-go.

Exits with 0 for go, 1 for no-go and 3 for undecided.
"""

import os

from raydistill import shadow
from raydistill.config import job
from raydistill.errors import SetupError


def run(config: shadow.Config) -> None:
    """Runs the comparison and gives its verdict as the exit code; the key is in the environment."""
    name = config.endpoint.key_env
    if name and not os.environ.get(name):
        raise SetupError(
            f"the environment variable {name} is not set",
            expected="the endpoint's key in it",
            todo=f"export {name}=..., or set endpoint.key_env=null for an endpoint without one",
        )
    verdict = shadow.run(config, key=os.environ[name] if name else None)["verdict"]
    if verdict != "go":
        raise SystemExit(1 if verdict == "nogo" else 3)


if __name__ == "__main__":
    job("shadow", shadow.Config, run)
