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
from raydistill.chunk import COUNTS, TOLD
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
        return with_facts(table.filter(keep), {"tried": tried})


def _dead_letters(work: Work, filings: list[str]) -> dict[str, str]:
    """The codes of these filings' dead letters, by sentence."""
    sink = _postgres(work)
    query = (
        "SELECT sentence_id, code FROM raydistill.dead_letters"
        " WHERE release = %s AND filing_id = ANY(%s)"
    )
    rows = patiently(lambda: postgres.fetch(sink.dsn, query, [sink.name, filings]), work.patience_s)
    return dict(rows)


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
        facts = facts_of(batch)
        codes: dict[str, str] = facts["tried"]
        # What came out of its stages with an error was counted then; the rest never was.
        known = [one for one, code in codes.items() if code not in _UNCOUNTED and one[-1] != "#"]
        counted = pc.is_in(batch["id"], value_set=pa.array(known, pa.string()))
        parts = [self._run(batch, pc.invert(counted), counts=True)]
        if pc.any(counted).as_py():
            parts.append(self._run(batch, counted, counts=False))
        now, peak = memory_mib()
        table = isolate.merged(pa.concat_tables(parts, promote_options="permissive"))
        return with_facts(table, facts | {"rss_mib": now, "peak_mib": peak})

    def _run(self, batch: pa.Table, some: pa.Array, *, counts: bool) -> pa.Table:
        """The cascade's output for some rows and every marker, with counts or without."""
        part = batch.filter(pc.or_(pc.fill_null(some, False), pc.is_null(batch["id"])))
        table = isolate.run(self.work.cascade, part, most=len(part))  # they died before
        for name in TOLD if not counts else ():
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, pa.array([0] * len(table), pa.int32()))
        return table


_UNCOUNTED = (isolate.KILLED, isolate.FAILED)


class CommitDead:
    """Takes dead letters out and puts in what came of them, in one transaction."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One line of what the chunk held."""
        work, sink = self.work, _postgres(self.work)
        task = release.task_of(Path(work.release))
        rows = events.rows(batch, task, abstain=work.abstain)
        tried = list(facts_of(batch)["tried"])

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
        " RETURNING sentence_id, filing_id",
        [sink.name, tried],
    )
    if len(found) != len(tried):
        raise _Taken
    events.put(
        connection, rows, release.task_of(Path(work.release)),
        {"release": sink.name, "run": sink.run},
    )  # fmt: skip
    gone: dict[str, int] = {}
    for _, filing in found:
        gone[filing] = gone.get(filing, 0) + 1
    whole = {filing for sentence, filing in found if sentence == f"{filing}#"}
    for row in rows.ledger.to_pylist():
        filing = row["filing_id"]
        row["dead_letters"] -= gone.get(filing, 0)
        # A sentence was counted when it died; a file that was never read had none.
        names = [*_ALWAYS, *(COUNTS if filing in whole else COUNTS[1:])]
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
