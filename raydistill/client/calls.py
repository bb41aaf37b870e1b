"""The clients: one for plain code, one for asyncio, over the same requests and answers."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx

from raydistill.client import answers, asking
from raydistill.client.answers import Answer, AsyncFiling, Filing, Release
from raydistill.client.asking import Asked, Retries


class Client:
    """A client with one pool of connections; close it, or use it in `with`.

    `verify` is a file of certificates for a service with its own. Redirects are not followed: the
    token would go along.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
        retries: Retries | None = None,
        verify: str | bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.retries = retries or Retries()
        self._http = httpx.Client(
            base_url=url, headers=asking.bearer(token), timeout=timeout_s, transport=transport,
            verify=asking.tls(verify),
        )  # fmt: skip

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def extract(
        self, sentences: Sequence[str], *, task: str | None = None, key: str | None = None
    ) -> Answer:
        """The results of any number of sentences; `task` is another than the service's own.

        More than 256 are several requests. Raises ServiceError.
        """
        return answers.joined(
            [answers.answer(self._ask(one)) for one in asking.of_sentences(sentences, task, key)]
        )

    @contextmanager
    def filing(
        self, filing: "str | bytes | Path", *, html: bool | None = None, only_records: bool = False
    ) -> Generator[Filing]:
        """A filing's results as they come: a file, its bytes, or text. Raises ServiceError."""
        response = self._send(asking.of_filing(filing, html, only_records), stream=True)
        try:
            lines = asking.whole_lines(response.iter_lines())
            yield Filing(**answers.header(next(lines, "")), lines=lines)
        finally:
            response.close()

    def release(self) -> Release:
        """What the service answers with. Raises ServiceError."""
        return answers.release(self._ask(Asked("GET", "v1/release")))

    def healthy(self) -> bool:
        """Whether the service is up and warm; False where it cannot be reached."""
        try:
            return self._http.get("healthz").status_code == 200
        except httpx.TransportError:
            return False

    def _ask(self, asked: Asked) -> Any:
        return asking.json_of(self._send(asked))

    def _send(self, asked: Asked, *, stream: bool = False) -> httpx.Response:
        attempt = 0
        while True:
            try:
                met = self._http.send(asked.made(self._http), stream=stream)
                if met.status_code == 200:
                    return met
                met.read()
                met.close()
            except httpx.TransportError as problem:
                met = problem
            time.sleep(self.retries.next_wait_s(attempt, met))
            attempt += 1


class AsyncClient:
    """The same client for asyncio; close it, or use it in `async with`."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
        retries: Retries | None = None,
        verify: str | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.retries = retries or Retries()
        self._http = httpx.AsyncClient(
            base_url=url, headers=asking.bearer(token), timeout=timeout_s, transport=transport,
            verify=asking.tls(verify),
        )  # fmt: skip

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def extract(
        self, sentences: Sequence[str], *, task: str | None = None, key: str | None = None
    ) -> Answer:
        """The results of any number of sentences, as `Client.extract` gives them."""
        asked = asking.of_sentences(sentences, task, key)
        return answers.joined([answers.answer(await self._ask(one)) for one in asked])

    @asynccontextmanager
    async def filing(
        self, filing: "str | bytes | Path", *, html: bool | None = None, only_records: bool = False
    ) -> AsyncGenerator[AsyncFiling]:
        """A filing's results as they come, as `Client.filing` gives them."""
        response = await self._send(asking.of_filing(filing, html, only_records), stream=True)
        try:
            lines = asking.whole_lines_async(response.aiter_lines())
            first = await anext(lines, "")
            yield AsyncFiling(**answers.header(first), lines=lines)
        finally:
            await response.aclose()

    async def release(self) -> Release:
        """What the service answers with. Raises ServiceError."""
        return answers.release(await self._ask(Asked("GET", "v1/release")))

    async def healthy(self) -> bool:
        """Whether the service is up and warm; False where it cannot be reached."""
        try:
            return (await self._http.get("healthz")).status_code == 200
        except httpx.TransportError:
            return False

    async def _ask(self, asked: Asked) -> Any:
        return asking.json_of(await self._send(asked))

    async def _send(self, asked: Asked, *, stream: bool = False) -> httpx.Response:
        attempt = 0
        while True:
            try:
                met = await self._http.send(asked.made(self._http), stream=stream)
                if met.status_code == 200:
                    return met
                await met.aread()
                await met.aclose()
            except httpx.TransportError as problem:
                met = problem
            await asyncio.sleep(self.retries.next_wait_s(attempt, met))
            attempt += 1
