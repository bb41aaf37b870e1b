"""publish: students become a release: int8, compared with their masters, hashed."""

from raydistill import publish
from raydistill.config import job

if __name__ == "__main__":
    job("publish", publish.Config, publish.run)
