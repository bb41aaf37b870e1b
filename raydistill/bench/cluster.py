"""bench=cluster: every verb as a submitted job on three nodes of one machine; workers are killed.

A clean working directory travels with each job; outputs lie at absolute paths. One worker node is
killed in the middle of training and another in the middle of the backfill; what was written is
compared with what the stages give in one process.
"""

import json
import shutil
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import raydistill
from raydistill import events, pgserver, postgres
from raydistill.bench.nodes import Nodes, finished
from raydistill.demo.world import DDL, chunks
from raydistill.errors import SetupError
from raydistill.pipeline import Cascade
from raydistill.progress import table
from raydistill.source import PostgresSentences, SourceConfig

_PATIENCE_S = 280.0
_SIZE = ["student.width=64", "student.layers=1", "student.heads=2", "threads=1", "workers=2"]
_EVENTS = "SELECT sentence_id, ordinal, event_type, subject, object FROM raydistill.events"


def run(root: Path, *, filings: int = 240) -> dict[str, Any]:
    """Goes the whole way on three nodes; gives seconds of each job and what was lost (nothing)."""
    root = root.absolute()
    root.mkdir(parents=True, exist_ok=True)
    dsn = pgserver.start(root / "postgres")
    _world(dsn, filings)
    folder = working_dir(root / "working_dir")
    for name in ("skip", "extractor", "skip.checkpoints", "extractor.checkpoints"):
        shutil.rmtree(root / name, ignore_errors=True)
    seconds: dict[str, float] = {}
    printed: dict[str, str] = {}
    with Nodes(2) as nodes:
        way = _Way(nodes, folder, root, dsn, seconds, printed)
        way.job("doctor", "nodes=3", "disk_gib=1", "ray=true")
        way.job("build", "vocabulary=1500", "workers=1", "head=100", "confidence=0")
        way.job("train", "student=skip_s", *_SIZE, "fit.steps=60", name="train skip")
        killed = way.train_and_kill()
        nodes.add()
        way.job("publish", "parity=0.9", "parity_rows=100", "threads=1")
        way.backfill_and_kill()
        way.job("backfill", *way.wide, name="backfill again")
        failed = way.rest()
    lost = _difference(dsn, root / "release")
    print(table([(k, f"{v:.1f}") for k, v in seconds.items()], ("job", "seconds")))
    again = "nothing to do" in printed["backfill again"]
    return {
        "seconds": seconds,
        "restarted_at_step": killed,
        "events_differ": lost,
        "again": again,
        "failed": failed,
    }


class _Way:
    """Submits verbs and remembers how long each took and what it printed."""

    def __init__(
        self,
        nodes: Nodes,
        folder: Path,
        root: Path,
        dsn: str,
        seconds: dict[str, float],
        printed: dict[str, str],
    ) -> None:
        self.nodes, self.folder, self.root, self.dsn = nodes, folder, root, dsn
        self.seconds, self.printed = seconds, printed
        self.wide = ["scale.actors=2", "scale.threads=1", "scale.chunk=300"]

    def job(self, verb: str, *overrides: str, name: str = "", fine: tuple[int, ...] = (0,)) -> str:
        """Runs a verb to its end."""
        began = time.monotonic()
        job = self.started(verb, *overrides)
        printed, _ = job.communicate(timeout=_PATIENCE_S)
        # `ray job submit` says 1 for any code of the job but 0.
        if job.returncode not in fine:
            raise SetupError(f"{verb} ended with {job.returncode}:\n{printed[-3000:]}")
        self.seconds[name or verb] = time.monotonic() - began
        self.printed[name or verb] = printed
        print(f"cluster: {name or verb} in {self.seconds[name or verb]:.1f} s", flush=True)
        return printed

    def rest(self) -> dict[str, str]:
        """Runs the verbs that come after; gives those that failed, with the end of their output."""
        folder, failed = self.root / "release", dict[str, str]()
        after: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = [
            ("evaluate", ("threads=1", "draws=50"), (0,)),
            ("shadow", ("threads=1", "rows=500", "bar.least=5"), (0, 1, 3)),
            ("review", ("rows=20",), (0,)),
            ("export", (), (0,)),
            ("registry", ("action=publish", f"release={folder}"), (0,)),
            ("label", ("plan=true",), (0,)),
            ("drift", (f"release={folder}", "min_events=1"), (0, 1)),
        ]
        for verb, overrides, fine in after:
            try:
                self.job(verb, *overrides, fine=fine)
            except SetupError as problem:
                failed[verb] = str(problem)[-600:]
                print(f"cluster: {verb} failed: {failed[verb]}", flush=True)
        return failed

    def started(self, verb: str, *overrides: str) -> Any:
        """A submitted job."""
        own = [f"root={self.root}", *overrides]
        if verb in ("build", "backfill", "doctor", "drift", "registry", "label"):
            own.append(f"source.dsn='{self.dsn}'")
        return self.nodes.submit(self.folder, "python", f"jobs/{verb}.py", *own, wait=False)

    def train_and_kill(self) -> int:
        """Trains on two workers and kills the node of one; gives the step it went on from."""
        log = self.root / "extractor.log.jsonl"
        log.unlink(missing_ok=True)
        overrides = ["student=seq2seq_s", *_SIZE, "fit.steps=400", "fit.batch_tokens=2000"]
        overrides += ["fit.checkpoint_every=40", "fit.log_every=10", "invented=0"]
        began = time.monotonic()
        job = self.started("train", *overrides)
        until(lambda: log.is_file() and len(log.read_text().splitlines()) >= 7, job)
        before = len(log.read_text().splitlines())
        self.nodes.kill_one_with("RayTrainWorker")
        print("cluster: killed a node in training", flush=True)
        printed = finished(job)
        self.seconds["train extractor, one node killed"] = time.monotonic() - began
        self.printed["train extractor"] = printed
        steps = [_step(line) for line in log.read_text().splitlines()]
        again = [step for last, step in pairwise(steps) if step <= last]
        return again[0] if again else steps[before]

    def backfill_and_kill(self) -> None:
        """Runs the backfill with two actors and kills a node of one in the middle."""
        began = time.monotonic()
        job = self.started("backfill", *self.wide)
        until(lambda: committed(self.dsn) >= 10, job)
        self.nodes.kill_one_with("MapWorker")
        print(f"cluster: killed a node after {committed(self.dsn)} filings", flush=True)
        self.printed["backfill"] = finished(job)
        self.seconds["backfill, one node killed"] = time.monotonic() - began


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


def _world(dsn: str, filings: int) -> None:
    """Filings with few sentences and many events: most are read by the teacher, all are new."""
    with postgres.connect(dsn) as connection:
        postgres.script(connection, DDL + "DROP SCHEMA IF EXISTS raydistill CASCADE;")
        for piece in chunks(
            seed=5,
            filings=filings,
            companies=60,
            sentences_per_filing=100,
            event_share=0.2,
            keyword_share=0.3,
        ):
            for name in ("filings", "sentences", "events"):
                postgres.copy_in(connection, f"kee.{name}", getattr(piece, name))


def until(true: Callable[[], bool], job: Any) -> None:
    """Waits for something of a running job; SetupError with its output if it ends before."""
    end = time.monotonic() + _PATIENCE_S
    while not true():
        if job.poll() is not None or time.monotonic() > end:
            out = job.communicate(timeout=30)[0] if job.poll() is not None else ""
            raise SetupError(f"the job was over before a node could be killed:\n{out[-3000:]}")
        time.sleep(0.2)


def committed(dsn: str) -> int:
    """Filings in the ledger."""
    query = "SELECT to_regclass('raydistill.ledger') IS NOT NULL"
    if not postgres.fetch(dsn, query)[0][0]:
        return 0
    return int(postgres.fetch(dsn, "SELECT count(*) FROM raydistill.ledger")[0][0])


def _step(line: str) -> int:
    return int(json.loads(line).get("step", 0))


def _difference(dsn: str, release: Path) -> int:
    """Events that the cluster wrote and one process does not give, or the other way round."""
    named = SourceConfig().sentences
    sentences = PostgresSentences(dsn, named.table, named.columns)
    cascade = Cascade(release, threads=1)
    filings = [name for name, _ in sentences.filings()]
    rows = events.rows(cascade(sentences.read(filings)), cascade.release.task).events
    names = ["sentence_id", "ordinal", "event_type", "subject", "object"]
    expected = {tuple(row[name] for name in names) for row in rows.to_pylist()}
    return len(expected ^ set(postgres.fetch(dsn, _EVENTS)))
