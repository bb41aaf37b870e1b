"""build: see conf/build.yaml for its settings, and `python jobs/build.py --help`."""

from raydistill import build
from raydistill.config import job

if __name__ == "__main__":
    job("build", build.Config, build.run)
