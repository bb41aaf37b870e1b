"""shadow: student and teacher side by side until the verdict is sure: go or no-go.

Exits with 0 for go, 1 for no-go and 3 for undecided.
"""

import os
from typing import Any

from raydistill import shadow
from raydistill.config import job
from raydistill.errors import SetupError

CODES = {"go": 0, "nogo": 1, "undecided": 3}


def run(config: shadow.Config) -> dict[str, Any]:
    """Runs the comparison; the endpoint's key is in the environment."""
    name = config.endpoint.key_env
    if name and not os.environ.get(name):
        raise SetupError(
            f"the environment variable {name} is not set",
            expected="the endpoint's key in it",
            todo=f"export {name}=..., or set endpoint.key_env=null for an endpoint without one",
        )
    return shadow.run(config, key=os.environ[name] if name else None)


def code(made: dict[str, Any]) -> int:
    """The exit code of the verdict."""
    return CODES[made["verdict"]]


if __name__ == "__main__":
    job("shadow", shadow.Config, run, code)
