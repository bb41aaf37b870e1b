"""build: a teacher's rows become a dataset: splits by company, tokenizer, prefilter."""

from raydistill import build
from raydistill.config import job

if __name__ == "__main__":
    job("build", build.Config, build.run)
