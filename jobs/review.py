"""review: see conf/review.yaml for its settings, and `python jobs/review.py --help`."""

from raydistill import review
from raydistill.config import job

if __name__ == "__main__":
    job("review", review.Config, review.run)
