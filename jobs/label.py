"""label: more labels from a large model behind an OpenAI-compatible endpoint."""

import os
from typing import Any

from raydistill import label
from raydistill.config import job
from raydistill.errors import SetupError


def run(config: label.Config) -> dict[str, Any]:
    """Reads the key from the environment: no configuration holds one."""
    name = config.endpoint.key_env
    if name and not os.environ.get(name):
        raise SetupError(
            f"the environment variable {name} is not set",
            expected="the endpoint's key in it",
            todo=f"export {name}=..., or set endpoint.key_env=null for an endpoint without one",
        )
    return label.run(config, key=os.environ[name] if name else None)


if __name__ == "__main__":
    job("label", label.Config, run)
