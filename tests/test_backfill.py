"""Backfill by its own command line, on a real Ray and a real PostgreSQL, whatever dies."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from raydistill import backfill, events, postgres
from raydistill.demo.world import world, write
from raydistill.pipeline import Cascade
from raydistill.source import PostgresSentences

ROOT = Path(__file__).parents[1]
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
pytestmark = pytest.mark.postgres


@pytest.fixture
def corpus(database):
    """A database with 40 filings of some 4,000 sentences."""
    made = world(seed=11, filings=40, companies=20, sentences_per_filing=100, event_share=0.1)
    write(made, database)
    return database


def _command(database, tiny, *overrides):
    return [
        sys.executable, "jobs/backfill.py", f"source.dsn='{database}'",
        f"release={tiny.release.folder}", "scale.actors=1", "scale.threads=1", "scale.chunk=150",
        *overrides,
    ]  # fmt: skip


def _run(database, tiny, *overrides):
    done = subprocess.run(
        _command(database, tiny, *overrides),
        cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _in_process(database, tiny):
    """The rows that the stages give without Ray, as a backfill would write them."""
    sentences = PostgresSentences(database, "kee.sentences", COLUMNS)
    filings = [name for name, _ in sentences.filings()]
    table = Cascade(tiny.release.folder, threads=1)(sentences.read(filings))
    found = events.rows(table, tiny.release.task)
    return found


def _key(rows: pa.Table):
    names = ["sentence_id", "ordinal", "event_type", "subject", "object", "event_date"]
    return sorted(tuple(row[name] for name in names) for row in rows.to_pylist())


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_backfill_goes_on_to_the_very_events_of_the_stages(corpus, tiny):
    process = subprocess.Popen(
        _command(corpus, tiny), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    done = 0
    until = time.monotonic() + 200
    while done < 3 and time.monotonic() < until:
        time.sleep(0.1)
        assert process.poll() is None, "the run ended before it could be killed"
        exists = postgres.fetch(corpus, "SELECT to_regclass('raydistill.ledger') IS NOT NULL")
        if exists[0][0]:
            ((done,),) = postgres.fetch(corpus, "SELECT count(*) FROM raydistill.ledger")
    process.send_signal(signal.SIGKILL)
    process.wait()
    ((before,),) = postgres.fetch(corpus, "SELECT count(*) FROM raydistill.ledger")
    assert 0 < before < 40
    printed = _run(corpus, tiny)
    assert "done before" in printed
    rows = postgres.fetch(corpus, EVENTS)
    expected = _in_process(corpus, tiny)
    assert [row[:6] for row in rows] == _key(expected.events)
    assert len(rows) > 10
    dead = postgres.fetch(
        corpus, "SELECT sentence_id, code FROM raydistill.dead_letters ORDER BY 1"
    )
    found = expected.dead_letters.sort_by("sentence_id").to_pylist()
    assert dead == [(row["sentence_id"], row["code"]) for row in found]
    ledger = postgres.fetch(
        corpus,
        "SELECT filing_id, sentences, candidates, kept, events FROM raydistill.ledger ORDER BY 1",
    )
    counted = expected.ledger.sort_by("filing_id").to_pylist()
    names = ("filing_id", "sentences", "candidates", "kept", "events")
    assert ledger == [tuple(row[name] for name in names) for row in counted]
    again = _run(corpus, tiny)
    assert "nothing to do" in again
    assert postgres.fetch(corpus, EVENTS) == rows


def test_a_chunk_written_twice_counts_once(corpus, tiny):
    events.prepare(corpus, tiny.release.task)
    rows = _in_process(corpus, tiny)
    task, name = tiny.release.task, tiny.release.name
    assert events.commit(corpus, rows, task, release=name, run="one") == 40
    before = postgres.fetch(corpus, EVENTS)
    assert events.commit(corpus, rows, task, release=name, run="two") == 0
    assert postgres.fetch(corpus, EVENTS) == before
    assert events.commit(corpus, rows, task, release="another release", run="three") == 40


def test_a_run_does_not_mix_releases(corpus, tiny):
    events.prepare(corpus, tiny.release.task)
    config = backfill.Config(
        source=backfill.SourceConfig(dsn=corpus), release=str(tiny.release.folder)
    )
    backfill._enter("one", config, tiny.release, corpus)
    backfill._enter("one", config, tiny.release, corpus)
    other = replace(tiny.release, manifest=replace(tiny.release.manifest, name="events-other"))
    with pytest.raises(backfill.SetupError, match="was begun with"):
        backfill._enter("one", config, other, corpus)
