"""bench: benchmarks; each prints its figures, and as its last line one JSON object."""

from raydistill.bench import main
from raydistill.config import job

if __name__ == "__main__":
    job("bench", main.Config, main.run)
