"""serve: answers sentences and filings over HTTP, as backfill would; its tokens and its mode."""

from raydistill.config import job
from raydistill.serve import run as serve

if __name__ == "__main__":
    job("serve", serve.Config, serve.run)
