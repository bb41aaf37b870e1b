"""publish: see conf/publish.yaml for its settings, and `python jobs/publish.py --help`."""

from raydistill import publish
from raydistill.config import job

if __name__ == "__main__":
    job("publish", publish.Config, publish.run)
