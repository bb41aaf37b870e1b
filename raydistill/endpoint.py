"""Endpoints: a large model behind an OpenAI-compatible HTTP server (vLLM, Ollama, a vendor).

The one home of httpx. An `Endpoint` keeps to a rate, waits as long as the server asks it to, and
tries again what may pass; what will not pass is a DataError of that request or, where it concerns
every request, a SetupError. The key is in no message, no `repr` and no log.
"""

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

import httpx

from raydistill.errors import DataError, SetupError

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_SETUP = frozenset({301, 302, 307, 308, 401, 402, 403, 404, 405})
_MAX_BODY = 8 << 20


@dataclass(kw_only=True, slots=True)
class EndpointConfig:
    """Where a model answers, see Endpoint; `key_env` names the variable that holds the key."""

    url: str
    model: str
    key_env: str | None = None
    concurrency: int = 16
    timeout_s: float = 120.0
    tries: int = 6
    first_wait_s: float = 1.0
    most_wait_s: float = 60.0
    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0
    max_output: int = 1024
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.tries < 1 or self.timeout_s <= 0 or self.max_output < 1:
            raise SetupError(
                f"endpoint: concurrency={self.concurrency}, tries={self.tries},"
                f" timeout_s={self.timeout_s}, max_output={self.max_output}",
                expected="concurrency, tries and max_output of at least 1, timeout_s above 0",
            )


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model wrote, and the tokens it was charged for (estimated where it does not say)."""

    text: str
    input_tokens: int
    output_tokens: int
    tries: int


class EndpointLost(DataError):
    """No answer, at any try: `timeout`, `no_connection`, `bad_reply`, `http_500`."""


@dataclass(slots=True)
class Pace:
    """Spreads units (requests, tokens) evenly, `per_minute` of them; 0 is without a limit."""

    per_minute: float
    _next: float = 0.0

    def wait_s(self, units: float, now: float) -> float:
        """Seconds to wait until these units may go; they are taken."""
        if not self.per_minute:
            return 0.0
        at = max(now, self._next)
        self._next = at + 60.0 * units / self.per_minute
        return at - now

    def correct(self, units: float) -> None:
        """Takes units that turned out to be used, or gives back (below 0) what was not."""
        if self.per_minute:
            self._next += 60.0 * units / self.per_minute


def backoff_s(attempt: int, *, first_s: float, most_s: float, roll: float) -> float:
    """The wait after failure `attempt` (from 0): doubled each time, drawn from its upper half."""
    whole = min(most_s, first_s * 2.0 ** min(attempt, 30))
    return whole * (0.5 + 0.5 * roll)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float:
    """How long the server asks to wait (seconds or an HTTP date); 0 where it does not say."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        if not (value := headers.get(name, "").strip()):
            continue
        try:
            return max(0.0, float(value) * scale)
        except ValueError:
            pass
        try:
            return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
        except (ValueError, TypeError):
            continue
    return 0.0


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """An open client: `async with Endpoint(...) as endpoint: await endpoint.ask(messages)`.

    `url` is the base of the API (`http://127.0.0.1:8000/v1`); `extra` is added to each request's
    body as it is (`{"response_format": {"type": "json_object"}}`), and null takes a key out of it.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    tries: int = 6
    first_wait_s: float = 1.0
    most_wait_s: float = 60.0
    longest_ask_s: float = 600.0  # a server that asks for more is lost, not slow
    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0
    max_output: int = 1024
    extra: dict[str, Any] = field(default_factory=dict)
    _client: httpx.AsyncClient | None = field(default=None, init=False, repr=False)
    _requests: Pace = field(init=False, repr=False)
    _tokens: Pace = field(init=False, repr=False)
    _until: float = field(default=0.0, init=False, repr=False)
    _dice: random.Random = field(default_factory=random.Random, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise SetupError(
                f"url={self.url!r}",
                expected="the base of an OpenAI-compatible API, such as http://127.0.0.1:8000/v1",
            )
        self._requests = Pace(self.requests_per_minute)
        self._tokens = Pace(self.tokens_per_minute)

    async def __aenter__(self) -> "Endpoint":
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        timeout = httpx.Timeout(self.timeout_s, connect=min(10.0, self.timeout_s), pool=None)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        # Redirects are not followed: the key would go along.
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout, limits=limits)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def ask(self, messages: Sequence[Mapping[str, str]], *, tokens: int = 0) -> Reply:
        """The model's answer. `tokens` is an estimate of input and output, for the rate limit.

        Raises SetupError (wrong key, model or address), EndpointLost when every try failed, and
        DataError `refused_<status>` when the server will not answer this request.
        """
        body = {"model": self.model, "messages": list(messages), "max_tokens": self.max_output}
        body = {"temperature": 0, **body, **self.extra}
        body = {name: value for name, value in body.items() if value is not None}
        lost = EndpointLost("no_connection")
        for attempt in range(self.tries):
            await self._turn(tokens)
            asked_s = 0.0
            try:
                # httpx times each read: a server that drips would never be too late for it.
                status, headers, content = await asyncio.wait_for(self._post(body), self.timeout_s)
            except (httpx.TimeoutException, asyncio.TimeoutError):
                lost = EndpointLost("timeout", f"no answer within {self.timeout_s:g} s")
            except httpx.TransportError as problem:
                lost = EndpointLost("no_connection", self._hidden(str(problem) or repr(problem)))
            else:
                if status == 200 and (reply := _reply(content, messages, attempt + 1)):
                    self._tokens.correct(reply.input_tokens + reply.output_tokens - tokens)
                    return reply
                if status != 200 and status not in _AGAIN:
                    raise self._refusal(status, content)
                lost = EndpointLost("bad_reply" if status == 200 else f"http_{status}")
                lost.detail = self._hidden(_message(content))
                asked_s = retry_after_s(headers, datetime.now(timezone.utc))
            if asked_s > self.longest_ask_s:
                break
            await self._wait(attempt, asked_s)
        raise lost

    async def _post(self, body: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        if self._client is None:
            raise RuntimeError("an Endpoint is used inside `async with`")
        url = f"{self.url.rstrip('/')}/chat/completions"
        content = b""
        async with self._client.stream("POST", url, json=body) as response:
            try:
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > _MAX_BODY:
                        return 200, response.headers, b""
            except httpx.DecodingError as problem:
                raise httpx.ReadError(f"undecodable body: {problem}") from None
            return response.status_code, response.headers, content

    async def _turn(self, tokens: int) -> None:
        """Waits until the rates and the server's own wishes allow one more request."""
        now = time.monotonic()
        wait = max(self._requests.wait_s(1, now), self._tokens.wait_s(tokens, now))
        await asyncio.sleep(max(wait, self._until - now, 0.0))

    async def _wait(self, attempt: int, asked_s: float) -> None:
        wait = backoff_s(
            attempt, first_s=self.first_wait_s, most_s=self.most_wait_s, roll=self._dice.random()
        )
        if asked_s:  # it is asked of all requests, not of this one alone
            self._until = max(self._until, time.monotonic() + asked_s)
        await asyncio.sleep(max(wait, asked_s))

    def _refusal(self, status: int, content: bytes) -> Exception:
        message = self._hidden(_message(content))
        if status not in _SETUP:
            return DataError(f"refused_{status}", message)
        return SetupError(
            f"{self.url} answers {status} for model {self.model!r}: {message}",
            expected="an OpenAI-compatible API that knows this model and takes this key",
            todo="correct url= and model=, and the environment variable that key_env= names",
        )

    def _hidden(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text


def opened(config: EndpointConfig, key: str | None) -> Endpoint:
    """The endpoint of a config."""
    return Endpoint(
        url=config.url,
        model=config.model,
        key=key,
        timeout_s=config.timeout_s,
        tries=config.tries,
        first_wait_s=config.first_wait_s,
        most_wait_s=config.most_wait_s,
        requests_per_minute=config.requests_per_minute,
        tokens_per_minute=config.tokens_per_minute,
        max_output=config.max_output,
        extra=config.extra,
    )


def _reply(content: bytes, messages: Sequence[Mapping[str, str]], tries: int) -> Reply | None:
    """The answer in a response's body, or None where the body is no chat completion."""
    value = _json(content)
    try:
        text = value["choices"][0]["message"]["content"]
        usage = value.get("usage") or {}
        if not isinstance(text, str):
            text = "" if text is None else None
        if text is None or not isinstance(usage, dict):
            return None
        asked = sum(len(one["content"]) for one in messages)
        return Reply(
            text,
            int(usage.get("prompt_tokens") or _tokens(asked)),
            int(usage.get("completion_tokens") or _tokens(len(text))),
            tries,
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None


def _tokens(characters: int) -> int:
    return characters // 4 + 1


def _message(content: bytes) -> str:
    """The error's text in a response's body, shortened."""
    value = _json(content)
    error = value.get("error", value) if isinstance(value, dict) else value
    told = error.get("message", error) if isinstance(error, dict) else error
    return str(told if told is not None else content[:200].decode(errors="replace"))[:200]


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
