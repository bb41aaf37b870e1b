"""export: a dataset as JSONL for other trainers, with a card."""

from raydistill import export
from raydistill.config import job

if __name__ == "__main__":
    job("export", export.Config, export.run)
