"""bench=chaos: backfills of a demo world under random kills, compared row by row in SQL.

Killed are the driver, extractor actors, workers of read and write tasks, the raylet, the PostgreSQL
server, and connections; the driver gets SIGTERM, too, and must drain. Whenever the driver is gone
the same command starts again. When a backfill is done its rows are compared with those of a run
that nothing disturbed, and the next one begins, until enough was killed.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill import backfill, pgserver, postgres, release
from raydistill.corpus.postgres_sink import PostgresSink
from raydistill.corpus.stages import CascadeOf, Work, loop
from raydistill.demo.world import world, write
from raydistill.progress import duration
from raydistill.release import Release
from raydistill.source import PostgresSentences, SourceConfig

CALM = "calm"  # the release's name of the undisturbed rows
# Driver and raylet take the whole cluster with them: seldom, since each costs a start of Ray.
KINDS = {
    "actor": 14, "task": 12, "connection": 12, "postgres": 5, "driver": 4, "raylet": 3,
    "sigterm": 3,
}  # fmt: skip
_START_S = 120.0

# Rows of one release that another lacks; a row that is there twice too often counts twice.
_ONLY = """SELECT count(*) FROM (
    SELECT {columns} FROM {table} WHERE release = %s
    EXCEPT ALL SELECT {columns} FROM {table} WHERE release = %s) AS lacking"""
_TABLES = {
    "raydistill.events": "sentence_id, ordinal, filing_id, position, sentence, event_type, subject,"
    " subject_start, subject_end, object, object_start, object_end, event_date,"
    " round(score::numeric, 2)",
    "raydistill.dead_letters": "sentence_id, filing_id, code",
    "raydistill.ledger": "filing_id, sentences, candidates, kept, events, dead_letters",
}


@dataclass(slots=True)
class Chaos:
    """A world, its backfill's command line, and what was done to it."""

    root: Path
    folder: Path
    dsn: str
    opened: Release
    kinds: dict[str, int]
    dice: random.Random = field(default_factory=lambda: random.Random(0))
    done: Counter[str] = field(default_factory=Counter)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    began: float = field(default_factory=time.monotonic)
    drained: list[int] = field(default_factory=list)

    def start(self) -> None:
        """Starts the backfill, or goes on with it."""
        self.starts += 1
        log = (self.root / "driver.log").open("ab")
        self.process = subprocess.Popen(
            [
                sys.executable, "-c",
                "from raydistill import backfill; from raydistill.config import job;"
                "job('backfill', backfill.Config, backfill.run)",
                f"source.dsn='{self.dsn}'", f"release={self.folder}", f"root={self.root}",
                "run=chaos", "scale.actors=1", "scale.threads=1", "scale.chunk=300",
            ],
            stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        log.close()

    def written(self) -> int:
        """Filings in the ledger; -1 while the server is away."""
        try:
            query = "SELECT count(*) FROM raydistill.ledger WHERE release = %s"
            return postgres.fetch(self.dsn, query, [self.opened.name])[0][0]
        except (postgres.ConnectionLost, postgres.Unreachable):
            return -1

    def strike(self) -> None:
        """Kills something at random that is there."""
        kind = self.dice.choices(list(self.kinds), list(self.kinds.values()))[0]
        if self._killed(kind):
            self.done[kind] += 1
            self.tell(f"kill {sum(self.done.values())}: {kind}")

    def tell(self, what: str) -> None:
        """A line with the seconds since the first."""
        print(f"{time.monotonic() - self.began:7.1f} s  {what}", flush=True)

    def _killed(self, kind: str) -> bool:
        assert self.process is not None
        if kind == "postgres":
            home = Path(json.loads((self.root / "postgres/server.json").read_text())["home"])
            os.kill(int((home / "data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
            time.sleep(self.dice.random())
            pgserver.start(self.root / "postgres")
            return True
        if kind == "connection":
            return self._cut()
        if kind == "driver":
            self.process.kill()
            self.process.wait()
            return True
        if kind == "sigterm":
            self.process.terminate()
            self.drained.append(self.process.wait(timeout=_START_S))
            return True
        victims = [pid for pid, name in _family(self.process.pid) if _is(kind, name)]
        if not victims:
            return False
        os.kill(self.dice.choice(victims), signal.SIGKILL)
        return True

    def _cut(self) -> bool:
        """Ends a server process of the run, one that copies if there is any."""
        found = postgres.fetch(
            self.dsn,
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'raydistill%%'"
            " AND pid <> pg_backend_pid() ORDER BY query LIKE 'COPY%%' DESC, random() LIMIT 1",
        )
        return bool(found) and bool(
            postgres.fetch(self.dsn, "SELECT pg_terminate_backend(%s)", [found[0][0]])[0][0]
        )

    def differences(self) -> tuple[int, int]:
        """Rows that are lost, and rows that are too many, over events, dead letters and ledger."""
        lost = doubled = 0
        for table, columns in _TABLES.items():
            query = _ONLY.format(columns=columns, table=table)
            lost += postgres.fetch(self.dsn, query, [CALM, self.opened.name])[0][0]
            doubled += postgres.fetch(self.dsn, query, [self.opened.name, CALM])[0][0]
        return lost, doubled

    def clear(self) -> None:
        """Forgets the disturbed run; the undisturbed one stays."""
        with postgres.connect(self.dsn) as connection:
            for table in (*_TABLES, "raydistill.runs", "raydistill.attempts"):
                query = f"DELETE FROM {table} WHERE release <> '{CALM}'"  # noqa: S608
                postgres.script(connection, query)


def run(root: Path, folder: Path, *, kills: int = 50, filings: int = 150) -> dict[str, Any]:
    """Kills `kills` times and gives what was lost and doubled; `kinds` says what was killed."""
    root = root.absolute()
    try:
        dsn = pgserver.start(root / "postgres")
        return disturbed(root, folder, dsn, kills=kills, filings=filings, kinds=KINDS)
    finally:
        pgserver.remove(root / "postgres")


def disturbed(
    root: Path, folder: Path, dsn: str, *, kills: int, filings: int, kinds: dict[str, int]
) -> dict[str, Any]:
    """The figures of backfills into a database without the demo world's tables."""
    opened = release.verify(folder.absolute())
    chaos = Chaos(root, opened.folder, dsn, opened, kinds)
    write(world(seed=5, filings=filings, companies=60, sentences_per_filing=200), dsn)
    events = _calm(dsn, opened)
    began = time.monotonic()
    try:
        lost, doubled, rounds = _rounds(chaos, kills)
    finally:
        if chaos.process is not None:
            chaos.process.kill()
            chaos.process.wait()
    seconds = time.monotonic() - began
    print(f"{sum(chaos.done.values())} kills in {duration(seconds)}: {dict(chaos.done)}")
    return {
        "kills": sum(chaos.done.values()), "lost": lost, "doubled": doubled,
        "kinds": dict(chaos.done), "rounds": rounds, "starts": chaos.starts,
        "drained": chaos.drained,
        "events": events, "seconds": round(seconds, 1),
    }  # fmt: skip


def _calm(dsn: str, opened: Release) -> int:
    """Writes the undisturbed rows, in this process and without Ray; gives how many events."""
    columns = SourceConfig().sentences
    sentences = PostgresSentences(dsn, columns.table, columns.columns)
    sink = PostgresSink(dsn, str(opened.folder), CALM, CALM, CALM)
    sink.prepare()
    sink.enter({"release": CALM})
    work = Work(str(opened.folder), sentences, sink, CascadeOf(str(opened.folder), 1))
    return sum(
        line["events"] for line in loop(work, list(backfill.chunked(sentences.filings(), 5000)))
    )


def _rounds(chaos: Chaos, kills: int) -> tuple[int, int, int]:
    lost = doubled = rounds = 0
    while sum(chaos.done.values()) < kills or not rounds:
        chaos.clear()
        _round(chaos, kills)
        one = chaos.differences()
        lost, doubled, rounds = lost + one[0], doubled + one[1], rounds + 1
        print(f"round {rounds}: {sum(chaos.done.values())} kills, {one[0]} lost, {one[1]} doubled",
              flush=True)  # fmt: skip
    return lost, doubled, rounds


def _round(chaos: Chaos, kills: int) -> None:
    """One backfill from its first start to its end, struck whenever it gets on."""
    chaos.start()
    seen, since = chaos.written(), time.monotonic()
    while True:
        assert chaos.process is not None
        code = chaos.process.poll()
        if code == 0:
            return
        if code is not None:
            chaos.tell(f"the driver ended with {code}: start {chaos.starts + 1}")
            chaos.start()
            # What it drained is not what the next one does: strike when that gets on.
            seen, since = chaos.written(), time.monotonic()
        now = chaos.written()
        if now != seen and now >= 0:  # it gets on: a strike now hits something at work
            seen, since = now, time.monotonic()
            time.sleep(0.5 * chaos.dice.random())
            if sum(chaos.done.values()) < kills and chaos.process.poll() is None:
                chaos.strike()
        elif time.monotonic() - since > _START_S:  # Ray itself hangs now and then: kill and go on
            chaos.tell(f"nothing for {_START_S:.0f} s: the driver is killed")
            chaos.process.kill()
            chaos.process.wait()
        time.sleep(0.1)


def _is(kind: str, name: str) -> bool:
    """Whether a process's command line is of this kind; Ray's workers are titled by their work."""
    if kind == "raylet":
        return name.split(" ")[0].endswith("raylet")
    if kind == "actor":
        return name.startswith("ray::MapWorker")
    return name.startswith(("ray::IDLE", "ray::Read", "ray::MapBatches"))


def _family(pid: int) -> list[tuple[int, str]]:
    """The processes below one, with their command lines."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                line = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                continue
            parents[int(entry.name)], names[int(entry.name)] = int(stat[1]), line
    below = {pid}
    grown = True
    while grown:
        more = {one for one, parent in parents.items() if parent in below} - below
        grown = bool(more)
        below |= more
    return [(one, names[one]) for one in below if one in names]
