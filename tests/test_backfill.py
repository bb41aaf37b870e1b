"""Runs of a backfill: what a run is made of, what is done once, and who may drive it."""

from dataclasses import replace

import pytest

from raydistill import postgres
from raydistill.corpus.stages import loop
from raydistill.errors import SetupError
from tests import backfills
from tests.backfills import EVENTS, assert_undisturbed

pytestmark = pytest.mark.postgres


@pytest.fixture
def corpus(database):
    return backfills.fill(database)


def _another(release, name):
    return replace(release, manifest=replace(release.manifest, name=name))


def test_a_run_in_chunks_gives_the_events_of_the_stages(corpus, tiny):
    one = backfills.work(corpus, tiny.release)
    lines = backfills.finish(one, corpus)
    assert sum(line["filings"] for line in lines) == 40
    assert_undisturbed(corpus, tiny.release)
    assert one.sink.begun() == []
    account = one.sink.account()
    assert account["filings"] == 40
    assert account["events"] == len(postgres.fetch(corpus, EVENTS))


def test_a_chunk_written_twice_counts_once(corpus, tiny):
    one = backfills.work(corpus, tiny.release)
    some = backfills.chunks(corpus, one.sink)
    first = list(loop(one, some))
    before = postgres.fetch(corpus, EVENTS)
    again = list(loop(one, some))
    assert sum(line["new"] for line in first) == 40
    assert sum(line["new"] for line in again) == 0
    assert postgres.fetch(corpus, EVENTS) == before


def test_later_runs_take_only_new_filings(corpus, tiny):
    one = backfills.work(corpus, tiny.release)
    some = backfills.chunks(corpus, one.sink)
    list(loop(one, some[:5]))
    later = backfills.work(corpus, tiny.release, to=backfills.sink(corpus, tiny.release, "later"))
    lines = backfills.finish(later, corpus)
    assert sum(line["new"] for line in lines) == 40 - sum(len(chunk) for chunk in some[:5])
    assert_undisturbed(corpus, tiny.release)
    assert backfills.finish(later, corpus) == []


def test_a_new_release_lives_beside_the_old_one(corpus, tiny):
    new = _another(tiny.release, "events-new")
    for release, run in ((tiny.release, "old"), (new, "new")):
        to = backfills.sink(corpus, release, run)
        one = backfills.work(corpus, release, to=to)
        assert sum(line["new"] for line in backfills.finish(one, corpus)) == 40
    counts = postgres.fetch(corpus, "SELECT count(*) FROM raydistill.events GROUP BY release")
    assert len(counts) == 2
    assert counts[0] == counts[1]


def test_a_run_mixes_neither_releases_nor_code_nor_sources(corpus, tiny):
    begun = backfills.sink(corpus, tiny.release)
    parts = backfills.parts(corpus, tiny.release)
    begun.enter(parts)
    for name in parts:
        with pytest.raises(SetupError, match=f"was begun with {name}") as refused:
            begun.enter({**parts, name: "another"})
        assert parts[name] in str(refused.value)
        assert "run=NEWNAME" in str(refused.value)
    ((stamp,),) = postgres.fetch(corpus, "SELECT fingerprint FROM raydistill.runs")
    assert stamp == begun.fingerprint


def test_a_second_driver_of_a_run_is_told_who_has_it(corpus, tiny):
    first = backfills.sink(corpus, tiny.release)
    second = backfills.sink(corpus, tiny.release)
    with first.hold(), pytest.raises(SetupError, match="another driver is at run 'one'") as told:
        second.hold().__enter__()
    assert "since" in str(told.value)
    with second.hold() as hold:
        hold.check()


def test_two_drivers_of_two_runs_write_every_filing_once(corpus, tiny):
    one = backfills.work(corpus, tiny.release)
    two = backfills.work(corpus, tiny.release, to=backfills.sink(corpus, tiny.release, "two"))
    some = backfills.chunks(corpus, one.sink)
    other = backfills.chunks(corpus, two.sink, size=400)  # both found the same to do
    lines = []
    for pair in zip(loop(one, some), loop(two, other), strict=False):
        lines += pair
    lines += backfills.finish(one, corpus)
    assert sum(line["new"] for line in lines) == 40
    assert_undisturbed(corpus, tiny.release)
