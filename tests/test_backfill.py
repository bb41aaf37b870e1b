"""Runs of a backfill: what a run is made of, what is done once, and who may drive it."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raydistill import backfill, events, postgres
from raydistill.corpus import account
from raydistill.corpus.stages import loop
from raydistill.errors import SetupError
from raydistill.pipeline import Cascade
from raydistill.source import SourceConfig
from raydistill.web.review import Queue
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


def _with_probabilities(table, name="agreement_probability"):
    """The cascade's output with one answer in three unsure, and one unknown."""
    values = [None if at % 7 == 6 else (0.2 if at % 3 == 0 else 0.9) for at in range(len(table))]
    place = table.schema.get_field_index(name)
    return table.set_column(place, name, pa.array(values, pa.float32()))


def test_unsure_answers_are_marked_and_wait_for_review(corpus, tiny):
    release = tiny.release
    filings = [name for name, _ in backfills.sentences(corpus).filings()]
    table = Cascade(release.folder, threads=1)(backfills.sentences(corpus).read(filings))
    table = _with_probabilities(table)
    rows = events.rows(table, release.task, abstain=0.5)
    answered = table.filter(pc.is_valid(table["answer"]))
    unsure = answered.filter(pc.fill_null(pc.less(answered["agreement_probability"], 0.5), False))
    assert 0 < len(unsure) < len(answered)
    events.prepare(corpus, release.task)
    Queue(corpus, release.task).prepare()
    events.commit(corpus, rows, release.task, release=release.name, run="one")
    query = "SELECT sentence_id, reason, confidence FROM raydistill.review ORDER BY 1"
    found = postgres.fetch(corpus, query)
    assert [row[0] for row in found] == sorted(unsure["id"].to_pylist())
    assert {row[1] for row in found} == {"abstained"}
    marked = "SELECT DISTINCT sentence_id FROM raydistill.events WHERE abstained"
    assert {row[0] for row in postgres.fetch(corpus, marked)} <= {row[0] for row in found}
    assert len(Queue(corpus, release.task).listed()) == min(50, len(unsure))
    said = account.abstention(backfills.sink(corpus, release).account())
    assert f"abstained: {len(unsure)} of {len(answered)} answers" in said
    assert "expected agreement of the rest" in said


def test_abstaining_needs_a_calibrated_release(corpus, tiny):
    manifest = replace(tiny.release.manifest, extra={})
    config = backfill.Config(
        source=SourceConfig(dsn=corpus), release=str(tiny.release.folder), abstain=0.9
    )
    with pytest.raises(SetupError, match="is not calibrated"):
        backfill._check(config, replace(tiny.release, manifest=manifest))


def test_a_plan_is_made_from_a_sample_and_writes_nothing(corpus, tiny, capsys):
    config = backfill.Config(
        source=SourceConfig(dsn=corpus), release=str(tiny.release.folder), plan=True
    )
    told = backfill.run(config)
    assert told["filings"] == 40
    assert told["sentences"] == told["sample_sentences"]
    assert told["chunks"] == 2  # of 2,000 sentences at least
    assert told["hours"] > 0
    assert told["money"] > 0
    assert "nothing was written" in capsys.readouterr().out
    assert postgres.fetch(corpus, "SELECT to_regclass('raydistill.ledger')") == [(None,)]
