"""registry: the releases there are; promotes and rolls back."""

from raydistill import registry
from raydistill.config import job

if __name__ == "__main__":
    job("registry", registry.Config, registry.run)
