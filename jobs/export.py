"""export: see conf/export.yaml for its settings, and `python jobs/export.py --help`."""

from raydistill import exports
from raydistill.config import job

if __name__ == "__main__":
    job("export", exports.Config, exports.run)
