"""export: see conf/export.yaml for its settings, and `python jobs/export.py --help`."""

from raydistill import export
from raydistill.config import job

if __name__ == "__main__":
    job("export", export.Config, export.run)
