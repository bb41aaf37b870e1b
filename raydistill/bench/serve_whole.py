"""Whether the service stays whole: the answers of backfill, a release swapped, a replica killed."""

import asyncio
import json
import os
import shutil
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

from raydistill import filings
from raydistill.bench.load import Seen, closed, replicas
from raydistill.bench.serve import Bench, running
from raydistill.errors import FilingError
from raydistill.pipeline import Cascade
from raydistill.release import MANIFEST, verify
from raydistill.serve.filing import result
from raydistill.serve.student import split

_SAME = ("index", "decision", "records", "spans", "error", "skip_score")


def run(release: Path, root: Path, *, corpus: Path | None) -> dict[str, Any]:
    """The figures: differences over 10,000 sentences and all raw filings, and failed requests."""

    async def story() -> dict[str, Any]:
        async with running(release, root) as bench:
            made = await asyncio.to_thread(_differences, bench)
            if corpus is not None:
                made |= await asyncio.to_thread(_filings, bench, corpus)
            made |= await _swapped(bench)
            return made | await _killed(bench)

    made = asyncio.run(story())
    for name, value in made.items():
        print(f"{name:24} {value}")
    return made


def _post(bench: Bench, body: bytes, kind: str) -> bytes:
    url = f"http://127.0.0.1:{bench.port}/v1/extract"
    asked = urllib.request.Request(url, body, {"Content-Type": kind})
    with urllib.request.urlopen(asked, timeout=300) as answer:  # noqa: S310
        return answer.read()


def _differences(bench: Bench) -> dict[str, Any]:
    """Sentences that the service answers otherwise than the stages do over all of them at once."""
    opened = verify(bench.folder)
    rows = Cascade(opened, threads=2).decide(bench.texts)
    different = 0
    for at in range(0, len(bench.texts), 250):
        body = json.dumps({"sentences": bench.texts[at : at + 250]}).encode()
        answered = json.loads(_post(bench, body, "application/json"))["results"]
        for place, one in enumerate(answered):
            expected = result(opened.task, place, rows[at + place])
            different += any(one[name] != expected[name] for name in _SAME)
    return {"sentences": len(rows), "different": different}


def _filings(bench: Bench, corpus: Path) -> dict[str, Any]:
    """The same over raw filings, each as one request."""
    cascade = Cascade(verify(bench.folder), threads=2)
    made = {"filings": 0, "filing_sentences": 0, "filing_different": 0, "unreadable": 0}
    for name in filings.find(str(corpus)):
        data = filings.open_bytes(name)
        try:
            cut = split("request", data)
        except FilingError:
            made["unreadable"] += 1
            continue
        texts = [cut.filing.text[start:end] for start, end in cut.spans]
        rows = cascade.decide(texts)
        lines = [json.loads(line) for line in _post(bench, data, "text/html").splitlines()]
        made["filings"] += 1
        made["filing_sentences"] += len(texts)
        made["filing_different"] += lines[-1]["kind"] != "end" or len(lines) != len(rows) + 2
        for place, (one, row) in enumerate(zip(lines[1:-1], rows, strict=False)):
            expected = result(cascade.release.task, place, row)
            made["filing_different"] += any(one[key] != expected[key] for key in _SAME)
    return made


async def _swapped(bench: Bench) -> dict[str, Any]:
    """A new release behind the link while eight clients ask."""
    other = bench.folder.with_name("other")
    shutil.copytree(bench.folder, other)
    manifest = json.loads((other / MANIFEST).read_text())
    (other / MANIFEST).write_text(json.dumps(manifest | {"name": "swapped"}))
    load = asyncio.create_task(closed(bench.port, bench.messages("extract"), clients=8, for_s=10))
    await asyncio.sleep(2)
    fresh = bench.link.with_name("fresh")
    fresh.symlink_to(other)
    fresh.replace(bench.link)
    seen = await load
    body = json.dumps({"sentences": ["See Item 7."]}).encode()
    now = json.loads(_post(bench, body, "application/json"))["release"]
    failed = seen.broken + sum(n for status, n in seen.statuses.items() if status != 200)
    return {"swap_failed": failed, "swap_answers": seen.statuses[200], "swapped": now == "swapped"}


async def _killed(bench: Bench) -> dict[str, Any]:
    """Kill -9 of the replica while eight clients ask."""
    seen = Seen()
    load = asyncio.create_task(
        closed(bench.port, bench.messages("extract"), clients=8, for_s=40, pause_s=0.1, seen=seen)
    )
    await asyncio.sleep(3)
    pids = replicas()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    killed, before = time.perf_counter(), seen.statuses[200]
    await asyncio.sleep(0.5)
    before = max(before, seen.statuses[200])
    while seen.statuses[200] <= before + 8 and not load.done():
        await asyncio.sleep(0.05)
    back_s = time.perf_counter() - killed
    await load
    return {
        "killed": len(pids), "kill_back_s": back_s, "kill_answers": seen.statuses[200],
        "kill_503": seen.statuses[503], "kill_errors": seen.errors,
    }  # fmt: skip
