"""Load: many clients over kept connections, in a closed loop or at a rate of its own."""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(slots=True)
class Seen:
    """Latencies of answered requests in seconds, statuses, broken connections and the length."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    lasted_s: float = 0.0

    @property
    def rate(self) -> float:
        """Answers 200 a second."""
        return self.statuses[200] / max(self.lasted_s, 1e-9)

    @property
    def errors(self) -> int:
        """What is neither an answer nor a told 503."""
        return self.broken + sum(n for s, n in self.statuses.items() if s not in (200, 503))

    def ms(self, percent: float) -> float:
        """A percentile of the latencies, in milliseconds."""
        return 1000 * float(np.percentile(self.seconds, percent)) if self.seconds else float("nan")


def request(path: str, body: bytes, kind: str = "application/json") -> bytes:
    """A POST as its bytes."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection:
    """A kept connection that sends prepared requests and reads whole responses."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, message: bytes) -> int:
        """The response's status; the body is read and thrown away."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(message)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        at = head.find(b"content-length:")
        if at >= 0:
            await reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
        else:
            await reader.readuntil(b"0\r\n\r\n")
        if b"connection: close" in head:
            self.close()
        return status

    def close(self) -> None:
        """Ends the connection."""
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def closed(
    port: int,
    messages: Sequence[bytes],
    *,
    clients: int,
    for_s: float,
    pause_s: float = 0.0,
    seen: Seen | None = None,
) -> Seen:
    """Clients that ask again as soon as they are answered (after `pause_s` where they are not)."""
    seen = Seen() if seen is None else seen
    turn = itertools.cycle(messages)
    began = time.perf_counter()

    async def client() -> None:
        connection = Connection(port)
        while (now := time.perf_counter()) - began < for_s:
            answered = await _send(connection, next(turn), now, seen)
            if not answered and pause_s:
                await asyncio.sleep(pause_s)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    seen.lasted_s = time.perf_counter() - began
    return seen


async def opened(port: int, messages: Sequence[bytes], *, rate: float, for_s: float) -> Seen:
    """Requests at a fixed rate, whatever is answered; latencies count from when they were due."""
    seen = Seen()
    turn = itertools.cycle(messages)
    idle: list[Connection] = []
    under_way: set[asyncio.Task[None]] = set()
    began = time.perf_counter()

    async def one(due: float) -> None:
        connection = idle.pop() if idle else Connection(port)
        await _send(connection, next(turn), due, seen)
        idle.append(connection)

    for number in range(int(rate * for_s)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.wait(under_way, timeout=60)
    seen.lasted_s = time.perf_counter() - began
    for connection in idle:
        connection.close()
    return seen


async def _send(connection: Connection, message: bytes, due: float, seen: Seen) -> bool:
    try:
        status = await connection.send(message)
    except (OSError, asyncio.IncompleteReadError):
        seen.broken += 1
        with contextlib.suppress(OSError):
            connection.close()
        connection.streams = None
        return False
    seen.statuses[status] += 1
    if status == 200:
        seen.seconds.append(time.perf_counter() - due)
    return status == 200


def replicas() -> list[int]:
    """The processes of the cascade's replicas on this machine."""
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes() if folder.name.isdecimal() else b""
        except OSError:
            continue
        if b"ServeReplica:raydistill:Student" in line:
            found.append(int(folder.name))
    return found
