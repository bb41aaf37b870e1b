"""A Ray cluster of several nodes on this machine: each `ray start` of its own, so each can die."""

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raydistill.errors import SetupError
from raydistill.on_ray.cluster import WORKERS

RAY = Path(sys.executable).with_name("ray")
LABEL = "part=extract"  # of the workers, as in cluster.yaml
_STORE_MIB = 150
_STOP_WAIT_S = 60  # until `ray job stop` kills; Ray's own 3 s are less than a chunk


class Nodes:
    """A head and workers, started by `with`; `submit` runs a verb as a Ray job on them."""

    def __init__(self, workers: int, *, cpus: int = 2, head_cpus: int = 1) -> None:
        self.count, self.cpus, self.head_cpus = workers, cpus, head_cpus
        self.folder = Path(tempfile.mkdtemp(prefix="rd"))  # short: sockets have long names
        self.port, self.dashboard, self.client = free_port(), free_port(), free_port()
        # Nodes and those who submit share a token of this cluster's own.
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.started = 0
        self.head: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        """Where jobs are submitted."""
        return f"http://127.0.0.1:{self.dashboard}"

    def __enter__(self) -> "Nodes":
        try:
            self.head = self._start(
                "--head", f"--port={self.port}", f"--ray-client-server-port={self.client}",
                f"--dashboard-port={self.dashboard}", "--dashboard-host=127.0.0.1",
                f"--num-cpus={self.head_cpus}", f"--temp-dir={self.folder}",
            )  # fmt: skip
            _await(lambda: self._get("/api/version") is not None, 90, "the head's job server")
            for _ in range(self.count):
                self.add()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for one in [*self.workers, *([self.head] if self.head else [])]:
            _end(one)
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self) -> None:
        """Starts one more worker node. One at a time: of two that start at once one gives up.

        Waits first until the head has seen that killed ones are gone, or it would count them.
        """
        there = 1 + len(self.workers)
        _await(lambda: self.alive() == there, 120, "the head's word on which nodes are alive")
        started = self._start(
            f"--address=127.0.0.1:{self.port}", f"--num-cpus={self.cpus}", f"--labels={LABEL}"
        )
        self.workers.append(started)
        _await(lambda: self.alive() > there, 90, "a worker")

    def _start(self, *options: str) -> "subprocess.Popen[bytes]":
        own = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        # A job's `python` is found on the path of its node.
        own["PATH"] = f"{RAY.parent}{os.pathsep}{own.get('PATH', '')}"
        quiet = {**WORKERS, "RAY_USAGE_STATS_ENABLED": "0"}
        quiet["RAY_JOB_STOP_WAIT_TIME_S"] = str(_STOP_WAIT_S)
        self.started += 1
        command = [
            str(RAY), "start", "--block", *options, "--node-ip-address=127.0.0.1",
            f"--object-store-memory={_STORE_MIB << 20}", "--dashboard-agent-listen-port=0",
            "--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats",
        ]  # fmt: skip
        with (self.folder / f"start-{self.started}.log").open("wb") as log:
            return subprocess.Popen(
                command,
                env={**own, **quiet, **self.token},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _get(self, path: str) -> Any:
        """The head's answer as JSON; None where it gives none."""
        asked = http.client.HTTPConnection("127.0.0.1", self.dashboard, timeout=5)
        try:
            bearer = {"Authorization": f"Bearer {self.token['RAY_AUTH_TOKEN']}"}
            asked.request("GET", path, headers=bearer)
            return json.loads(asked.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            asked.close()

    def alive(self) -> int:
        """How many nodes the head counts as alive."""
        found = self._get("/nodes?view=summary") or {}
        nodes = found.get("data", {}).get("summary", [])
        return sum(one["raylet"].get("state") == "ALIVE" for one in nodes)

    def kill_one_with(self, process: str) -> None:
        """Kills the worker node on which a process of this name runs, with all that is on it."""
        for one in self.workers:
            if any(process in name for name in _family(one.pid).values()):
                _end(one)
                self.workers.remove(one)
                return
        raise SetupError(f"no worker node runs {process}")

    def head_runs(self, process: str) -> bool:
        """Whether the head runs a process of this name."""
        return self.head is not None and any(process in n for n in _family(self.head.pid).values())

    def submit(self, folder: Path, *command: str, id: str = "") -> "subprocess.Popen[str]":
        """`ray job submit` of a command from a working directory; its output is the job's."""
        named = [f"--submission-id={id}"] if id else []
        return self._job("submit", *named, f"--working-dir={folder}", "--", *command)

    def stop(self, id: str) -> str:
        """`ray job stop`: asks the job to end, waits until it has, and gives its last state."""
        finished(self._job("stop", id))
        found = self._get(f"/api/jobs/{id}") or {}
        return str(found.get("status"))

    def _job(self, verb: str, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(RAY), "job", verb, f"--address={self.address}", *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **self.token, "RAY_ADDRESS": self.address},
        )  # fmt: skip


def finished(job: "subprocess.Popen[str]", patience_s: float = 280) -> str:
    """What a job printed, once it has ended well. Raises SetupError with it where it has not."""
    out, _ = job.communicate(timeout=patience_s)
    if job.returncode:
        raise SetupError(f"a job failed with {job.returncode}:\n{out[-4000:]}")
    return out


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(true: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise SetupError(f"{what} did not come up in {seconds:.0f} s", todo="see ray's logs")
        time.sleep(0.3)


def _family(pid: int) -> dict[int, str]:
    """A process and all that came from it, with their command lines."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int(
                    (folder / "stat").read_text().rsplit(")")[1].split()[1]
                )
            except (OSError, IndexError):
                continue
    found, fresh = {pid}, {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
        found |= fresh
    out: dict[int, str] = {}
    for one in found:
        try:
            raw = Path(f"/proc/{one}/cmdline").read_bytes()
        except OSError:
            continue
        out[one] = raw.replace(b"\0", b" ").decode(errors="replace")
    return out


def _end(one: "subprocess.Popen[Any]") -> None:
    """Kills a node with all its processes, and waits until it is gone. It drains nothing."""
    for pid in _family(one.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    one.wait()
