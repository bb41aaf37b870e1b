"""review: a sheet of labels for people to check, and their corrections back."""

from raydistill import review
from raydistill.config import job

if __name__ == "__main__":
    job("review", review.Config, review.run)
