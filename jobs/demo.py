"""demo: the whole way on an embedded PostgreSQL, in about ten minutes on two cores."""

from raydistill.config import job
from raydistill.demo import way as demo_way

if __name__ == "__main__":
    job("demo", demo_way.Config, demo_way.run)
