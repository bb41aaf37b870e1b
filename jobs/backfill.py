"""backfill: see conf/backfill.yaml for its settings, and `python jobs/backfill.py --help`."""

from raydistill import backfill
from raydistill.config import job

if __name__ == "__main__":
    job("backfill", backfill.Config, backfill.run)
