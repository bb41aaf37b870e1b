"""Benchmarks: `python jobs/bench.py bench=NAME`. A table, and one JSON object as the last line."""

from raydistill.bench import main
from raydistill.config import job

if __name__ == "__main__":
    job("bench", main.Config, main.run)
