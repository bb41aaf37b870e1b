"""evaluate: a release against its teacher on kept-back companies; a report."""

from raydistill import evaluate
from raydistill.config import job

if __name__ == "__main__":
    job("evaluate", evaluate.Config, evaluate.run)
