"""A typed client of the service: sentences and filings in, records with their places out.

    with Client("http://127.0.0.1:8000", token="...") as client:
        for result in client.extract(["Acme Corp. acquired Widget LLC on May 3, 2021."]).results:
            print(result.decision, result.records)
        with client.filing(Path("8-K.htm")) as filing:
            for result in filing:
                print(filing.sentence(result), result.records)

`AsyncClient` has the same calls with `await` and `async with`. What may pass (429, 503, 408, a
broken connection) is tried again, as late as `Retry-After` asks; nothing is asked twice once an
answer has begun. An answer is either whole or an exception.
"""

from raydistill.client.answers import (
    Answer,
    AnswerBroken,
    AsyncFiling,
    Filing,
    Release,
    Result,
    ServiceError,
)
from raydistill.client.asking import Retries
from raydistill.client.calls import AsyncClient, Client

__all__ = [
    "Answer", "AnswerBroken", "AsyncClient", "AsyncFiling", "Client", "Filing", "Release", "Result",
    "Retries", "ServiceError",
]  # fmt: skip
