"""train: a dataset becomes a student: a skip classifier or an extractor."""

from raydistill import train
from raydistill.config import job

if __name__ == "__main__":
    job("train", train.Config, train.run)
