"""The whole way on an embedded PostgreSQL: `make demo`."""

from raydistill import demo_way
from raydistill.config import job

if __name__ == "__main__":
    job("demo", demo_way.Config, demo_way.run)
