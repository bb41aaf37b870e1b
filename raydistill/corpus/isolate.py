"""Isolation: a chunk that seems to kill its process is run in one that may die.

The chunk is cut by filings, then by sentences, eight pieces at a time: pieces that pass keep the
process, a piece that kills it is cut again, until the sentence that kills is alone. That sentence
becomes an error (`killed_process`, or `stage_failed` where it only raised); the rest goes through.
"""

import multiprocessing.connection
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import compute

from raydistill.chunk import SECONDS, SENTENCES, TOLD, markers
from raydistill.errors import RaydistillError
from raydistill.pipeline import Stage
from raydistill.source import Sentences

pc: Any = compute  # its functions are made at run time: no type checker sees them

KILLED, FAILED = "killed_process", "stage_failed"
PIECES = 8
# More bad sentences than this in one chunk are no bad sentences: the release or the machine is.
# Of large chunks it is a share: one in 300.
MOST, SHARE = 16, 300


class TooMany(RaydistillError):
    """So many sentences of a chunk fail that the fault is not theirs."""


def run(cascade: Callable[[], Stage], batch: pa.Table, *, most: int | None = None) -> pa.Table:
    """The cascade's output for a chunk; what kills its process is alone in error rows.

    Raises TooMany where that befalls more than `most` sentences (by default MOST, or as large a
    SHARE of the chunk).
    """
    most = max(MOST, len(batch) // SHARE) if most is None else most
    with Child(cascade) as child:
        done = list(_run(child, batch, [most]))
        table = pa.concat_tables(done, promote_options="permissive")
    return merged(table)


def read(sentences: Sentences, filings: list[str]) -> pa.Table:
    """The chunk of these filings; a file that kills its reader is one error row."""
    with Child(_ReaderOf(sentences)) as child:
        return pa.concat_tables(_read(child, filings, [MOST]))


@dataclass(frozen=True, slots=True)
class _ReaderOf:
    sentences: Sentences

    def __call__(self) -> Callable[[list[str]], pa.Table]:
        return self.sentences.read


def _read(child: "Child", filings: list[str], left: list[int]) -> Iterator[pa.Table]:
    outcome = child(filings) if len(filings) > 1 else child.twice(filings)
    if not isinstance(outcome, str):
        yield outcome
    elif len(filings) > 1:
        for start in range(0, len(filings), _step(len(filings))):
            yield from _read(child, filings[start : start + _step(len(filings))], left)
    else:
        _count(left, outcome)
        row = {"filing_id": filings[0], "id": f"{filings[0]}#", "error": outcome}
        yield pa.concat_tables([pa.Table.from_pylist([row], SENTENCES), markers(filings)])


def _run(child: "Child", batch: pa.Table, left: list[int]) -> Iterator[pa.Table]:
    is_marker = pc.is_null(batch["id"])
    sentences = batch.filter(pc.invert(is_marker))
    alone = len(sentences) <= 1
    outcome = child.twice(batch) if alone else child(batch)
    if not isinstance(outcome, str):
        yield outcome
    elif alone:
        _count(left, outcome)
        yield _dead(sentences, batch.filter(is_marker), outcome)
    else:
        for piece in _pieces(batch):
            yield from _run(child, piece, left)


def _count(left: list[int], outcome: str) -> None:
    left[0] -= 1
    if left[0] < 0:
        raise TooMany(
            f"too many sentences of one chunk end with {outcome}: the release or this machine is"
            " at fault, not the sentences\n  do: try the release on a few sentences"
        )


def _step(size: int) -> int:
    return -(-size // PIECES)


def _pieces(batch: pa.Table) -> Iterator[pa.Table]:
    """The chunk in up to PIECES, by whole filings, or one filing's sentences each with a marker."""
    is_marker = pc.is_null(batch["id"])
    filings = batch["filing_id"].filter(is_marker).unique()
    if len(filings) > 1:
        for start in range(0, len(filings), _step(len(filings))):
            some = filings.slice(start, _step(len(filings)))
            yield batch.filter(pc.is_in(batch["filing_id"], value_set=some))
        return
    sentences = batch.filter(pc.invert(is_marker))
    marker = batch.filter(is_marker).slice(0, 1)
    for start in range(0, len(sentences), _step(len(sentences))):
        yield pa.concat_tables([sentences.slice(start, _step(len(sentences))), marker])


def _dead(sentence: pa.Table, marks: pa.Table, code: str) -> pa.Table:
    """The output for a sentence that kills: an error row that keeps its text, and the marker."""
    place = sentence.schema.get_field_index("error")
    sentence = sentence.set_column(place, "error", pa.array([code] * len(sentence), pa.string()))
    table = pa.concat_tables([sentence, marks.slice(0, 1)])
    for name in TOLD:
        values = [None] * len(sentence) + [len(sentence) if name == "sentences" else 0]
        table = table.append_column(name, pa.array(values, pa.int32()))
    for name in SECONDS:
        values = [None] * len(sentence) + [0.0]
        table = table.append_column(name, pa.array(values, pa.float32()))
    return table


def merged(table: pa.Table) -> pa.Table:
    """One marker a filing, with the sum of its pieces' counts; seconds stay with the first."""
    is_marker = pc.is_null(table["id"])
    marks = table.filter(is_marker)
    sums: dict[str, dict[str, float]] = {}
    for row in marks.select(["filing_id", *TOLD, *SECONDS]).to_pylist():
        filing = sums.setdefault(row.pop("filing_id"), dict.fromkeys((*TOLD, *SECONDS), 0.0))
        for name, value in row.items():
            filing[name] += value or 0.0
    first: list[int] = []
    seen: set[str] = set()
    for at, filing in enumerate(marks["filing_id"].to_pylist()):
        if filing not in seen:
            seen.add(filing)
            first.append(at)
    marks = marks.take(pa.array(first, pa.int64()))
    for name in (*TOLD, *SECONDS):
        kind = marks.schema.field(name).type
        values = [sums[filing][name] for filing in marks["filing_id"].to_pylist()]
        column = pa.array(values, pa.float64()).cast(kind)
        marks = marks.set_column(marks.schema.get_field_index(name), name, column)
    return pa.concat_tables([table.filter(pc.invert(is_marker)), marks])


class Child:
    """A process of our own that does the work of `make()`, and is made again when it dies."""

    def __init__(self, make: Callable[[], Callable[[Any], pa.Table]]) -> None:
        self.make = make
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: multiprocessing.connection.Connection | None = None

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, work: Any) -> pa.Table | str:
        """The outcome for `work`, or the code of how it ended."""
        connection = self._ready()
        try:
            connection.send(work)
            outcome = connection.recv()
        except (EOFError, OSError):
            self.close()
            return KILLED
        return outcome

    def twice(self, work: Any) -> pa.Table | str:
        """As a call; a verdict only after two ends, since anybody may kill a process once."""
        outcome = self(work)
        return self(work) if isinstance(outcome, str) else outcome

    def _ready(self) -> multiprocessing.connection.Connection:
        """The connection to a process that has loaded what it needs."""
        for wait in (0.0, 2.0, 10.0):
            if self.connection is not None:
                return self.connection
            time.sleep(wait)
            self._start()
        if self.connection is None:
            raise TooMany("a process to run a suspected chunk in dies before it is ready")
        return self.connection

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(filter(None, sys.path))
        # It leaves when our end of the pair closes, also when we are killed.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "raydistill.corpus.isolate", str(theirs.fileno())],
            pass_fds=[theirs.fileno()], env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
        connection = multiprocessing.connection.Connection(ours.detach())
        try:
            connection.send(self.make)
            problem = connection.recv()
        except (EOFError, OSError):
            connection.close()
            self.close()
            return
        if isinstance(problem, Exception):
            connection.close()
            self.close()
            raise problem
        self.connection = connection

    def close(self) -> None:
        """Ends the process."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _serve(connection: multiprocessing.connection.Connection) -> None:
    """What the process does: makes the work's callable, then answers until the parent leaves."""
    try:
        act = connection.recv()()
    except Exception as problem:
        connection.send(problem)
        return
    connection.send(None)
    while True:
        try:
            work = connection.recv()
        except EOFError:
            return
        try:
            outcome = act(work)
        except Exception as problem:  # a stage's mistake is found out sentence by sentence, too
            print(f"a stage failed: {type(problem).__name__}: {problem}", file=sys.stderr)
            outcome = FAILED
        connection.send(outcome)


if __name__ == "__main__":
    _serve(multiprocessing.connection.Connection(int(sys.argv[1])))
