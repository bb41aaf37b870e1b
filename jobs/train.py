"""train: see conf/train.yaml for its settings, and `python jobs/train.py --help`."""

from raydistill import train
from raydistill.config import job

if __name__ == "__main__":
    job("train", train.Config, train.run)
