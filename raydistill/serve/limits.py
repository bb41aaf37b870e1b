"""Limits: how large, how many, how fast and how long; `limits` in conf/serve.yaml."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone

from starlette.requests import ClientDisconnect, Request

from raydistill.errors import SetupError
from raydistill.serve.problems import Problem, busy
from raydistill.serve.tokens import Token

_MEMBERS = 64  # each empty one costs time, and 800,000 of them fit into a body


@dataclass(kw_only=True, slots=True)
class Limits:
    """`body_bytes` is of a body as it comes, and unpacked; `waiting` counts requests under way."""

    body_bytes: int = 16 << 20
    body_s: float = 30.0
    sentences: int = 256
    filing_sentences: int = 200_000
    filing_chunk: int = 256
    request_s: float = 30.0
    filing_s: float = 300.0
    waiting: int = 256
    filings: int = 4

    def __post_init__(self) -> None:
        low = [name for name in self.__dataclass_fields__ if getattr(self, name) <= 0]
        if low:
            raise SetupError(f"limits: {', '.join(low)} not above 0", expected="numbers above 0")


async def body(request: Request, limits: Limits) -> bytes:
    """The request's body, unpacked where it is gzip.

    Raises Problem: 413 as soon as it is too large (packed or unpacked), 408 too slow, 415, 400.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise Problem(415, "wrong_encoding", f"Content-Encoding {encoding!r}: gzip or none")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.body_bytes:
        raise _too_large(limits)
    try:
        packed = await asyncio.wait_for(_read(request.stream(), limits), limits.body_s)
    except (TimeoutError, asyncio.TimeoutError):
        raise Problem(408, "slow_body", f"no whole body within {limits.body_s:g} s") from None
    except ClientDisconnect:
        raise Problem(400, "invalid_request", "the client went away") from None
    return gunzip(packed, limits) if "gzip" in encoding else packed


async def _read(stream: AsyncIterator[bytes], limits: Limits) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in stream:
        size += len(piece)
        if size > limits.body_bytes:
            raise _too_large(limits)
        pieces.append(piece)
    return b"".join(pieces)


def gunzip(packed: bytes, limits: Limits) -> bytes:
    """The content of a gzip body, of all its members; a bomb ends at the limit, not in memory."""
    out: list[bytes] = []
    room = limits.body_bytes
    for _ in range(_MEMBERS):
        member = zlib.decompressobj(wbits=31)
        try:
            piece = member.decompress(packed, room + 1)
        except zlib.error as problem:
            raise Problem(400, "wrong_encoding", f"the body is no gzip: {problem}") from None
        room -= len(piece)
        if room < 0:
            raise _too_large(limits)
        if not member.eof:
            raise Problem(400, "wrong_encoding", "the gzip body ends too early")
        out.append(piece)
        packed = member.unused_data
        if not packed:
            return b"".join(out)
    raise Problem(400, "wrong_encoding", f"more than {_MEMBERS} gzip members")


def _too_large(limits: Limits) -> Problem:
    return Problem(413, "too_large", f"more than {limits.body_bytes:,} bytes")


class Places:
    """So many requests at once; one more is told to come again."""

    def __init__(self, most: int, what: str) -> None:
        self.most, self.what, self.taken = most, what, 0

    @contextmanager
    def place(self) -> Generator[None, None, None]:
        """A place for the length of a `with`. Raises Problem 503 where there is none."""
        if self.taken >= self.most:
            raise busy(f"{self.taken} {self.what} under way")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


@dataclass(slots=True)
class _Account:
    """What one token has used: `room` of its bucket at a moment, sentences of a day."""

    room: float
    at: float
    day: str = ""
    sentences: int = 0


@dataclass(slots=True)
class Usage:
    """Rates and quotas by token. Each of `parts` processes that share the load lets in its part."""

    parts: int = 1
    clock: Callable[[], float] = time.monotonic
    today: Callable[[], str] = lambda: datetime.now(timezone.utc).date().isoformat()
    accounts: dict[str, _Account] = field(default_factory=dict)

    def request(self, token: Token | None) -> None:
        """Counts a request. Raises Problem 429 where the token's rate is passed."""
        if token is None or token.rate_per_s is None:
            return
        rate = token.rate_per_s / self.parts
        burst = max(1.0, rate)
        now = self.clock()
        one = self.accounts.setdefault(token.name, _Account(burst, now))
        one.room = min(burst, one.room + (now - one.at) * rate)
        one.at = now
        if one.room < 1:
            raise Problem(
                429, "too_fast", f"more than {token.rate_per_s:g} requests a second",
                retry_after_s=(1 - one.room) / rate,
            )  # fmt: skip
        one.room -= 1

    def sentences(self, token: Token | None, count: int) -> None:
        """Counts sentences. Raises Problem 429 where they would pass the day's quota."""
        if token is None or token.quota is None:
            return
        one = self.accounts.setdefault(token.name, _Account(1.0, self.clock()))
        if one.day != (day := self.today()):
            one.day, one.sentences = day, 0
        if one.sentences + count > token.quota / self.parts:
            now = datetime.now(timezone.utc)
            left = 86_400 - (now.hour * 3600 + now.minute * 60 + now.second)
            raise Problem(
                429, "quota_spent", f"more than {token.quota:,} sentences a day",
                retry_after_s=left,
            )  # fmt: skip
        one.sentences += count
