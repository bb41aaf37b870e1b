"""Requests before they are sent: what is asked, and when it is asked again."""

import json
import random
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx

from raydistill.client.answers import BATCH, ServiceError, broken
from raydistill.endpoint import backoff_s, retry_after_s

_AGAIN = frozenset({408, 429, 502, 503, 504})
# A timeout while reading is not tried again: the service may still be at work on it.
_PASSING = (
    httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.WriteError,
    httpx.RemoteProtocolError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long to try again; a service that asks for more than `most_wait_s` is
    not waited for.
    """

    tries: int = 5
    first_wait_s: float = 0.25
    most_wait_s: float = 30.0

    def wait_s(
        self, attempt: int, met: "httpx.Response | httpx.TransportError", now: datetime
    ) -> float | None:
        """Seconds until the next try after number `attempt` (from 0), or None to give up."""
        if attempt + 1 >= self.tries or not _passes(met):
            return None
        asked = retry_after_s(met.headers, now) if isinstance(met, httpx.Response) else 0.0
        if asked > self.most_wait_s:
            return None
        own = backoff_s(
            attempt, first_s=self.first_wait_s, most_s=self.most_wait_s, roll=random.random()
        )
        return max(asked, own)

    def next_wait_s(self, attempt: int, met: "httpx.Response | httpx.TransportError") -> float:
        """The same from now; raises the ServiceError where there is no next try."""
        wait = self.wait_s(attempt, met, datetime.now(timezone.utc))
        if wait is None:
            raise _problem(met) if isinstance(met, httpx.Response) else _lost(met)
        return wait


def _passes(met: "httpx.Response | httpx.TransportError") -> bool:
    if isinstance(met, httpx.Response):
        return met.status_code in _AGAIN
    return isinstance(met, _PASSING)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, before a client of either kind sends it."""

    method: str
    path: str
    content: bytes | None = None
    kind: str = "application/json"
    params: Mapping[str, str] = field(default_factory=dict[str, str])

    def made(self, client: "httpx.Client | httpx.AsyncClient") -> httpx.Request:
        """The request as a client sends it."""
        headers = {"Content-Type": self.kind} if self.content is not None else {}
        return client.build_request(
            self.method, self.path, content=self.content, headers=headers, params=dict(self.params)
        )


def bearer(token: str | None) -> dict[str, str]:
    """The header that a token goes in."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def tls(verify: str | bool) -> Any:
    """TLS: the machine's own authorities, those in a file, or (False) nobody's word."""
    if isinstance(verify, bool):
        return verify
    return ssl.create_default_context(cafile=verify)


def of_sentences(sentences: Sequence[str], task: str | None, key: str | None) -> Iterator[Asked]:
    """The requests for any number of sentences, so many in each as the service takes."""
    if isinstance(sentences, str):
        raise TypeError("sentences is a list of texts, not one text")
    path = f"v1/tasks/{task}" if task else "v1/extract"
    for at in range(0, max(1, len(sentences)), BATCH):
        body: dict[str, Any] = {"sentences": list(sentences[at : at + BATCH])}
        body |= {"key": key} if key else {}
        yield Asked("POST", path, json.dumps(body).encode())


def of_filing(filing: "str | bytes | Path", html: bool | None, only_records: bool) -> Asked:
    """The request for a filing: a file, its bytes, or text."""
    if isinstance(filing, Path):
        html = filing.suffix.lower() in (".htm", ".html") if html is None else html
        filing = filing.read_bytes()
    content = filing.encode() if isinstance(filing, str) else filing
    kind = "text/html" if html else "text/plain"
    params = {"only_records": "true"} if only_records else {}
    return Asked("POST", "v1/extract", content, kind, params)


def json_of(response: httpx.Response) -> Any:
    """A response's JSON. Raises ServiceError where it is none."""
    try:
        return response.json()
    except ValueError:
        raise ServiceError(response.status_code, "bad_answer", "the answer is no JSON") from None


def whole_lines(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a stream; AnswerBroken where it breaks."""
    try:
        yield from lines
    except httpx.TransportError as problem:
        raise broken(str(problem)) from None


async def whole_lines_async(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """The lines of a stream; AnswerBroken where it breaks."""
    try:
        async for line in lines:
            yield line
    except httpx.TransportError as problem:
        raise broken(str(problem)) from None


def _lost(problem: httpx.TransportError) -> ServiceError:
    code = "timeout" if isinstance(problem, httpx.TimeoutException) else "no_connection"
    return ServiceError(0, code, str(problem) or type(problem).__name__)


def _problem(response: httpx.Response) -> ServiceError:
    """What a response that is no answer says."""
    said: dict[str, Any] = {}
    try:
        value = response.json()
        said = value if isinstance(value, dict) else {}
    except ValueError:
        pass
    status = response.status_code
    detail = str(said.get("detail") or response.text[:200])
    request_id = str(said.get("request_id") or response.headers.get("x-request-id", ""))
    return ServiceError(
        status, str(said.get("code") or f"http_{status}"), detail, said.get("field"), request_id
    )
