"""evaluate: see conf/evaluate.yaml for its settings, and `python jobs/evaluate.py --help`."""

from raydistill import evaluate
from raydistill.config import job

if __name__ == "__main__":
    job("evaluate", evaluate.Config, evaluate.run)
