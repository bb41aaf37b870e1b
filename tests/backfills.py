"""A small corpus, its backfill in this process, and the rows of two backfills side by side."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from raydistill import backfill, events, postgres
from raydistill.corpus import fingerprint
from raydistill.corpus.postgres_sink import PostgresSink
from raydistill.corpus.stages import Work, loop
from raydistill.demo.world import world, write
from raydistill.pipeline import Cascade
from raydistill.source import PostgresSentences, SourceConfig, identity

COLUMNS = {
    "id": "sentence_id",
    "filing_id": "filing_id",
    "position": "position",
    "text": "sentence",
}
EVENTS = (
    "SELECT sentence_id, ordinal, event_type, subject, object, event_date, subject_start,"
    " subject_end, score::numeric(12, 3) FROM raydistill.events ORDER BY 1, 2"
)
LEDGER = (
    "SELECT filing_id, sentences, candidates, kept, events, dead_letters FROM raydistill.ledger"
    " ORDER BY 1"
)
DEAD = "SELECT sentence_id, code FROM raydistill.dead_letters ORDER BY 1"


def fill(database):
    """40 filings of some 4,000 sentences."""
    made = world(seed=11, filings=40, companies=20, sentences_per_filing=100, event_share=0.1)
    write(made, database)
    return database


def sentences(database):
    return PostgresSentences(database, "kee.sentences", COLUMNS)


def parts(database, release):
    source = identity(SourceConfig(dsn=database))
    return fingerprint.fingerprint(release, source, abstain=0.0)


def sink(database, release, run="one"):
    """A prepared sink of a run that was entered."""
    of = parts(database, release)
    made = PostgresSink(database, str(release.folder), release.name, run, fingerprint.short(of))
    made.prepare()
    made.enter(of)
    return made


@lru_cache(maxsize=1)
def _loaded(folder):
    return Cascade(folder, threads=1)


@dataclass(frozen=True)
class Loaded:
    """The release's cascade, loaded once a session."""

    folder: Path

    def __call__(self):
        return _loaded(self.folder)


def work(database, release, *, to=None, cascade=None, **settings):
    return Work(
        str(release.folder),
        sentences(database),
        to or sink(database, release),
        cascade or Loaded(release.folder),
        patience_s=20.0,
        **settings,
    )


def chunks(database, to, size=150):
    done = to.done()
    some = [one for one in sentences(database).filings() if one[0] not in done]
    return list(backfill.chunked(some, size))


def finish(one, database):
    """The rest of a backfill, in this process."""
    return list(loop(one, chunks(database, one.sink)))


def undisturbed(database, release):
    """The rows that the stages give in one go, as a backfill would write them."""
    filings = [name for name, _ in sentences(database).filings()]
    table = _loaded(release.folder)(sentences(database).read(filings))
    return events.rows(table, release.task)


def assert_undisturbed(database, release):
    """Events, dead letters and ledger are those of `undisturbed`, row by row."""
    expected = undisturbed(database, release)
    names = ["sentence_id", "ordinal", "event_type", "subject", "object", "event_date"]
    rows = [row[:6] for row in postgres.fetch(database, EVENTS)]
    assert rows == sorted(tuple(row[one] for one in names) for row in expected.events.to_pylist())
    assert len(rows) > 10
    letters = sorted((row["sentence_id"], row["code"]) for row in expected.dead_letters.to_pylist())
    assert postgres.fetch(database, DEAD) == letters
    names = ["filing_id", "sentences", "candidates", "kept", "events", "dead_letters"]
    counted = sorted(tuple(row[one] for one in names) for row in expected.ledger.to_pylist())
    assert postgres.fetch(database, LEDGER) == counted
