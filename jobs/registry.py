"""registry: see conf/registry.yaml for its settings, and `python jobs/registry.py --help`."""

from raydistill import registry
from raydistill.config import job

if __name__ == "__main__":
    job("registry", registry.Config, registry.run)
