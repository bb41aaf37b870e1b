"""The service on a real Ray Serve: its answers, a replica that dies, a release that is swapped."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from raydistill.bench.load import closed, replicas, request
from raydistill.pipeline import Cascade
from raydistill.release import MANIFEST
from raydistill.serve.filing import result

ROOT = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    # Ray leaves the log of a killed process open.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def serving(tiny, tmp_path_factory):
    """A running `python jobs/serve.py`: its port and the link to its release."""
    folder = tmp_path_factory.mktemp("serving")
    link, port = folder / "link", free_port()
    link.symlink_to(tiny.release.folder)
    process = subprocess.Popen(
        [sys.executable, "jobs/serve.py", f"root={folder}", f"release={link}", f"port={port}",
         "threads=1", "watch_s=0.3"],
        cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    said = []
    for line in process.stdout:
        said.append(line)
        if "ready" in line and line.startswith("serve"):
            break
    assert process.poll() is None, said
    yield port, link
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def asked(port, texts):
    body = json.dumps({"sentences": texts}).encode()
    url = f"http://127.0.0.1:{port}/v1/extract"
    sent = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(sent, timeout=60) as answer:
        return json.loads(answer.read())


def under_load(port, text, act, for_s):
    """What eight clients saw while `act` ran after a second."""
    message = request("/v1/extract", json.dumps({"sentences": [text]}).encode())

    async def story():
        load = asyncio.create_task(closed(port, [message], clients=8, for_s=for_s, pause_s=0.1))
        await asyncio.sleep(1)
        act()
        return await load

    return asyncio.run(story())


def test_answers_on_ray_are_those_of_the_stages(serving, tiny):
    texts = tiny.dataset.table("test")["text"].to_pylist()[:200]
    rows = Cascade(tiny.release, threads=1).decide(texts)
    expected = [result(tiny.release.task, at, row) for at, row in enumerate(rows)]
    answered = asked(serving[0], texts)
    assert answered["release"] == tiny.release.name
    names = ("decision", "records", "spans", "error", "skip_score")
    for one, other in zip(answered["results"], expected, strict=True):
        assert [one[name] for name in names] == [other[name] for name in names]


def test_a_swapped_release_fails_no_request(serving, tiny, tmp_path):
    port, link = serving
    other = tmp_path / "other"
    shutil.copytree(tiny.release.folder, other)
    manifest = json.loads((other / MANIFEST).read_text())
    (other / MANIFEST).write_text(json.dumps(manifest | {"name": "swapped"}))

    def swap():
        fresh = link.with_name("fresh")
        fresh.symlink_to(other)
        fresh.replace(link)

    seen = under_load(port, "The Board amended its bylaws.", swap, 6)
    assert set(seen.statuses) == {200}
    assert seen.broken == 0
    assert asked(port, ["See Item 7."])["release"] == "swapped"


def test_a_killed_replica_is_replaced_and_only_503_is_told(serving):
    port, _ = serving
    killed = []

    def kill():
        for pid in replicas():
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    seen = under_load(port, "The Board amended its bylaws.", kill, 4)
    assert killed
    assert set(seen.statuses) <= {200, 503}
    assert seen.broken == 0
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(urllib.error.HTTPError):
            assert len(asked(port, ["See Item 7."])["results"]) == 1
            return
        time.sleep(0.2)
    raise AssertionError("the service did not come back")
