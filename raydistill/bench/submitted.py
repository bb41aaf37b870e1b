"""Verbs as submitted jobs of a cluster on this machine: run to their end, killed under, stopped."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import raydistill
from raydistill import postgres
from raydistill.bench.nodes import Nodes, finished, free_port
from raydistill.client import Client
from raydistill.errors import SetupError

PATIENCE_S = 280.0
SMALL = ["student.width=64", "student.layers=1", "student.heads=2", "threads=1", "workers=2"]
WIDE = ["scale.actors=2", "scale.threads=1", "scale.chunk=300", "scale.labels={part: extract}"]
_OF_SOURCE = {"build", "backfill", "doctor", "drift", "registry", "label"}


@dataclass(slots=True)
class Way:
    """Submits verbs and remembers how long each took and what it printed."""

    nodes: Nodes
    folder: Path  # the working directory that travels with each job
    root: Path
    dsn: str
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    printed: dict[str, str] = field(default_factory=dict[str, str])

    def started(self, verb: str, *overrides: str, id: str = "") -> Any:
        """A submitted job."""
        own = [f"root={self.root}", *overrides]
        if verb in _OF_SOURCE:
            own.append(f"source.dsn='{self.dsn}'")
        return self.nodes.submit(self.folder, "python", f"jobs/{verb}.py", *own, id=id)

    def job(self, verb: str, *overrides: str, name: str = "", fine: tuple[int, ...] = (0,)) -> str:
        """Runs a verb to its end. `ray job submit` says 1 for any exit code of the job but 0."""
        began = time.monotonic()
        job = self.started(verb, *overrides)
        printed, _ = job.communicate(timeout=PATIENCE_S)
        if job.returncode not in fine:
            raise SetupError(f"{verb} ended with {job.returncode}:\n{printed[-3000:]}")
        self._done(name or verb, began, printed)
        return printed

    def train_and_kill(self) -> int:
        """Trains on two workers and kills the node of one; gives the step it went on from."""
        log = self.root / "extractor.log.jsonl"
        log.unlink(missing_ok=True)
        overrides = ["student=seq2seq_s", *SMALL, "fit.steps=400", "fit.batch_tokens=2000"]
        overrides += ["fit.checkpoint_every=40", "fit.log_every=10", "invented=0"]
        began = time.monotonic()
        job = self.started("train", *overrides)
        until(lambda: log.is_file() and len(log.read_text().splitlines()) >= 7, job)
        before = len(log.read_text().splitlines())
        self.nodes.kill_one_with("RayTrainWorker")
        print("cluster: killed a node in training", flush=True)
        self._done("train extractor, one node killed", began, finished(job))
        steps = [int(json.loads(line)["step"]) for line in log.read_text().splitlines()]
        again = [step for last, step in pairwise(steps) if step <= last]
        return again[0] if again else steps[before]

    def backfill_and_kill(self) -> int:
        """Runs the backfill with two actors and kills a node of one; gives the filings before."""
        began = time.monotonic()
        job = self.started("backfill", *WIDE)
        until(lambda: committed(self.dsn) >= 10, job)
        self.nodes.kill_one_with("MapWorker")
        before = committed(self.dsn)
        print(f"cluster: killed a node after {before} filings", flush=True)
        self._done("backfill, one node killed", began, finished(job))
        return before

    def backfill_and_stop(self) -> tuple[int, str]:
        """Stops the backfill by `ray job stop`; gives filings committed and its state."""
        began = time.monotonic()
        id = f"stopped-{time.time_ns()}"
        job = self.started("backfill", *WIDE, id=id)
        until(lambda: committed(self.dsn) >= 10, job)
        state = self.nodes.stop(id)
        printed, _ = job.communicate(timeout=PATIENCE_S)
        self._done("backfill, stopped", began, printed)
        return committed(self.dsn), state

    def serve(self, sentences: list[str]) -> dict[str, list[Any]]:
        """What the submitted service answers to each sentence; it is stopped afterwards."""
        began = time.monotonic()
        id, port = f"serve-{time.time_ns()}", free_port()
        job = self.started("serve", f"port={port}", "threads=1", "replicas=2", id=id)
        with Client(f"http://127.0.0.1:{port}") as client:
            until(client.healthy, job)
            self._done("serve, until it answers", began, "")
            began = time.monotonic()
            answer = client.extract(sentences)
            self._done(f"serve, {len(sentences)} sentences", began, "")
            self.nodes.stop(id)
            job.communicate(timeout=PATIENCE_S)
            if client.healthy():
                raise SetupError("the service answers after its job was stopped")
        return {sentences[one.index]: list(one.records) for one in answer.results}

    def _done(self, name: str, began: float, printed: str) -> None:
        self.seconds[name], self.printed[name] = time.monotonic() - began, printed
        print(f"cluster: {name} in {self.seconds[name]:.1f} s", flush=True)


def working_dir(folder: Path) -> Path:
    """A clean copy of the code alone: what `--working-dir .` of a fresh checkout would send."""
    here = Path(raydistill.__file__).resolve().parent
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(here, folder / "raydistill", ignore=ignored)
    for name in ("conf", "jobs"):
        place = here / name if (here / name).is_dir() else here.parent / name
        shutil.copytree(place, folder / name, ignore=ignored)
    return folder


def until(true: Callable[[], bool], job: Any) -> None:
    """Waits for something of a running job; SetupError with its output if it ends before."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        if job.poll() is not None or time.monotonic() > end:
            out = job.communicate(timeout=30)[0] if job.poll() is not None else ""
            raise SetupError(f"the job was over before what was waited for:\n{out[-3000:]}")
        time.sleep(0.2)


def committed(dsn: str) -> int:
    """Filings in the ledger."""
    query = "SELECT to_regclass('raydistill.ledger') IS NOT NULL"
    if not postgres.fetch(dsn, query)[0][0]:
        return 0
    return int(postgres.fetch(dsn, "SELECT count(*) FROM raydistill.ledger")[0][0])
