"""Parquet as a sink: a folder, or an fsspec URL, of files that are counted by a manifest.

PATH/RELEASE/
  events/ dead_letters/ review/    a chunk's rows, CHUNK.parquet
  ledger/                          CHUNK.parquet, written last: without it the chunk's rows do not
                                   count, and the next run clears them away
  runs/ attempts/ driver           what runs are made of, what is begun, who drives

Names come from a chunk's filings, so a chunk that is written again writes the same names. In a
local folder a lock admits one driver, and a commit that another driver has overtaken is refused
under that lock. A store behind a URL has no locks: there, one driver at a time is the user's word.
"""

import hashlib
import json
import os
import posixpath
import secrets
import socket
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from raydistill import events
from raydistill.chunk import COUNTS
from raydistill.corpus import fingerprint
from raydistill.corpus.patience import DiskAway
from raydistill.corpus.sink import Begun
from raydistill.errors import SetupError
from raydistill.events import Rows

pc: Any = compute  # its functions are made at run time: no type checker sees them

TABLES = ("events", "dead_letters", "review")


@dataclass(frozen=True, slots=True)
class ParquetSink:
    """A release's files under `path`, for one run."""

    path: str
    name: str
    run: str
    fingerprint: str
    driver: str = field(default_factory=lambda: secrets.token_hex(4))

    def prepare(self) -> None:
        """Makes the folders where they are missing."""
        system, root = self._place()
        for name in (*TABLES, "ledger", "runs", "attempts"):
            system.makedirs(f"{root}/{name}", exist_ok=True)

    @contextmanager
    def hold(self) -> "Generator[_Hold]":
        """The folder's lock; the system gives it back when this process dies."""
        with _locked(self._local(), "driver.lock", wait=False):
            yield _Hold()

    def enter(self, parts: Mapping[str, str]) -> None:
        """Enters the run; refused where it was begun with something else. Clears what died."""
        system, root = self._place()
        file = f"{root}/runs/{hashlib.sha256(self.run.encode()).hexdigest()[:16]}.json"
        if system.exists(file):
            fingerprint.refuse_mixing(self.run, json.loads(system.cat_file(file)), parts)
        else:
            self._write(file, json.dumps(dict(parts)).encode())
        with _locked(self._local(), "commit.lock"):
            self._write(f"{root}/driver", self.driver.encode())
        counted = set(self._names("ledger"))
        for table in TABLES:
            for name in self._names(table):
                if name not in counted:
                    system.rm_file(f"{root}/{table}/{name}")

    def done(self) -> set[str]:
        """Filings that this release has finished, whichever run did them."""
        return set(self._ledger(["filing_id"])["filing_id"].to_pylist())

    def begin(self, chunk: str, stage: str) -> int:
        """Counts an attempt before it is made and gives the count; 0 when the run is to stop."""
        system, root = self._place()
        if system.exists(f"{root}/attempts/stop-{self.driver}"):
            return 0
        file = self._attempt(chunk, stage)
        attempts = 1
        with suppress(FileNotFoundError, ValueError):
            attempts += json.loads(system.cat_file(file))["attempts"]
        self._note(chunk, stage, attempts, _here())
        return attempts

    def end(self, chunk: str, stage: str) -> None:
        """Forgets the attempts of a chunk's stage: it went through."""
        with suppress(FileNotFoundError):
            self._place()[0].rm_file(self._attempt(chunk, stage))

    def note(self, chunk: str, place: str) -> None:
        """Notes where a chunk that takes long has got to."""
        for one in self.begun():
            if one.chunk == chunk:
                self._note(chunk, one.stage, one.attempts, f"{place}, {_here()}")

    def begun(self) -> list[Begun]:
        """What this driver's actors and tasks are at, the oldest first."""
        system, root = self._place()
        found: list[tuple[float, Begun]] = []
        for name in self._names("attempts"):
            with suppress(FileNotFoundError, ValueError):  # it has just ended
                one = json.loads(system.cat_file(f"{root}/attempts/{name}"))
                if one["driver"] == self.driver:
                    since = time.time() - one["at"]
                    begun = Begun(one["chunk"], one["stage"], one["attempts"], since, one["place"])
                    found.append((one["at"], begun))
        return [one for _, one in sorted(found, key=lambda pair: pair[0])]

    def stop(self) -> None:
        """From now on nothing of this driver begins."""
        self._write(f"{self._place()[1]}/attempts/stop-{self.driver}", b"")

    def commit(self, chunk: str, rows: Rows) -> int:
        """Writes a chunk; its ledger file comes last and makes it count."""
        system, root = self._place()
        filings = sorted(rows.ledger["filing_id"].to_pylist())
        name = hashlib.sha256(json.dumps(filings).encode()).hexdigest()[:32] + ".parquet"
        stamp = {"release": self.name, "run": self.run}
        data = {
            table: _bytes(events.stamped(getattr(rows, table), stamp))
            for table in TABLES
            if len(getattr(rows, table))
        }
        last = _bytes(events.stamped(rows.ledger, {**stamp, "fingerprint": self.fingerprint}))
        with _locked(self._local(), "commit.lock"):
            if system.cat_file(f"{root}/driver").decode() != self.driver:
                return 0  # another driver has the folder: what it found undone is its to write
            new = not system.exists(f"{root}/ledger/{name}")
            if new:
                for table, content in data.items():
                    self._write(f"{root}/{table}/{name}", content)
                self._write(f"{root}/ledger/{name}", last)
        for one in self.begun():
            if one.chunk == chunk:
                self.end(chunk, one.stage)
        return len(filings) if new else 0

    def account(self) -> dict[str, Any]:
        """What the run has written so far, from its ledger."""
        names = [*COUNTS, "events", "dead_letters", "answers", "abstained"]
        names += ["agreement", "agreement_kept"]
        ledger = self._ledger(["run", *names])
        ledger = ledger.filter(pc.equal(ledger["run"], self.run))
        sums = {name: pc.sum(ledger[name]).as_py() or 0 for name in names}
        letters = self._table("dead_letters", ["run", "code"])
        codes = pc.value_counts(letters.filter(pc.equal(letters["run"], self.run))["code"])
        found = {one["values"]: one["counts"] for one in codes.to_pylist()}
        found = dict(sorted(found.items(), key=lambda pair: -pair[1]))
        return {"filings": len(ledger), **sums, "codes": found, "release": self.name}

    def _place(self) -> tuple[Any, str]:
        system, root = fsspec.core.url_to_fs(self.path)
        return system, f"{root.rstrip('/')}/{self.name}"

    def _local(self) -> Path | None:
        """The folder, where it is one of this machine's (or mounted on it)."""
        system, root = self._place()
        names = [system.protocol] if isinstance(system.protocol, str) else system.protocol
        return Path(root) if "file" in names else None

    def _names(self, table: str) -> list[str]:
        system, root = self._place()
        system.invalidate_cache()
        found = (
            system.ls(f"{root}/{table}", detail=False) if system.exists(f"{root}/{table}") else []
        )
        names = [posixpath.basename(one) for one in found]
        return sorted(one for one in names if "." in one and not one.endswith(".tmp"))

    def _ledger(self, columns: list[str]) -> pa.Table:
        return self._table("ledger", columns)

    def _table(self, table: str, columns: list[str]) -> pa.Table:
        """The counted rows of a table."""
        system, root = self._place()
        counted = self._names(table)
        parts: list[pa.Table] = []
        for name in counted:
            with system.open(f"{root}/{table}/{name}", "rb") as file:
                parts.append(pq.read_table(file, columns=columns))
        if parts:
            return pa.concat_tables(parts, promote_options="permissive")
        return pa.table({name: pa.array([], pa.string()) for name in columns})

    def _attempt(self, chunk: str, stage: str) -> str:
        key = hashlib.sha256(chunk.encode()).hexdigest()[:32]
        return f"{self._place()[1]}/attempts/{key}.{stage}"

    def _note(self, chunk: str, stage: str, attempts: int, place: str) -> None:
        told = {"chunk": chunk, "stage": stage, "attempts": attempts, "place": place}
        told |= {"driver": self.driver, "at": time.time()}
        self._write(self._attempt(chunk, stage), json.dumps(told).encode())

    def _write(self, name: str, content: bytes) -> None:
        """Writes a file whole or not at all: renamed into place, or one upload."""
        system, _ = self._place()
        try:
            if self._local() is None:
                system.pipe_file(name, content)
                return
            fresh = Path(f"{name}.{secrets.token_hex(4)}.tmp")
            try:
                with fresh.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(name)
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as problem:
            raise DiskAway(f"{name} cannot be written: {problem}") from problem


class _Hold:
    """The lock of a local folder cannot be lost."""

    def check(self) -> None:
        """Passes."""


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _here() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


@contextmanager
def _locked(folder: Path | None, name: str, *, wait: bool = True) -> Generator[None]:
    """The folder's lock of that name; no lock where there is no folder."""
    if folder is None:
        yield
        return
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise SetupError(
                f"another driver is at {folder}",
                expected="one driver a release's folder",
                todo="wait for it, or stop it",
            ) from None
        yield
