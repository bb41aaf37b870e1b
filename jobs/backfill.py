"""backfill: filings become events in PostgreSQL, each filing exactly once a release."""

from raydistill import backfill
from raydistill.config import job

if __name__ == "__main__":
    job("backfill", backfill.Config, backfill.run)
