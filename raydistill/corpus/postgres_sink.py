"""PostgreSQL as a sink: events and ledger in one transaction, attempts counted beside them."""

import atexit
import json
import os
import secrets
import socket
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill import events, postgres, release
from raydistill.chunk import COUNTS
from raydistill.corpus import fingerprint
from raydistill.corpus.sink import Begun
from raydistill.errors import SetupError
from raydistill.events import Rows
from raydistill.postgres import Connection, ConnectionLost, Unreachable

# A connection for each thread and database of a process: opening one costs as much as a commit.
_kept: dict[tuple[int, str], Connection] = {}


@dataclass(frozen=True, slots=True)
class PostgresSink:
    """The output tables of a database, for one run of a release whose folder is `folder`."""

    dsn: str
    folder: str
    name: str
    run: str
    fingerprint: str
    driver: str = field(default_factory=lambda: secrets.token_hex(4))

    def prepare(self) -> None:
        """Makes the output tables where they are missing."""
        task = release.task_of(Path(self.folder))
        with postgres.connect(self.dsn) as connection:
            postgres.script(connection, events.ddl(task))

    @contextmanager
    def hold(self) -> "Generator[_Hold]":
        """An advisory lock on the run; the server gives it back when this process dies."""
        hold = _Hold(self.dsn, self.run)
        try:
            hold.check()
            yield hold
        finally:
            hold.close()

    def enter(self, parts: Mapping[str, str]) -> None:
        """Enters the run in raydistill.runs; refused where it was begun with something else."""
        with postgres.connect(self.dsn) as connection:
            postgres.fetch(
                connection,
                "INSERT INTO raydistill.runs (run, release, fingerprint, config)"
                " VALUES (%s, %s, %s, %s) ON CONFLICT (run) DO NOTHING RETURNING run",
                [self.run, self.name, self.fingerprint, json.dumps(dict(parts))],
            )
            ((found,),) = postgres.fetch(
                connection, "SELECT config FROM raydistill.runs WHERE run = %s", [self.run]
            )
            fingerprint.refuse_mixing(self.run, found, parts)
            postgres.fetch(
                connection,
                "UPDATE raydistill.runs SET driver = %s, stopping = NULL WHERE run = %s"
                " RETURNING 1",
                [self.driver, self.run],
            )

    def done(self) -> set[str]:
        """Filings that this release has finished, whichever run did them."""
        return events.done(self.dsn, self.name)

    def begin(self, chunk: str, stage: str) -> int:
        """Counts an attempt before it is made and gives the count; 0 when the run is to stop."""
        found = self._one(
            "INSERT INTO raydistill.attempts (release, chunk, stage, run, driver, attempts, place)"
            " SELECT %s, %s, %s, run, %s, 1, %s FROM raydistill.runs"
            " WHERE run = %s AND stopping IS DISTINCT FROM %s"
            " ON CONFLICT (release, chunk, stage) DO UPDATE SET"
            " attempts = raydistill.attempts.attempts + 1, run = EXCLUDED.run,"
            " driver = EXCLUDED.driver, place = EXCLUDED.place, started_at = now()"
            " RETURNING attempts",
            [self.name, chunk, stage, self.driver, _here(), self.run, self.driver],
        )
        return found[0][0] if found else 0

    def end(self, chunk: str, stage: str) -> None:
        """Forgets the attempts of a chunk's stage: it went through."""
        self._one(
            "DELETE FROM raydistill.attempts WHERE release = %s AND chunk = %s AND stage = %s"
            " RETURNING 1",
            [self.name, chunk, stage],
        )

    def note(self, chunk: str, place: str) -> None:
        """Notes where a chunk that takes long has got to."""
        self._one(
            "UPDATE raydistill.attempts SET place = %s WHERE release = %s AND chunk = %s"
            " RETURNING 1",
            [f"{place}, {_here()}", self.name, chunk],
        )

    def begun(self) -> list[Begun]:
        """What this driver's actors and tasks are at, the oldest first."""
        found = self._one(
            "SELECT chunk, stage, attempts, extract(epoch FROM now() - started_at)::float8, place"
            " FROM raydistill.attempts WHERE release = %s AND driver = %s ORDER BY started_at",
            [self.name, self.driver],
        )
        return [Begun(*row) for row in found]

    def stop(self) -> None:
        """From now on nothing of this driver begins."""
        self._one(
            "UPDATE raydistill.runs SET stopping = %s WHERE run = %s RETURNING 1",
            [self.driver, self.run],
        )

    def commit(self, chunk: str, rows: Rows) -> int:
        """Writes a chunk in one transaction; gives how many filings were new."""
        task = release.task_of(Path(self.folder))
        with _connection(self.dsn) as connection, postgres.transaction(connection):
            new = events.write(
                connection, rows, task, release=self.name, run=self.run,
                fingerprint=self.fingerprint,
            )  # fmt: skip
            postgres.fetch(
                connection,
                "DELETE FROM raydistill.attempts WHERE release = %s AND chunk = %s RETURNING 1",
                [self.name, chunk],
            )
        return new

    def account(self) -> dict[str, Any]:
        """What the run has written so far, from its ledger."""
        names = (*COUNTS, "events", "dead_letters", "answers", "abstained")
        sums = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in names)
        query = (
            f"SELECT count(*), {sums}, coalesce(sum(agreement), 0)::float8,"
            " coalesce(sum(agreement_kept), 0)::float8 FROM raydistill.ledger WHERE run = %s"
        )
        (row,) = self._one(query, [self.run])
        codes = self._one(
            "SELECT code, count(*) FROM raydistill.dead_letters WHERE run = %s"
            " GROUP BY 1 ORDER BY 2 DESC",
            [self.run],
        )
        names = ("filings", *names, "agreement", "agreement_kept")
        return {**dict(zip(names, row, strict=True)), "codes": dict(codes), "release": self.name}

    def _one(self, query: str, values: list[Any]) -> list[tuple[Any, ...]]:
        """One statement, a transaction of its own."""
        with _connection(self.dsn) as connection:
            return postgres.fetch(connection, query, values)


@contextmanager
def _connection(dsn: str) -> Generator[Connection]:
    """This thread's connection; after any error the next caller gets a new one."""
    key = (threading.get_ident(), dsn)
    connection = _kept.get(key)
    if connection is None or connection.closed:
        connection = _kept[key] = postgres.connect(dsn)
        connection.autocommit = True  # each statement, or each `transaction`, commits
    try:
        yield connection
    except BaseException:
        _kept.pop(key).close()
        raise


@atexit.register
def close() -> None:
    """Closes this process's connections."""
    while _kept:
        _kept.popitem()[1].close()


def _here() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


class _Hold:
    """An open connection that holds the run's lock."""

    def __init__(self, dsn: str, run: str) -> None:
        self.dsn, self.run = dsn, run
        self.connection: Connection | None = None

    def check(self) -> None:
        """Passes while the lock is held, taking it again after the server was away.

        SetupError where another driver has it; ConnectionLost or Unreachable where the server is
        away: then the ledger alone keeps two drivers from writing a filing twice.
        """
        try:
            if self.connection is not None:
                postgres.fetch(self.connection, "SELECT 1")
                return
            self.connection = postgres.connect(
                self.dsn, application=f"raydistill backfill {self.run}"
            )
            self.connection.autocommit = True
            self._take(self.connection)
        except (ConnectionLost, Unreachable):
            self.close()
            raise

    def _take(self, connection: Connection) -> None:
        key = f"raydistill run {self.run}"
        query = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
        ((taken,),) = postgres.fetch(connection, query, [key])
        if taken:
            return
        found = postgres.fetch(
            connection,
            "SELECT pid, coalesce(host(client_addr), 'here'), backend_start::timestamp(0)::text"
            " FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()",
            [f"raydistill backfill {self.run}"[:63]],
        )
        self.close()
        who = "; ".join(f"from {host} since {since} (server process {pid})" for pid, host, since
                        in found)  # fmt: skip
        raise SetupError(
            f"another driver is at run {self.run!r}: {who or 'it connected just now'}",
            expected="one driver a run",
            todo="wait for it, or stop it; a driver that was killed is forgotten within a minute",
        )

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
