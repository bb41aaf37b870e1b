"""How fast the service is, beside the stages alone and an empty Ray Serve application.

Everything is on loopback and on one machine: the clients, the proxy, the ingress and the replica
share its cores. The teacher is a stub that answers after 50 ms.
"""

import asyncio
import contextlib
import json
import shutil
import socket
import statistics
import sys
import time
import urllib.request
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydistill.bench.load import Connection, Seen, closed, opened, request
from raydistill.demo.world import world
from raydistill.errors import SetupError
from raydistill.pipeline import Cascade
from raydistill.progress import table
from raydistill.release import verify
from raydistill.serve import deployment, settings
from raydistill.serve.settings import Config

CLIENTS = (1, 8, 64)
TEACHER_S = 0.05
_SKIP = json.dumps({"choices": [{"message": {"content": '{"skip": true}'}}]}).encode()


@dataclass(frozen=True, slots=True)
class Bench:
    """A running service and what it is asked."""

    port: int
    link: Path
    folder: Path
    state: Path
    texts: list[str]
    kinds: dict[str, list[str]]
    alone_ms: dict[str, float]
    before: dict[tuple[str, int], Seen]

    def messages(self, kind: str) -> list[bytes]:
        """A request for each sentence of a kind."""
        return messages(self.kinds[kind])

    def put(self, **change: Any) -> None:
        """Changes the rollout."""
        url = f"http://127.0.0.1:{self.port}/v1/rollout"
        headers = {"Content-Type": "application/json"}
        data = json.dumps(change).encode()
        asked = urllib.request.Request(url, data, headers, method="PUT")
        urllib.request.urlopen(asked, timeout=30).close()  # noqa: S310


def messages(texts: Sequence[str]) -> list[bytes]:
    """A request for each text."""
    bodies = [json.dumps({"sentences": [text]}).encode() for text in texts]
    return [request("/v1/extract", body) for body in bodies]


def run(release: Path, root: Path, *, for_s: float = 4.0) -> dict[str, Any]:
    """The figures of speed, after printing them as a table."""

    async def story() -> dict[str, Any]:
        async with running(release, root, floor_s=for_s) as bench:
            return await _speed(bench, for_s)

    return asyncio.run(story())


async def _speed(bench: Bench, for_s: float) -> dict[str, Any]:
    seen: dict[tuple[str, int], Seen] = dict(bench.before)
    for kind in ("extract", "keyword"):
        messages = bench.messages(kind)
        await closed(bench.port, messages, clients=8, for_s=1)
        for clients in CLIENTS:
            seen[kind, clients] = await closed(bench.port, messages, clients=clients, for_s=for_s)
    half = seen["extract", 64].rate / 2
    seen["extract, open loop at half of that", 0] = await opened(
        bench.port, bench.messages("extract"), rate=half, for_s=for_s
    )
    cost, beside = await _shadow(bench, for_s)
    flood, recovery_s = await _flood(bench, for_s)
    rows = [
        (kind, str(n or "-"), f"{one.rate:,.0f}", f"{one.ms(50):.1f}", f"{one.ms(99):.1f}")
        for (kind, n), one in {**seen, **beside, ("flood", 512): flood}.items()
    ]
    print(table(rows, ("asked", "clients", "answers/s", "p50 ms", "p99 ms")))
    one, empty = seen["extract", 1], seen["empty", 1]
    over = one.ms(50) - bench.alone_ms["extract"]
    everything = [*seen.values(), *beside.values(), flood]
    refused, answers = flood.statuses[503], sum(flood.statuses.values())
    return {
        "p50_ms": one.ms(50),
        "p99_ms": one.ms(99),
        "p50_keyword_ms": seen["keyword", 1].ms(50),
        "p50_empty_ms": empty.ms(50),
        "p50_alone_ms": bench.alone_ms["extract"],
        "p50_alone_keyword_ms": bench.alone_ms["keyword"],
        "p50_vs_empty": over / empty.ms(50),
        "per_s_1": one.rate,
        "per_s_64": seen["extract", 64].rate,
        "throughput_gain": seen["extract", 64].rate / max(1e-9, one.rate),
        "throughput_gain_empty": seen["empty", 64].rate / max(1e-9, empty.rate),
        "shadow_cost": cost,
        "flood_503": refused / max(1, answers),
        "flood_recovery_s": recovery_s,
        "errors": sum(each.errors for each in everything),
    }


async def _shadow(bench: Bench, for_s: float) -> tuple[float, dict[tuple[str, int], Seen]]:
    """What shadow costs of the throughput: the two modes in turn, three times."""
    rates: dict[str, list[float]] = {"teacher_only": [], "shadow": []}
    last: dict[tuple[str, int], Seen] = {}
    for _ in range(3):
        for mode, some in rates.items():
            bench.put(mode=mode, mirror=0.1)
            seen = await closed(bench.port, bench.messages("extract"), clients=16, for_s=for_s / 2)
            some.append(seen.rate)
            last[mode, 16] = seen
    bench.put(mode="student_only", mirror=0.0)
    medians = {mode: statistics.median(some) for mode, some in rates.items()}
    return 1 - medians["shadow"] / medians["teacher_only"], last


async def _flood(bench: Bench, for_s: float) -> tuple[Seen, float]:
    """Twice as many clients as there are places, and the seconds until one is served as before."""
    messages = bench.messages("extract")
    calm = (await closed(bench.port, messages, clients=1, for_s=2)).ms(50)
    flood = await closed(bench.port, messages, clients=512, for_s=for_s, pause_s=0.2)
    began = time.perf_counter()
    connection = Connection(bench.port)
    while time.perf_counter() - began < 60:
        asked = time.perf_counter()
        status = await connection.send(messages[0])
        if status == 200 and 1000 * (time.perf_counter() - asked) < 2 * calm + 5:
            break
    connection.close()
    return flood, time.perf_counter() - began


@contextlib.asynccontextmanager
async def running(
    release: Path, root: Path, *, floor_s: float = 0.0
) -> AsyncGenerator[Bench, None]:
    """`python jobs/serve.py` over a copy of the release behind a link, with a stub teacher.

    With `floor_s`, an empty Serve application and the service behind Serve's own proxies are
    measured first, for so long each.
    """
    folder = root / "release"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(release, folder)
    link = root / "link"
    link.symlink_to(folder.absolute())
    texts = world(seed=23, filings=50, companies=25, event_share=0.05).sentences["sentence"]
    chosen = texts.to_pylist()[:10_000]
    kinds, alone_ms = await asyncio.to_thread(_alone, folder, chosen)
    teacher = await asyncio.start_server(_teacher, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{teacher.sockets[0].getsockname()[1]}/v1"
    before = await _floor(link, root, kinds["extract"], floor_s) if floor_s else {}
    port = _free_port()
    command = [
        sys.executable, "-m", "raydistill", "serve", f"root={root}", f"release={link}",
        "runtime=ray", f"port={port}", "watch_s=0.5", f"teacher.url={url}",
        # The stub disagrees with every event: no gate may change the mode that is measured.
        "rollout.mirror=0", "rollout.agreement=0", "rollout.errors=1",
    ]  # fmt: skip
    log = (root / "serve.log").open("w")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=log
    )
    try:
        assert process.stdout is not None
        while not (line := await process.stdout.readline()).startswith(b"serve: ready"):
            if not line:
                raise SetupError("the service did not start", todo=f"see {log.name}")
        yield Bench(port, link, folder, root / "rollout.json", chosen, kinds, alone_ms, before)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        log.close()
        teacher.close()


async def _floor(
    link: Path, root: Path, texts: Sequence[str], for_s: float
) -> dict[tuple[str, int], Seen]:
    """An empty application, and ours behind Serve's proxies."""
    port = _free_port()
    config = settings.checked(Config(root=str(root), release=str(link), port=port, page=False))
    asked = {
        "empty": [request("/empty/", b"{}")],
        "extract behind Serve's proxy": messages(texts),
    }
    await asyncio.to_thread(deployment.start, config)
    await asyncio.to_thread(deployment.start_empty, "/empty")
    seen: dict[tuple[str, int], Seen] = {}
    try:
        for kind, some in asked.items():
            await closed(port, some, clients=8, for_s=1)
            for clients in (1, 64):
                seen[kind, clients] = await closed(port, some, clients=clients, for_s=for_s)
    finally:
        await asyncio.to_thread(deployment.stop)
    return seen


def _alone(folder: Path, texts: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, float]]:
    """Sentences by decision, and the stages' own time for one of each kind."""
    threads = settings.plan(Config(release=str(folder)), _cores()).threads
    cascade = Cascade(verify(folder), threads=threads)
    kinds: dict[str, list[str]] = {}
    for text, row in zip(texts, cascade.decide(texts), strict=True):
        kinds.setdefault(row.decision, []).append(text)
    alone_ms: dict[str, float] = {}
    for kind in ("extract", "keyword"):
        seconds: list[float] = []
        for text in kinds[kind][:200]:
            began = time.perf_counter()
            cascade.decide([text])
            seconds.append(time.perf_counter() - began)
        alone_ms[kind] = 1000 * statistics.median(seconds)
    return {kind: some[:500] for kind, some in kinds.items()}, alone_ms


def _cores() -> int:
    import os

    return os.cpu_count() or 1


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


async def _teacher(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every question alike, after a while."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(_SKIP)}\r\n\r\n".encode()
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            asked = (await reader.readuntil(b"\r\n\r\n")).lower()
            at = asked.index(b"content-length:")
            await reader.readexactly(int(asked[at + 15 : asked.index(b"\r\n", at)]))
            await asyncio.sleep(TEACHER_S)
            writer.write(head + _SKIP)
    writer.close()
