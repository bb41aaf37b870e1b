"""retry=dead_letters: what died is run again, each sentence in a process that may die.

A dead letter goes with the transaction that writes what came of it, so a retry that is killed goes
on where it stopped, and two at once count once. Sentences go alone; a file that could not be read
(its dead letter's sentence is `FILE#`) goes whole.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import compute

from raydistill import events, postgres, release
from raydistill.chunk import COUNTS
from raydistill.corpus import isolate
from raydistill.corpus.patience import patiently
from raydistill.corpus.postgres_sink import PostgresSink
from raydistill.corpus.stages import Steps, Work, facts_of, key_of, memory_mib, with_facts
from raydistill.events import Rows
from raydistill.postgres import Connection

pc: Any = compute  # its functions are made at run time: no type checker sees them


def dead(sink: PostgresSink) -> list[tuple[str, int]]:
    """Filings with dead letters of this release, and how many each has."""
    return [
        (str(filing), int(count))
        for filing, count in postgres.fetch(
            sink.dsn,
            "SELECT filing_id, count(*) FROM raydistill.dead_letters WHERE release = %s"
            " GROUP BY 1 ORDER BY 1",
            [sink.name],
        )
    ]


class ReadDead:
    """The dead sentences of some filings, read again from the source."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self, filings: list[str]) -> pa.Table:
        """Their chunk; its facts name what is tried."""
        work, tried = self.work, _dead_letters(self.work, filings)
        table = patiently(lambda: work.sentences.read(filings), work.patience_s)
        whole = [one for one in filings if f"{one}#" in tried]
        wanted = pc.is_in(table["id"], value_set=pa.array(list(tried), pa.string()))
        wanted = pc.or_(
            wanted, pc.is_in(table["filing_id"], value_set=pa.array(whole, pa.string()))
        )
        keep = pc.or_(wanted, pc.is_null(table["id"]))
        return with_facts(table.filter(keep), {"tried": sorted(tried)})


def _dead_letters(work: Work, filings: list[str]) -> set[str]:
    sink = _postgres(work)
    query = (
        "SELECT sentence_id FROM raydistill.dead_letters WHERE release = %s AND filing_id = ANY(%s)"
    )
    rows = patiently(lambda: postgres.fetch(sink.dsn, query, [sink.name, filings]), work.patience_s)
    return {row[0] for row in rows}


def _postgres(work: Work) -> PostgresSink:
    assert isinstance(work.sink, PostgresSink)  # backfill refuses others
    return work.sink


class RunDead:
    """Dead sentences through the cascade, in a process that may die."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The cascade's output; what dies again is an error row again."""
        if not len(batch):
            return batch
        table = isolate.run(self.work.cascade, batch)
        now, peak = memory_mib()
        return with_facts(table, facts_of(batch) | {"rss_mib": now, "peak_mib": peak})


class CommitDead:
    """Takes dead letters out and puts in what came of them, in one transaction."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One line of what the chunk held."""
        work, sink = self.work, _postgres(self.work)
        task = release.task_of(Path(work.release))
        rows = events.rows(batch, task, abstain=work.abstain)
        tried: list[str] = facts_of(batch).get("tried", [])

        def act() -> int:
            with postgres.connect(sink.dsn) as connection, postgres.transaction(connection):
                return _replace(connection, sink, rows, tried, work)

        try:
            saved = patiently(act, work.patience_s)
        except _Taken:  # rolled back; what is left is there for the next retry
            saved = 0
        line = {"chunk": key_of(batch), "filings": len(rows.ledger), "new": saved}
        line |= {"events": len(rows.events), "dead_letters": len(rows.dead_letters)}
        return pa.table({"line": pa.array([json.dumps(line)], pa.string())})


def _replace(
    connection: Connection, sink: PostgresSink, rows: Rows, tried: list[str], work: Work
) -> int:
    """Writes what came of the dead letters; gives how many are gone.

    Raises _Taken where another retry was faster with some of them.
    """
    found = postgres.fetch(
        connection,
        "DELETE FROM raydistill.dead_letters WHERE release = %s AND sentence_id = ANY(%s)"
        " RETURNING sentence_id, filing_id, code",
        [sink.name, tried],
    )
    if len(found) != len(tried):
        raise _Taken
    events.put(
        connection, rows, release.task_of(Path(work.release)),
        {"release": sink.name, "run": sink.run},
    )  # fmt: skip
    gone: dict[str, list[str]] = {}
    for _, filing, code in found:
        gone.setdefault(filing, []).append(code)
    whole = {filing for sentence, filing, _ in found if sentence == f"{filing}#"}
    for row in rows.ledger.to_pylist():
        filing = row["filing_id"]
        codes = gone.get(filing, [])
        row["dead_letters"] -= len(codes)
        # What never came out of its stages was counted as a sentence, no further.
        uncounted = COUNTS[1:] if {*codes} <= {isolate.KILLED, isolate.FAILED} else ()
        names = [*_ALWAYS, *(COUNTS if filing in whole else uncounted)]
        changes = ", ".join(f"{name} = {name} + %s" for name in names)
        postgres.fetch(
            connection,
            f"UPDATE raydistill.ledger SET {changes} WHERE release = %s AND filing_id = %s"
            " RETURNING 1",
            [*(row[name] for name in names), sink.name, filing],
        )
    return len(found) - len(rows.dead_letters)


_ALWAYS = ("events", "dead_letters", "answers", "abstained", "agreement", "agreement_kept")


class _Taken(Exception):
    """Another retry has taken a dead letter that this one tried."""


STEPS = Steps(ReadDead, RunDead, CommitDead)
