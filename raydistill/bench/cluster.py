"""bench=cluster: every verb as a submitted job on three nodes of one machine; workers are killed.

A clean working directory travels with each job; outputs lie at absolute paths. One worker node is
killed in the middle of training and another in the middle of the backfill, which is stopped by
`ray job stop` besides; what was written is compared with what the stages give in one process.

`verbs=[backfill,serve]` runs these parts alone, on what an earlier run has left.
"""

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raydistill import events, pgserver, postgres
from raydistill.bench.nodes import Nodes
from raydistill.bench.submitted import SMALL, WIDE, Way, committed, working_dir
from raydistill.demo.world import DDL, chunks
from raydistill.errors import SetupError
from raydistill.pipeline import Cascade
from raydistill.progress import table
from raydistill.source import PostgresSentences, SourceConfig

_EVENTS = "SELECT sentence_id, ordinal, event_type, subject, object FROM raydistill.events"
_ASKED = (
    "SELECT sentence, event_type FROM (SELECT DISTINCT ON (s.sentence) s.sentence, e.event_type"
    " FROM kee.sentences s LEFT JOIN raydistill.events e USING (sentence_id)"
    " ORDER BY s.sentence, s.sentence_id, e.ordinal) one"
    " ORDER BY event_type IS NULL, sentence LIMIT 200"
)
Part = Callable[[Way], dict[str, Any]]


def run(root: Path, *, filings: int = 240, verbs: list[str] | None = None) -> dict[str, Any]:
    """Goes the whole way on three nodes, or the parts named; gives seconds and what was lost."""
    wanted = verbs or list(PARTS)
    if unknown := [name for name in wanted if name not in PARTS]:
        raise SetupError(f"verbs={unknown}", expected=", ".join(PARTS), todo="set verbs=[NAME,...]")
    root = root.absolute()
    root.mkdir(parents=True, exist_ok=True)
    dsn = pgserver.start(root / "postgres")
    if "build" in wanted:
        _world(dsn, filings)
    figures: dict[str, Any] = {}
    # Nodes are no children of this process's group: whoever ends it ends them, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with Nodes(2) as nodes:
        way = Way(nodes, working_dir(root / "working_dir"), root, dsn)
        for name in PARTS:
            if name not in wanted:
                continue
            try:
                figures |= PARTS[name](way)
            except SetupError as problem:
                figures.setdefault("failed", {})[name] = str(problem)[-2000:]
                print(f"cluster: {name} failed: {str(problem)[-2000:]}", flush=True)
    print(table([(k, f"{v:.1f}") for k, v in way.seconds.items()], ("job", "seconds")))
    return {"seconds": way.seconds, **figures}


def _simple(verb: str, *overrides: str, fine: tuple[int, ...] = (0,)) -> Part:
    """A part that is one verb run to its end; `root=` in an override is the bench's."""

    def part(way: Way) -> dict[str, Any]:
        way.job(verb, *(one.replace("ROOT", str(way.root)) for one in overrides), fine=fine)
        return {}

    return part


def _train(way: Way) -> dict[str, Any]:
    for name in ("skip", "extractor", "skip.checkpoints", "extractor.checkpoints"):
        shutil.rmtree(way.root / name, ignore_errors=True)
    way.job("train", "student=skip_s", *SMALL, "fit.steps=60", name="train skip")
    step = way.train_and_kill()
    way.nodes.add()
    return {"restarted_at_step": step}


def _backfill(way: Way) -> dict[str, Any]:
    _forget(way.dsn)
    before = way.backfill_and_kill()
    way.nodes.add()
    printed = way.job("backfill", *WIDE, name="backfill again")
    lost = _difference(way.dsn, way.root / "release")
    return {"killed_after": before, "again": "nothing to do" in printed, "events_differ": lost}


def _stop(way: Way) -> dict[str, Any]:
    """`ray job stop` in the middle, and the same command to the end."""
    _forget(way.dsn)
    before, state = way.backfill_and_stop()
    drained = "the same command goes on" in way.printed["backfill, stopped"]
    way.job("backfill", *WIDE, name="backfill after the stop")
    return {
        "stopped_after": before,
        "of": committed(way.dsn),
        "stop": f"{state}, {'drained' if drained else 'not drained'}",
        "events_differ_after_stop": _difference(way.dsn, way.root / "release"),
    }


def _serve(way: Way) -> dict[str, Any]:
    """200 sentences, those with events first of them, against what the backfill wrote."""
    wrote = dict(postgres.fetch(way.dsn, _ASKED))
    answers = way.serve(list(wrote))
    said = {
        text: records[0]["event_type"] if records else None for text, records in answers.items()
    }
    return {"served": len(said), "served_differ": sum(said[t] != wrote[t] for t in wrote)}


PARTS: dict[str, Part] = {
    "doctor": _simple("doctor", "nodes=3", "disk_gib=1", "ray=true"),
    "build": _simple("build", "vocabulary=1500", "workers=1", "head=100", "confidence=0"),
    "train": _train,
    "publish": _simple("publish", "parity=0.9", "parity_rows=100", "threads=1"),
    "backfill": _backfill,
    "stop": _stop,
    "serve": _serve,
    "evaluate": _simple("evaluate", "threads=1", "draws=50"),
    "shadow": _simple("shadow", "threads=1", "rows=500", "bar.least=5", fine=(0, 1)),
    "review": _simple("review", "rows=20"),
    "export": _simple("export"),
    "registry": _simple("registry", "action=publish", "release=ROOT/release"),
    "label": _simple("label", "plan=true"),
    "drift": _simple("drift", "release=ROOT/release", "min_events=1", fine=(0, 1)),
}


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


def _forget(dsn: str) -> None:
    """Takes away what backfills have written."""
    with postgres.connect(dsn) as connection:
        postgres.script(connection, "DROP SCHEMA IF EXISTS raydistill CASCADE")


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
